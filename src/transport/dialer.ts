/** Keeps one lane to one peer connected from this side: dials, checks the peer's key, tries again. */
import type { OnReadOpts } from "node:net";
import { type ConnectionOptions, connect, type SecureContext, type TLSSocket } from "node:tls";
import type { Lane } from "../replica/contract.ts";
import { Backoff } from "./backoff.ts";
import { type CloseReason, Connection, type LaneLimits } from "./connection.ts";
import { encodeHello, parseHello, peerFingerprint } from "./identity.ts";

/** A restarted peer is found again within this time. Cheap: a refused connection costs some 50 us. */
const MAX_DELAY_MS = 150;
/** A peer that answers with a wrong key or breaks off at once is asked less and less often. */
const MAX_DELAY_AFTER_REFUSAL_MS = 5000;
const FIRST_DELAY_MS = 10;
/** A connection that lasted this long was a good one. */
const PROVEN_AFTER_MS = 2000;
/**
 * All dialed connections are read into this, without an allocation for each read, for what is read is taken in before
 * the next one. (Accepted ones offer no such choice.)
 */
const readBuffer = Buffer.allocUnsafeSlow(64 * 1024);

/** What a dialer needs to know, and whom it tells. */
export interface DialerOptions {
  readonly host: string;
  readonly port: number;
  readonly fingerprint: string;
  readonly lane: Lane;
  readonly limits: LaneLimits;
  readonly secureContext: SecureContext;
  /** For connect, handshake and hello together. */
  readonly handshakeTimeoutMs: number;
  /** The lane is connected from now on. */
  readonly onConnected: (connection: Connection) => void;
  readonly onMessage: (bytes: Uint8Array) => void;
  readonly onClosed: (connection: Connection, reason: CloseReason) => void;
  /** Another key than the pinned one answered. */
  readonly onWrongKey: (fingerprint: string | undefined) => void;
}

/** Dials until it is closed. */
export class Dialer {
  readonly #options: DialerOptions;
  readonly #unreachable = new Backoff(FIRST_DELAY_MS, MAX_DELAY_MS);
  readonly #refused = new Backoff(FIRST_DELAY_MS, MAX_DELAY_AFTER_REFUSAL_MS);
  #socket: TLSSocket | undefined;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: DialerOptions) {
    this.#options = options;
    this.#dial();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#socket?.destroy();
  }

  #dial(): void {
    const { host, port, secureContext, handshakeTimeoutMs } = this.#options;
    const attempt: Attempt = { isSecure: false, connection: undefined, connectedMs: undefined };
    const onread = {
      buffer: readBuffer,
      callback: (sizeBytes: number) => {
        attempt.connection?.receive(readBuffer.subarray(0, sizeBytes));
        return true;
      },
    };
    const options: ConnectionOptions & { onread: OnReadOpts } = {
      host,
      port,
      secureContext,
      rejectUnauthorized: false,
      onread,
    };
    const socket = connect(options);
    this.#socket = socket;
    socket.setNoDelay(true);
    this.#timer = setTimeout(() => socket.destroy(), handshakeTimeoutMs);
    socket.on("error", () => socket.destroy());
    socket.once("secureConnect", () => {
      attempt.isSecure = true;
      this.#greet(socket, attempt);
    });
    socket.once("close", () => {
      clearTimeout(this.#timer);
      if (!this.#closed) this.#timer = setTimeout(() => this.#dial(), this.#delayAfter(attempt));
    });
  }

  #delayAfter(attempt: Attempt): number {
    if (attempt.connectedMs !== undefined && performance.now() - attempt.connectedMs >= PROVEN_AFTER_MS) {
      this.#unreachable.reset();
      this.#refused.reset();
    }
    return (attempt.isSecure ? this.#refused : this.#unreachable).next();
  }

  /** Checks the key and exchanges hellos; the connection counts once the peer's hello has come. */
  #greet(socket: TLSSocket, attempt: Attempt): void {
    const { fingerprint, lane, limits, onConnected, onMessage, onClosed, onWrongKey } = this.#options;
    const found = peerFingerprint(socket);
    if (found !== fingerprint) {
      onWrongKey(found);
      socket.destroy();
      return;
    }
    const connection: Connection = new Connection(socket, {
      hello: (bytes) => (parseHello(bytes) === lane ? limits : undefined),
      ready: () => {
        clearTimeout(this.#timer);
        attempt.connectedMs = performance.now();
        onConnected(connection);
      },
      message: onMessage,
      closed: (reason) => {
        if (attempt.connectedMs !== undefined) onClosed(connection, reason);
      },
    });
    attempt.connection = connection;
    connection.greet(encodeHello(lane));
  }
}

/** What became of one attempt to connect. */
interface Attempt {
  isSecure: boolean;
  /** Once the peer has proved its key. */
  connection: Connection | undefined;
  connectedMs: number | undefined;
}
