/**
 * One port for everything: HTTP/2 and HTTP/1.1, with or without TLS. With TLS the protocol is agreed in the
 * handshake; without, the first bytes tell (an HTTP/2 client with prior knowledge begins with "PRI ").
 */
import http from "node:http";
import net from "node:net";
import tls from "node:tls";
import { refuse } from "./grpc/call.ts";
import { GrpcCode, type GrpcStatus } from "./grpc/status.ts";
import type { HttpEndpoints, HttpResponse } from "./http-endpoints.ts";
import { Http2Connection } from "./http2/connection.ts";
import { PREFACE } from "./http2/constants.ts";
import { encodeHeaders, type RequestHead } from "./http2/hpack.ts";
import type { Http2Stream } from "./http2/stream.ts";
import type { GatewayLimits } from "./limits.ts";

/** TLS of the client port. */
export interface GatewayTls {
  /** PEM of the server's certificate (and its chain) and key. */
  readonly cert: string | Buffer;
  readonly key: string | Buffer;
  /** PEM of the authorities whose client certificates are accepted. */
  readonly ca?: string | Buffer;
  /** Clients must show a certificate of one of the authorities. */
  readonly requireClientCert: boolean;
}

export interface ListenerOptions {
  readonly limits: GatewayLimits;
  readonly tls: GatewayTls | undefined;
  readonly endpoints: HttpEndpoints;
  /** Takes the HTTP/2 streams that are gRPC calls. */
  readonly onGrpc: (connection: Http2Connection, stream: Http2Stream, head: RequestHead) => void;
  /** Told of faults of our own that ended a connection. */
  readonly onFault: (error: unknown) => void;
}

const WINDOW_SIZE_BYTES = 1024 * 1024;
const CONNECTION_WINDOW_SIZE_BYTES = 8 * 1024 * 1024;
/** An HTTP/1.1 connection on which nothing moves for so long is closed. */
const HTTP1_IDLE_MS = 30_000;
const GRPC = "application/grpc";
/** All that a request with plain metadata needs, many times over. */
const HEADER_LIST_SIZE_BYTES_MAX = 64 * 1024;
const HEADERS_TOO_LONG: GrpcStatus = {
  code: GrpcCode.resourceExhausted,
  message: `received header list larger than max ${HEADER_LIST_SIZE_BYTES_MAX}`,
};

export class Listener {
  readonly #options: ListenerOptions;
  readonly #server: net.Server;
  readonly #http1: http.Server;
  readonly #sockets = new Set<net.Socket>();
  readonly #connections = new Set<Http2Connection>();
  connectionsTotal = 0;
  handshakesFailed = 0;

  constructor(options: ListenerOptions) {
    this.#options = options;
    this.#http1 = this.#createHttp1();
    this.#server = options.tls === undefined ? this.#createPlain() : this.#createTls(options.tls);
    this.#server.maxConnections = options.limits.connectionsMax;
  }

  get connections(): number {
    return this.#sockets.size;
  }

  /** Listens; rejects when the address is taken. Port 0 takes a free one. */
  listen(host: string, port: number): Promise<{ port: number }> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen({ host, port, backlog: 4096 }, () => {
        this.#server.off("error", reject);
        // Later errors concern one connection (out of descriptors); the server itself goes on.
        this.#server.on("error", () => {});
        resolve({ port: (this.#server.address() as net.AddressInfo).port });
      });
    });
  }

  /** New certificates for the handshakes to come; open connections stay. */
  renewTls(settings: GatewayTls): void {
    if (this.#server instanceof tls.Server) this.#server.setSecureContext(secureOptions(settings));
  }

  /** Stops listening, tells clients to go away and closes what is still open after the grace time. */
  async close(graceMs: number): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const connection of this.#connections) connection.goAway();
    this.#http1.closeIdleConnections();
    const timer = setTimeout(() => {
      for (const socket of this.#sockets) socket.destroy();
    }, graceMs);
    await closed;
    clearTimeout(timer);
  }

  #track(socket: net.Socket): void {
    this.connectionsTotal++;
    this.#sockets.add(socket);
    socket.setNoDelay(true);
    socket.setKeepAlive(true, 30_000);
    socket.on("error", ignore);
    socket.on("close", () => this.#sockets.delete(socket));
  }

  #createPlain(): net.Server {
    return net.createServer((socket) => {
      this.#track(socket);
      this.#detect(socket);
    });
  }

  #createTls(settings: GatewayTls): tls.Server {
    const server = tls.createServer(
      {
        ...secureOptions(settings),
        ALPNProtocols: ["h2", "http/1.1"],
        requestCert: settings.ca !== undefined,
        rejectUnauthorized: settings.requireClientCert,
        minVersion: "TLSv1.2",
        handshakeTimeout: this.#options.limits.handshakeTimeoutMs,
      },
      (socket) => {
        this.#track(socket);
        if (socket.alpnProtocol === "h2") this.#serveHttp2(socket);
        else if (socket.alpnProtocol === "http/1.1") this.#http1.emit("connection", socket);
        else this.#detect(socket);
      },
    );
    server.on("tlsClientError", (_error, socket) => {
      this.handshakesFailed++;
      socket.destroy();
    });
    return server;
  }

  /** Hands the connection to one of the two servers, by its first bytes. */
  #detect(socket: net.Socket): void {
    const timer = setTimeout(() => socket.destroy(), this.#options.limits.handshakeTimeoutMs);
    timer.unref();
    let seen: Buffer = Buffer.alloc(0);
    const onReadable = (): void => {
      const chunk: Buffer | null = socket.read();
      if (chunk === null) return;
      seen = seen.length === 0 ? chunk : Buffer.concat([seen, chunk]);
      // No HTTP/1.1 method begins like this.
      const isPreface = PREFACE.subarray(0, seen.length).equals(seen.subarray(0, PREFACE.length));
      if (isPreface && seen.length < PREFACE.length) return;
      clearTimeout(timer);
      socket.off("readable", onReadable);
      socket.off("close", onClose);
      socket.unshift(seen);
      if (isPreface) this.#serveHttp2(socket);
      else this.#http1.emit("connection", socket);
    };
    const onClose = (): void => clearTimeout(timer);
    socket.on("readable", onReadable);
    socket.on("close", onClose);
  }

  #createHttp1(): http.Server {
    const server = http.createServer({ keepAlive: true }, (request, response) => {
      request.resume();
      const { method = "GET", url = "/" } = request;
      void this.#options.endpoints.handle({ method, target: url }).then((answer) => {
        if (response.destroyed) return;
        response.writeHead(answer.status, httpHeaders(answer));
        response.end(method === "HEAD" ? undefined : answer.body);
      });
    });
    server.timeout = HTTP1_IDLE_MS;
    return server;
  }

  #serveHttp2(socket: net.Socket): void {
    const { limits } = this.#options;
    const connection = new Http2Connection(
      socket,
      {
        streamsMax: limits.streamsPerConnectionMax,
        headerListSizeBytesMax: HEADER_LIST_SIZE_BYTES_MAX,
        streamWindowBytes: WINDOW_SIZE_BYTES,
        connectionWindowBytes: CONNECTION_WINDOW_SIZE_BYTES,
        resetBurst: limits.streamResetBurst,
        resetRatePerSecond: limits.streamResetRatePerSecond,
        handshakeTimeoutMs: limits.handshakeTimeoutMs,
      },
      {
        request: (stream, head) => {
          const type = head.contentType;
          if (head.sizeBytes > HEADER_LIST_SIZE_BYTES_MAX) refuse(stream, HEADERS_TOO_LONG, 431);
          else if (type === GRPC || isGrpc(type)) this.#options.onGrpc(connection, stream, head);
          else if (type.startsWith(GRPC)) refuse(stream, notGrpc(type), 415);
          else this.#answerHttp2(stream, head);
        },
        fault: this.#options.onFault,
        closed: () => this.#connections.delete(connection),
      },
    );
    this.#connections.add(connection);
  }

  #answerHttp2(stream: Http2Stream, { method, path }: RequestHead): void {
    void this.#options.endpoints.handle({ method, target: path }).then((answer) => {
      const fields = Object.entries(httpHeaders(answer));
      const headers = encodeHeaders([[":status", String(answer.status)], ...fields]);
      if (method === "HEAD") {
        stream.end(headers);
        return;
      }
      stream.sendHeaders(headers);
      stream.write(Buffer.from(answer.body));
      stream.end();
    });
  }
}

/** Whether it is gRPC's content type with a subtype or parameters. */
function isGrpc(contentType: string): boolean {
  const next = contentType.charAt(GRPC.length);
  return contentType.startsWith(GRPC) && (next === "+" || next === ";");
}

/** What grpc-go says about a content type that only begins like gRPC's. */
function notGrpc(contentType: string): GrpcStatus {
  const message = `invalid gRPC request content-type ${JSON.stringify(contentType)}`;
  return { code: GrpcCode.invalidArgument, message };
}

function httpHeaders(answer: HttpResponse): Record<string, string> {
  return {
    "content-type": answer.contentType,
    "content-length": String(Buffer.byteLength(answer.body)),
    "x-content-type-options": "nosniff",
    ...(answer.allow === undefined ? {} : { allow: answer.allow }),
  };
}

function secureOptions(settings: GatewayTls): tls.SecureContextOptions {
  const { cert, key, ca } = settings;
  return { cert, key, ...(ca === undefined ? {} : { ca }) };
}

/** Broken connections are the client's business; their streams end by themselves. */
function ignore(): void {}
