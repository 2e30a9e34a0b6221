/**
 * The little of an etcd client that the command needs: unary calls over HTTP/2, and GET of /health.
 */
import { readFileSync } from "node:fs";
import { get as httpGet } from "node:http";
import { type ClientHttp2Session, connect as connectHttp2 } from "node:http2";
import { get as httpsGet } from "node:https";
import { ProtoReader } from "../gateway/wire/proto-reader.ts";
import { errorCode, fileProblem } from "../node/folder.ts";
import { authorityProblem, pairProblems } from "../node/key-pair.ts";
import { CommandError, ExitCode } from "./exit-code.ts";

/** Files for https endpoints, as etcdctl names them. */
export interface TlsFiles {
  readonly cacert?: string | undefined;
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
}

/** The content of those files. */
export interface TlsMaterial {
  readonly ca?: Buffer;
  readonly cert?: Buffer;
  readonly key?: Buffer;
}

/** Reads the files; throws CommandError naming the option and why. */
export function readTlsFiles(files: TlsFiles): TlsMaterial {
  const read = (option: string, name: string | undefined) => {
    if (name === undefined) return undefined;
    try {
      return readFileSync(name);
    } catch (error) {
      throw new CommandError(`--${option} ${name}: ${fileProblem(error)}`, ExitCode.usage);
    }
  };
  if ((files.cert === undefined) !== (files.key === undefined)) {
    throw new CommandError("--cert and --key belong together: give both or none", ExitCode.usage);
  }
  const ca = read("cacert", files.cacert);
  const cert = read("cert", files.cert);
  const key = read("key", files.key);
  const refuse = (option: string, name: string | undefined, problem: string | undefined) => {
    if (problem !== undefined) throw new CommandError(`--${option} ${name}: ${problem}`, ExitCode.usage);
  };
  if (ca !== undefined) refuse("cacert", files.cacert, authorityProblem(ca));
  if (cert !== undefined && key !== undefined) {
    const pair = pairProblems(cert, key);
    refuse("cert", files.cert, pair.cert);
    refuse("key", files.key, pair.key);
  }
  return { ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }) };
}

/** A call that was answered with a gRPC error, or not at all. */
export class CallError extends Error {
  override name = "CallError";
  /** Whether the two ends did not agree on TLS, or on each other's certificates. */
  readonly tls: boolean;
  constructor(message: string, tls = false) {
    super(message);
    this.tls = tls;
  }
}

const PREFIX_SIZE_BYTES = 5;
const RESPONSE_LIMIT_BYTES = 16 * 2 ** 20;

/** One connection to one endpoint. */
export class EtcdClient {
  readonly endpoint: string;
  readonly #tls: TlsMaterial;
  readonly #timeoutMs: number;
  #session: ClientHttp2Session | undefined;

  constructor(endpoint: string, tls: TlsMaterial, timeoutMs: number) {
    this.endpoint = endpoint;
    this.#tls = tls;
    this.#timeoutMs = timeoutMs;
  }

  close(): void {
    this.#session?.destroy();
  }

  #connected(): Promise<ClientHttp2Session> {
    if (this.#session !== undefined) return Promise.resolve(this.#session);
    return new Promise((resolve, reject) => {
      const session = connectHttp2(this.endpoint, { ...this.#tls });
      const timer = setTimeout(() => session.destroy(new Error("no answer in time")), this.#timeoutMs);
      session.once("connect", () => {
        clearTimeout(timer);
        this.#session = session;
        resolve(session);
      });
      session.on("error", (error) => {
        clearTimeout(timer);
        reject(connectError(error));
      });
    });
  }

  /** Calls `/package.Service/Method` with the message bytes and gives those of the answer. */
  async call(path: string, message: Uint8Array = new Uint8Array(0)): Promise<Buffer> {
    const session = await this.#connected();
    return new Promise((resolve, reject) => {
      const stream = session.request({
        ":method": "POST",
        ":path": path,
        "content-type": "application/grpc",
        te: "trailers",
      });
      const chunks: Buffer[] = [];
      let status: unknown;
      let text: unknown;
      const readStatus = (headers: Record<string, unknown>) => {
        status = headers["grpc-status"] ?? status;
        text = headers["grpc-message"] ?? text;
      };
      let size = 0;
      stream.setTimeout(this.#timeoutMs, () => stream.destroy(new CallError("no answer in time")));
      stream.on("response", readStatus);
      stream.on("trailers", readStatus);
      stream.on("data", (chunk: Buffer) => {
        size += chunk.length;
        if (size > RESPONSE_LIMIT_BYTES) stream.destroy(new CallError("the answer is too large"));
        else chunks.push(chunk);
      });
      stream.on("error", (error) => reject(connectError(error)));
      stream.on("close", () => {
        const frame = Buffer.concat(chunks);
        if (status === "0" && frame.length >= PREFIX_SIZE_BYTES) resolve(frame.subarray(PREFIX_SIZE_BYTES));
        else if (text !== undefined) reject(new CallError(decodeURIComponent(String(text))));
        else if (this.endpoint.startsWith("https:")) reject(new CallError("no answer"));
        else reject(new CallError("no gRPC there, or it wants https://", true));
      });
      const request = Buffer.alloc(PREFIX_SIZE_BYTES + message.length);
      request.writeUInt32BE(message.length, 1);
      request.set(message, PREFIX_SIZE_BYTES);
      stream.end(request);
    });
  }

  /** Whether GET /health says that this member serves. */
  healthy(): Promise<boolean> {
    const get = this.endpoint.startsWith("https:") ? httpsGet : httpGet;
    return new Promise((resolve) => {
      const options = { ...this.#tls, timeout: this.#timeoutMs, agent: false };
      const request = get(`${this.endpoint}/health`, options, (response) => {
        response.resume();
        response.on("end", () => resolve(response.statusCode === 200));
        response.on("error", () => resolve(false));
      });
      request.on("timeout", () => request.destroy());
      request.on("error", () => resolve(false));
    });
  }
}

/** OpenSSL's reasons not to believe a certificate, and Node's, as they begin. */
const CERTIFICATE_CODE =
  /^(ERR_SSL_|ERR_TLS_|CERT_|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|HOSTNAME_|INVALID_CA)/;

/** What went wrong between here and there, for people. */
function connectError(error: unknown): CallError {
  const code = errorCode(error) ?? "";
  if (error instanceof CallError) return error;
  if (code === "ECONNREFUSED") return new CallError("connection refused");
  // With TLS 1.3 a server looks at the client's certificate only after it has accepted the connection.
  if (code === "ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED")
    return new CallError("wants a client certificate", true);
  if (code === "ECONNRESET" || code === "ERR_HTTP2_STREAM_ERROR") return new CallError("connection broken");
  if (code === "ERR_SSL_WRONG_VERSION_NUMBER" || code === "ERR_SSL_PACKET_LENGTH_TOO_LONG")
    return new CallError("no TLS there: write http://", true);
  if (code === "ERR_HTTP2_ERROR" || code === "EPROTO")
    return new CallError("no gRPC there, or it wants https://", true);
  const text = error instanceof Error ? error.message : String(error);
  return new CallError(text.split("\n")[0]!, CERTIFICATE_CODE.test(code));
}

/** Fields of etcd's StatusResponse that are shown. */
export interface MemberStatus {
  readonly memberId: bigint;
  readonly leaderId: bigint;
  readonly version: string;
  readonly revision: number;
  readonly regency: number;
  readonly lastDecided: number;
  readonly lastExecuted: number;
  readonly dbSizeBytes: number;
  readonly errors: readonly string[];
}

interface Header {
  memberId: bigint;
  revision: number;
}

function readHeader(reader: ProtoReader): Header {
  const header: Header = { memberId: 0n, revision: 0 };
  const outerEnd = reader.end;
  const end = reader.open();
  reader.end = end;
  while (reader.at < end) {
    const tag = reader.tag();
    if (tag === 0x10) header.memberId = BigInt.asUintN(64, reader.int64Exact());
    else if (tag === 0x18) header.revision = reader.int64();
    else reader.skip(tag);
  }
  reader.end = outerEnd;
  return header;
}

/** Reads a StatusResponse. Field numbers: api/etcdserverpb/rpc.proto. */
export function readStatus(bytes: Buffer): MemberStatus {
  const reader = new ProtoReader(bytes);
  let header: Header = { memberId: 0n, revision: 0 };
  const errors: string[] = [];
  const fields = { version: "", dbSizeBytes: 0, leaderId: 0n, lastDecided: 0, regency: 0, lastExecuted: 0 };
  while (reader.at < reader.end) {
    const tag = reader.tag();
    if (tag === 0x0a) header = readHeader(reader);
    else if (tag === 0x12) fields.version = reader.string();
    else if (tag === 0x18) fields.dbSizeBytes = reader.int64();
    else if (tag === 0x20) fields.leaderId = BigInt.asUintN(64, reader.int64Exact());
    else if (tag === 0x28) fields.lastDecided = reader.int64();
    else if (tag === 0x30) fields.regency = reader.int64();
    else if (tag === 0x38) fields.lastExecuted = reader.int64();
    else if (tag === 0x42) errors.push(reader.string());
    else reader.skip(tag);
  }
  return { ...fields, ...header, errors };
}

/** A member as the cluster's own list names it. */
export interface ListedMember {
  readonly id: bigint;
  readonly name: string;
  readonly clientUrls: readonly string[];
}

/** Reads a MemberListResponse. */
export function readMemberList(bytes: Buffer): ListedMember[] {
  const reader = new ProtoReader(bytes);
  const members: ListedMember[] = [];
  while (reader.at < reader.end) {
    const tag = reader.tag();
    if (tag === 0x12) members.push(readMember(reader));
    else reader.skip(tag);
  }
  return members;
}

function readMember(reader: ProtoReader): ListedMember {
  const clientUrls: string[] = [];
  let id = 0n;
  let name = "";
  const outerEnd = reader.end;
  const end = reader.open();
  reader.end = end;
  while (reader.at < end) {
    const tag = reader.tag();
    if (tag === 0x08) id = BigInt.asUintN(64, reader.int64Exact());
    else if (tag === 0x12) name = reader.string();
    else if (tag === 0x22) clientUrls.push(reader.string());
    else reader.skip(tag);
  }
  reader.end = outerEnd;
  return { id, name, clientUrls };
}
