/**
 * Opens connections to a member's client port, plain or with TLS.
 */
import { readFileSync } from "node:fs";
import { connect as connectPlain } from "node:net";
import type { Duplex } from "node:stream";
import { connect as connectTls } from "node:tls";
import { encodeHeaders } from "./hpack.ts";
import { Http2Connection } from "./http2-connection.ts";

/** Files of a TLS client, PEM. */
export interface TlsFiles {
  readonly cacert: string;
  readonly cert: string;
  readonly key: string;
}

const connectTimeoutMs = 5000;
/** All plain connections read into the same bytes: what a read brings is taken before the next one. */
const readBuffer = Buffer.allocUnsafeSlow(2 ** 18);

/** Connects to a URL such as http://127.0.0.1:2379; with `tls` given the URL's scheme must be https. */
export async function connectTo(url: string, tls: TlsFiles | undefined): Promise<Http2Connection> {
  const { hostname, port, protocol } = new URL(url);
  if ((protocol === "https:") !== (tls !== undefined))
    throw new Error(`${url}: client certificates are given exactly for https`);
  const options = { host: hostname, port: Number(port), noDelay: true };
  if (tls === undefined) return connectPlainly(options, url);
  const socket = connectTls({
    ...options,
    ca: readFileSync(tls.cacert),
    cert: readFileSync(tls.cert),
    key: readFileSync(tls.key),
    ALPNProtocols: ["h2"],
  });
  await opened(socket, "secureConnect", url);
  const connection = new Http2Connection(socket);
  socket.on("data", (chunk: Buffer) => connection.receive(chunk));
  return connection;
}

/** Without an allocation for each read, which would keep the collector busy all the time. */
async function connectPlainly(
  options: { readonly host: string; readonly port: number; readonly noDelay: boolean },
  url: string,
): Promise<Http2Connection> {
  let connection: Http2Connection | undefined;
  const socket = connectPlain({
    ...options,
    onread: {
      buffer: readBuffer,
      callback: (size) => {
        connection?.receive(readBuffer.subarray(0, size));
        return true;
      },
    },
  });
  await opened(socket, "connect", url);
  connection = new Http2Connection(socket);
  return connection;
}

function opened(socket: Duplex, event: string, url: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (error?: Error) => {
      clearTimeout(timer);
      socket.off("error", settle);
      socket.off(event, onOpen);
      if (error === undefined) resolve();
      else {
        socket.destroy();
        reject(new Error(`cannot connect to ${url}: ${error.message}`));
      }
    };
    const onOpen = () => settle();
    const timer = setTimeout(
      () => settle(new Error(`no answer in ${connectTimeoutMs} ms`)),
      connectTimeoutMs,
    );
    socket.once("error", settle);
    socket.once(event, onOpen);
  });
}

/** The header block of a gRPC call, ready to send; the authority is a name that every server takes. */
export function callHeaders(path: string): Uint8Array {
  return encodeHeaders([
    [":method", "POST"],
    [":scheme", "http"],
    [":path", path],
    [":authority", "localhost"],
    ["content-type", "application/grpc"],
    ["te", "trailers"],
  ]);
}

/** The methods that the bench calls. */
export const methodHeaders = {
  put: callHeaders("/etcdserverpb.KV/Put"),
  range: callHeaders("/etcdserverpb.KV/Range"),
  txn: callHeaders("/etcdserverpb.KV/Txn"),
  watch: callHeaders("/etcdserverpb.Watch/Watch"),
  status: callHeaders("/etcdserverpb.Maintenance/Status"),
} as const;

/** A call that did not succeed. */
export class CallError extends Error {
  override name = "CallError";
  /** The gRPC status code. */
  readonly code: number;
  constructor(code: number, text: string) {
    super(`${text} (gRPC code ${code})`);
    this.code = code;
  }
}

/** One call, for what is not measured: the answer's bytes, or CallError. */
export function call(
  connection: Http2Connection,
  headers: Uint8Array,
  message: Uint8Array,
  timeoutMs = 10_000,
): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    let answer: Buffer | undefined;
    const timer = setTimeout(() => reject(new CallError(4, `no answer in ${timeoutMs} ms`)), timeoutMs);
    connection.unary(headers, message, {
      message: (bytes) => {
        answer = Buffer.from(bytes);
      },
      end: ({ code, text }) => {
        clearTimeout(timer);
        if (code !== 0) reject(new CallError(code, text));
        else if (answer === undefined) reject(new CallError(13, "answer without a message"));
        else resolve(answer);
      },
    });
  });
}
