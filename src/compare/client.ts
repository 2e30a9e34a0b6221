/**
 * A client of one store (etcd or KmMR, one or several members) that returns what was on the wire: the decoded
 * response, or the gRPC code and text of the error.
 */
import { readFileSync } from "node:fs";
import * as grpc from "@grpc/grpc-js";
import { type RpcName, rpcs, watchRequest, watchResponse } from "./etcd-schema.ts";
import { decode, encode, type Message } from "./wire.ts";

/** How to reach a store. */
export interface StoreAddress {
  /** URLs of the members' client ports. */
  readonly endpoints: readonly string[];
  /** Files in PEM; undefined without TLS. */
  readonly tls: { readonly cacert: string; readonly cert: string; readonly key: string } | undefined;
}

/** What a call came to. */
export type Answer =
  | { readonly ok: true; readonly message: Message }
  | { readonly ok: false; readonly code: string; readonly text: string };

/** Longer than any correct answer takes, shorter than anybody's patience. */
const callTimeoutMs = 15_000;

const identity = (bytes: Buffer): Buffer => bytes;

/** Calls to one member, over one connection. */
export class MemberClient {
  readonly #client: grpc.Client;
  readonly #keepAlives: KeepAliveStream;

  constructor(endpoint: string, address: StoreAddress) {
    const tls = address.tls;
    const credentials =
      tls === undefined
        ? grpc.credentials.createInsecure()
        : grpc.credentials.createSsl(readFileSync(tls.cacert), readFileSync(tls.key), readFileSync(tls.cert));
    this.#client = new grpc.Client(new URL(endpoint).host, credentials, {
      "grpc.max_receive_message_length": -1,
      "grpc.max_send_message_length": -1,
      // An address is no name that TLS may ask for; the certificate is good for this one too.
      ...(tls === undefined ? {} : { "grpc.ssl_target_name_override": "localhost" }),
      // Without it, clients of one process share connections and then a server's per-connection order.
      "grpc.use_local_subchannel_pool": 1,
    });
    this.#keepAlives = new KeepAliveStream(this.#client);
  }

  /** A call with one request and one response. Never rejects. */
  call(name: RpcName, request: Message): Promise<Answer> {
    const rpc = rpcs[name];
    if (name === "leaseKeepAlive") return this.#keepAlives.send(encode(rpc.request, request));
    return new Promise((resolve) => {
      this.#client.makeUnaryRequest(
        rpc.path,
        identity,
        identity,
        encode(rpc.request, request),
        { deadline: Date.now() + callTimeoutMs },
        (error, bytes) => {
          if (error !== null) resolve(errorAnswer(error));
          else resolve({ ok: true, message: decode(rpc.response, bytes!) });
        },
      );
    });
  }

  openWatch(listener: WatchListener): WatchCall {
    return new WatchCall(this.#client, listener);
  }

  close(): void {
    this.#keepAlives.close();
    this.#client.close();
  }
}

function errorAnswer(error: grpc.ServiceError): Answer {
  return { ok: false, code: grpc.status[error.code] ?? String(error.code), text: error.details };
}

/** Keep-alives share one stream, as clients do; the answers come in the order of the requests. */
class KeepAliveStream {
  readonly #client: grpc.Client;
  #stream: grpc.ClientDuplexStream<Buffer, Buffer> | undefined;
  readonly #waiting: ((answer: Answer) => void)[] = [];

  constructor(client: grpc.Client) {
    this.#client = client;
  }

  send(request: Buffer): Promise<Answer> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      this.#open().write(request);
    });
  }

  #open(): grpc.ClientDuplexStream<Buffer, Buffer> {
    if (this.#stream !== undefined) return this.#stream;
    const stream = this.#client.makeBidiStreamRequest(rpcs.leaseKeepAlive.path, identity, identity);
    stream.on("data", (bytes: Buffer) =>
      this.#waiting.shift()?.({ ok: true, message: decode(rpcs.leaseKeepAlive.response, bytes) }),
    );
    stream.on("error", (error: grpc.ServiceError) => {
      this.#stream = undefined;
      for (const resolve of this.#waiting.splice(0)) resolve(errorAnswer(error));
    });
    this.#stream = stream;
    return stream;
  }

  close(): void {
    this.#stream?.cancel();
  }
}

export interface WatchListener {
  response(message: Message, sizeBytes: number): void;
  /** The stream ended; undefined when it ended without an error. */
  end(answer: Answer | undefined): void;
}

/** One watch stream. */
export class WatchCall {
  readonly #stream: grpc.ClientDuplexStream<Buffer, Buffer>;
  #closed = false;

  constructor(client: grpc.Client, listener: WatchListener) {
    this.#stream = client.makeBidiStreamRequest(rpcs.watch.path, identity, identity);
    this.#stream.on("data", (bytes: Buffer) => {
      if (!this.#closed) listener.response(decode(watchResponse, bytes), bytes.length);
    });
    this.#stream.on("error", (error: grpc.ServiceError) => {
      if (!this.#closed) listener.end(errorAnswer(error));
    });
    this.#stream.on("end", () => {
      if (!this.#closed) listener.end(undefined);
    });
  }

  send(request: Message): void {
    this.#stream.write(encode(watchRequest, request));
  }

  close(): void {
    this.#closed = true;
    this.#stream.cancel();
  }
}
