/** Takes connections from peers: admits, checks the key against the pinned ones, reads the hello. */
import { createServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer, type TLSSocket, type Server as TlsServer } from "node:tls";
import type { Lane } from "../replica/contract.ts";
import { Admission, type AdmissionLimits } from "./admission.ts";
import { type CloseReason, Connection, type LaneLimits } from "./connection.ts";
import { encodeHello, parseHello, peerFingerprint } from "./identity.ts";
import { type LinkCredentials, tlsOptions } from "./tls.ts";

/** What an acceptor needs to know, and whom it tells. */
export interface AcceptorOptions {
  readonly host: string;
  readonly port: number;
  readonly tls: LinkCredentials;
  /** The member that may dial with the key of that fingerprint. */
  readonly memberOf: (fingerprint: string) => number | undefined;
  readonly limitsOf: (lane: Lane) => LaneLimits;
  readonly admission: AdmissionLimits;
  /** For handshake and hello together. */
  readonly handshakeTimeoutMs: number;
  readonly onConnected: (member: number, lane: Lane, connection: Connection) => void;
  readonly onMessage: (member: number, lane: Lane, bytes: Uint8Array) => void;
  readonly onClosed: (member: number, lane: Lane, connection: Connection, reason: CloseReason) => void;
}

/** Counters of connections that did not become links. */
export interface AcceptorCounts {
  readonly refused: number;
  readonly unproven: number;
  readonly failedHandshakes: number;
  readonly unknownKeys: number;
}

/** A listening peer port. */
export class Acceptor {
  readonly #options: AcceptorOptions;
  readonly #admission: Admission;
  readonly #server: Server;
  readonly #tls: TlsServer;
  readonly #sockets = new Set<Socket>();
  /** What to do once a connection has said its hello, by its source. */
  readonly #unproven = new Map<string, () => void>();
  #failedHandshakes = 0;
  #unknownKeys = 0;

  constructor(options: AcceptorOptions) {
    this.#options = options;
    this.#admission = new Admission(options.admission);
    this.#tls = createTlsServer({
      ...tlsOptions(options.tls),
      requestCert: true,
      // The key is compared with the pinned ones instead: no authority, no name, no date.
      rejectUnauthorized: false,
      handshakeTimeout: options.handshakeTimeoutMs,
    });
    this.#tls.on("tlsClientError", (_error, socket) => {
      this.#failedHandshakes++;
      socket.destroy();
    });
    this.#tls.on("secureConnection", (socket) => this.#greet(socket));
    this.#server = createServer({ noDelay: true }, (socket) => this.#admit(socket));
  }

  get counts(): AcceptorCounts {
    const { refused, unproven } = this.#admission;
    return { refused, unproven, failedHandshakes: this.#failedHandshakes, unknownKeys: this.#unknownKeys };
  }

  /** Port that is listened on. */
  get port(): number {
    const address = this.#server.address();
    return typeof address === "object" && address !== null ? address.port : this.#options.port;
  }

  listen(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(this.#options.port, this.#options.host, () => {
        this.#server.off("error", reject);
        // Running out of descriptors must not end the process: the peer dials again.
        this.#server.on("error", () => {});
        resolve();
      });
    });
  }

  close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    return new Promise((resolve) => {
      this.#server.close(() => resolve());
    });
  }

  #admit(socket: Socket): void {
    const address = socket.remoteAddress ?? "";
    if (!this.#admission.enter(address, performance.now())) {
      socket.resetAndDestroy();
      return;
    }
    const source = sourceOf(socket);
    let isUnproven = true;
    const leave = (): void => {
      if (isUnproven) this.#admission.leave(address);
      isUnproven = false;
      clearTimeout(timer);
    };
    const timer = setTimeout(() => socket.destroy(), this.#options.handshakeTimeoutMs);
    this.#sockets.add(socket);
    socket.on("error", () => socket.destroy());
    socket.once("close", () => {
      this.#sockets.delete(socket);
      this.#unproven.delete(source);
      leave();
    });
    this.#unproven.set(source, leave);
    this.#tls.emit("connection", socket);
  }

  #greet(socket: TLSSocket): void {
    const source = sourceOf(socket);
    const { memberOf, limitsOf, onConnected, onMessage, onClosed } = this.#options;
    const fingerprint = peerFingerprint(socket);
    const member = fingerprint === undefined ? undefined : memberOf(fingerprint);
    if (member === undefined) {
      this.#unknownKeys++;
      socket.destroy();
      return;
    }
    let lane: Lane | undefined;
    const connection: Connection = new Connection(socket, {
      hello: (bytes) => {
        lane = parseHello(bytes);
        return lane && limitsOf(lane);
      },
      ready: () => {
        this.#unproven.get(source)?.();
        connection.greet(encodeHello(lane!));
        onConnected(member, lane!, connection);
      },
      message: (bytes) => onMessage(member, lane!, bytes),
      closed: (reason) => {
        if (lane !== undefined) onClosed(member, lane, connection, reason);
        else if (reason !== "closed") this.#failedHandshakes++;
      },
    });
    socket.on("data", (chunk: Buffer) => connection.receive(chunk));
  }
}

/** Address and port of the other end: unique among the connections of one listener. */
function sourceOf(socket: Socket): string {
  return `${socket.remoteAddress} ${socket.remotePort}`;
}
