/**
 * An independent client for tests: grpc-js for the calls, protobufjs and proto/*.proto for the messages, so
 * that nothing of the door's own codecs is used on this side.
 */
import { fileURLToPath } from "node:url";
import {
  type ChannelCredentials,
  type ChannelOptions,
  Client,
  type ClientDuplexStream,
  type ClientReadableStream,
  credentials,
  type Metadata,
  type ServiceError,
} from "@grpc/grpc-js";
import protobuf from "protobufjs";

/** The schema; field names as they stand in the .proto. */
export const schema: protobuf.Root = new protobuf.Root().loadSync(
  ["etcd.proto", "health.proto"].map((name) => fileURLToPath(new URL(`../proto/${name}`, import.meta.url))),
  { keepCase: true },
);

/** A message as a plain object: int64 as strings, bytes as byte strings (latin1), defaults filled in. */
// biome-ignore lint/suspicious/noExplicitAny: tests read messages of any shape.
export type Message = any;

/** Bytes of a message of this type ("etcdserverpb.PutRequest"); strings are taken as latin1 for bytes fields. */
export function encodeMessage(type: string, message: Message): Buffer {
  const found = schema.lookupType(type);
  return Buffer.from(found.encode(found.fromObject(toBytes(message))).finish());
}

function toBytes(value: Message): Message {
  if (Array.isArray(value)) return value.map(toBytes);
  if (value === null || typeof value !== "object" || value instanceof Uint8Array) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, field]) => [
      name,
      BYTES_FIELDS.has(name) && typeof field === "string" ? Buffer.from(field, "latin1") : toBytes(field),
    ]),
  );
}

const BYTES_FIELDS = new Set(["key", "range_end", "value"]);

export function decodeMessage(type: string, bytes: Uint8Array): Message {
  const found = schema.lookupType(type);
  const plain = found.toObject(found.decode(bytes), {
    longs: String,
    enums: String,
    defaults: true,
    arrays: true,
  });
  return fromBytes(plain);
}

function fromBytes(value: Message): Message {
  if (value instanceof Uint8Array) return Buffer.from(value).toString("latin1");
  if (Array.isArray(value)) return value.map(fromBytes);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([name, field]) => [name, fromBytes(field)]));
}

/** A call's failure: gRPC code and message. */
export interface Failure {
  readonly code: number;
  readonly details: string;
}

export interface CallSettings {
  readonly metadata?: Metadata;
  readonly timeoutMs?: number;
}

export class EtcdClient {
  readonly #client: Client;

  constructor(port: number, options: { channel?: ChannelCredentials; settings?: ChannelOptions } = {}) {
    this.#client = new Client(`127.0.0.1:${port}`, options.channel ?? credentials.createInsecure(), {
      "grpc.max_receive_message_length": -1,
      "grpc.use_local_subchannel_pool": 1,
      ...options.settings,
    });
  }

  #method(path: string): protobuf.Method {
    const [, service = "", method = ""] = path.split("/");
    return schema.lookupService(service).methods[method]!.resolve() as protobuf.Method;
  }

  /** Calls "/package.Service/Method". Rejects with a ServiceError (code, details). */
  unary(path: string, request: Message = {}, settings: CallSettings = {}): Promise<Message> {
    const { resolvedRequestType, resolvedResponseType } = this.#method(path);
    const bytes = encodeMessage(resolvedRequestType!.fullName.slice(1), request);
    return this.raw(path, bytes, settings).then((answer) =>
      decodeMessage(resolvedResponseType!.fullName.slice(1), answer),
    );
  }

  /** A unary call with the bytes of the messages. */
  raw(path: string, request: Buffer, settings: CallSettings = {}): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      const options = settings.timeoutMs === undefined ? {} : { deadline: Date.now() + settings.timeoutMs };
      const answered = (error: ServiceError | null, answer?: Buffer): void => {
        if (error === null) resolve(answer!);
        else reject(error);
      };
      const identity = (bytes: Buffer): Buffer => bytes;
      if (settings.metadata === undefined) {
        this.#client.makeUnaryRequest(path, identity, identity, request, options, answered);
      } else {
        this.#client.makeUnaryRequest(
          path,
          identity,
          identity,
          request,
          settings.metadata,
          options,
          answered,
        );
      }
    });
  }

  /** The failure that a unary call ends with. */
  async failure(path: string, request: Message = {}, settings: CallSettings = {}): Promise<Failure> {
    try {
      await this.unary(path, request, settings);
    } catch (error) {
      const { code, details } = error as ServiceError;
      return { code, details };
    }
    throw new Error(`${path} succeeded`);
  }

  /** A bidirectional stream. */
  duplex(path: string, metadata?: Metadata): Conversation {
    const { resolvedRequestType, resolvedResponseType } = this.#method(path);
    const write = (message: Message): Buffer =>
      encodeMessage(resolvedRequestType!.fullName.slice(1), message);
    const read = (bytes: Buffer): Message => decodeMessage(resolvedResponseType!.fullName.slice(1), bytes);
    const stream =
      metadata === undefined
        ? this.#client.makeBidiStreamRequest(path, write, read)
        : this.#client.makeBidiStreamRequest(path, write, read, metadata);
    return new Conversation(stream);
  }

  /** A stream of answers to one request. */
  serverStream(path: string, request: Message): Conversation {
    const { resolvedRequestType, resolvedResponseType } = this.#method(path);
    const write = (message: Message): Buffer =>
      encodeMessage(resolvedRequestType!.fullName.slice(1), message);
    const read = (bytes: Buffer): Message => decodeMessage(resolvedResponseType!.fullName.slice(1), bytes);
    return new Conversation(this.#client.makeServerStreamRequest(path, write, read, request));
  }

  close(): void {
    this.#client.close();
  }
}

type AnyStream = ClientDuplexStream<Message, Message> | ClientReadableStream<Message>;

/** A stream whose messages are taken one by one. */
export class Conversation {
  readonly stream: AnyStream;
  readonly #messages: Message[] = [];
  readonly #waiting: { resolve: (message: Message) => void; reject: (error: Error) => void }[] = [];
  #failure: (Error & Partial<Failure>) | undefined;

  constructor(stream: AnyStream) {
    this.stream = stream;
    stream.on("data", (message: Message) => {
      const waiter = this.#waiting.shift();
      if (waiter === undefined) this.#messages.push(message);
      else waiter.resolve(message);
    });
    const over = (error: Error): void => {
      this.#failure ??= error;
      for (const { reject } of this.#waiting.splice(0)) reject(error);
    };
    stream.on("error", over);
    stream.on("end", () => over(new Error("the stream ended")));
  }

  send(message: Message): void {
    (this.stream as ClientDuplexStream<Message, Message>).write(message);
  }

  /** The next message; rejects with the stream's failure, or when none comes in time. */
  next(timeoutMs = 5_000): Promise<Message> {
    const message = this.#messages.shift();
    if (message !== undefined) return Promise.resolve(message);
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error("no message came in time")), timeoutMs);
      this.#waiting.push({
        resolve: (got) => {
          clearTimeout(timer);
          resolve(got);
        },
        reject: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      });
    });
  }

  /** Whether nothing comes for so long. */
  async silent(forMs: number): Promise<boolean> {
    await new Promise((resolve) => setTimeout(resolve, forMs));
    return this.#messages.length === 0;
  }

  /** Half-closes. */
  end(): void {
    (this.stream as ClientDuplexStream<Message, Message>).end();
  }

  /** Resets the stream. */
  cancel(): void {
    this.stream.cancel();
  }
}
