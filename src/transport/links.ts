/**
 * Links of a member to all others: two TLS connections per pair, one for votes and one for all else, so that
 * bodies and state never delay a vote. The member with the lower index dials. A peer is whoever proves to hold
 * the key that is pinned for it, in both directions; what it says about itself does not count.
 *
 * Nothing is promised about delivery: a message to a peer that is away or too slow is dropped and counted.
 */
import { createSecureContext } from "node:tls";
import type { Lane, MemberIndex } from "../replica/contract.ts";
import { Acceptor } from "./acceptor.ts";
import { ADMISSION_LIMITS, type AdmissionLimits } from "./admission.ts";
import type { CloseReason, Connection, LaneLimits } from "./connection.ts";
import { Dialer } from "./dialer.ts";
import { certificateFingerprint } from "./identity.ts";
import { PeerLink, type PeerStats } from "./peer-link.ts";
import { type LinkCredentials, tlsOptions } from "./tls.ts";

/** Another member and how to know it. */
export interface LinkPeer {
  readonly index: MemberIndex;
  readonly host: string;
  readonly port: number;
  /** SHA-256 over the SubjectPublicKeyInfo of its link key, hexadecimal. */
  readonly tlsKeyFingerprint: string;
}

const MIB = 1024 * 1024;

/** Bounds and times of links. */
export interface LinkLimits {
  readonly vote: LaneLimits;
  readonly bulk: LaneLimits;
  readonly admission: AdmissionLimits;
  /** Connect, TLS handshake and hello together take at most this long. */
  readonly handshakeTimeoutMs: number;
  /** A side that has nothing to send shows life this often. */
  readonly lifeSignMs: number;
  /** A connection on which nothing arrives for this long is dead. */
  readonly silenceMs: number;
}

/**
 * Defaults: a slow peer holds at most 20 MiB of this process. A peer sends some 5 MB of votes a second at ten
 * thousand instances a second, so that its quota stops only floods.
 */
export const LINK_LIMITS: LinkLimits = {
  vote: { maxFrameBytes: MIB, maxQueueBytes: 4 * MIB, maxReceivedBytesPerSecond: 32 * MIB },
  bulk: { maxFrameBytes: 4 * MIB, maxQueueBytes: 16 * MIB, maxReceivedBytesPerSecond: 256 * MIB },
  admission: ADMISSION_LIMITS,
  handshakeTimeoutMs: 2000,
  lifeSignMs: 1000,
  silenceMs: 3000,
};

/** Where links write what a person should see. */
export interface LinkLogger {
  info(message: string, fields?: Readonly<Record<string, unknown>>): void;
  warn(message: string, fields?: Readonly<Record<string, unknown>>): void;
  error(message: string, fields?: Readonly<Record<string, unknown>>): void;
}

/** All that links need. */
export interface LinksOptions {
  /** Index of this member. */
  readonly self: MemberIndex;
  /** Port 0 takes a free one; see `port`. */
  readonly listen: { readonly host: string; readonly port: number };
  readonly peers: readonly LinkPeer[];
  readonly tls: LinkCredentials;
  readonly logger: LinkLogger;
  /** A message; the bytes are a view of what was read, and only good until this returns. */
  readonly onMessage: (from: MemberIndex, bytes: Uint8Array) => void;
  /** Both lanes are connected. */
  readonly onUp: (peer: MemberIndex) => void;
  /** One of them is not any more. */
  readonly onDown: (peer: MemberIndex) => void;
  readonly limits?: Partial<LinkLimits>;
}

/** Links that cannot be made from what was given; the message says what to correct. */
export class LinkConfigError extends Error {
  override name = "LinkConfigError";
}

/** What all links did. */
export interface LinksStats {
  readonly peers: readonly PeerStats[];
  /** Incoming connections turned away before the handshake: too many, or too fast. */
  readonly refusedConnections: number;
  /** Incoming connections that have not proved a key yet. */
  readonly unprovenConnections: number;
  /** Incoming connections that failed in TLS or with their hello. */
  readonly failedHandshakes: number;
  /** Connections with a key that is nobody's here, incoming or dialed. */
  readonly unknownKeys: number;
  /** Links ended for a frame that was too large. */
  readonly malformedFrames: number;
  /** Messages larger than their lane takes: none of ours should be. */
  readonly oversizedMessages: number;
}

const TICK_MS = 250;

/** The links of one member. */
export class Links {
  readonly #options: LinksOptions;
  readonly #limits: LinkLimits;
  readonly #links = new Map<MemberIndex, PeerLink>();
  readonly #memberByKey = new Map<string, MemberIndex>();
  readonly #acceptor: Acceptor;
  #dialers: Dialer[] = [];
  #timer: NodeJS.Timeout | undefined;
  #tickedMs = 0;
  #isClosed = false;
  #wrongKeys = 0;
  #malformed = 0;
  #oversized = 0;

  constructor(options: LinksOptions) {
    this.#options = options;
    this.#limits = { ...LINK_LIMITS, ...options.limits };
    checkPeers(options);
    for (const peer of options.peers) {
      this.#links.set(peer.index, new PeerLink(peer.index, options.onUp, options.onDown, options.logger));
      this.#memberByKey.set(peer.tlsKeyFingerprint.toLowerCase(), peer.index);
    }
    this.#acceptor = new Acceptor({
      ...options.listen,
      tls: options.tls,
      // Only a lower index dials: a higher one that does is not following the protocol.
      memberOf: (fingerprint) => {
        const member = this.#memberByKey.get(fingerprint);
        return member !== undefined && member < options.self ? member : undefined;
      },
      limitsOf: (lane) => this.#limits[lane],
      admission: this.#limits.admission,
      handshakeTimeoutMs: this.#limits.handshakeTimeoutMs,
      onConnected: (member, lane, connection) => this.#links.get(member)!.connect(lane, connection),
      onMessage: (member, _lane, bytes) => options.onMessage(member, bytes),
      onClosed: (member, lane, connection, reason) => this.#closed(member, lane, connection, reason),
    });
  }

  /** The port that is listened on. */
  get port(): number {
    return this.#acceptor.port;
  }

  /** Listens and starts to dial. Rejects when the address cannot be listened on. */
  async listen(): Promise<void> {
    await this.#acceptor.listen();
    const secureContext = createSecureContext(tlsOptions(this.#options.tls));
    for (const peer of this.#options.peers) {
      if (peer.index < this.#options.self) continue;
      for (const lane of ["vote", "bulk"] as const) {
        this.#dialers.push(
          new Dialer({
            host: peer.host,
            port: peer.port,
            fingerprint: peer.tlsKeyFingerprint.toLowerCase(),
            lane,
            limits: this.#limits[lane],
            secureContext,
            handshakeTimeoutMs: this.#limits.handshakeTimeoutMs,
            onConnected: (connection) => this.#links.get(peer.index)!.connect(lane, connection),
            onMessage: (bytes) => this.#options.onMessage(peer.index, bytes),
            onClosed: (connection, reason) => this.#closed(peer.index, lane, connection, reason),
            onWrongKey: (fingerprint) => this.#wrongKey(peer, fingerprint),
          }),
        );
      }
    }
    this.#tickedMs = performance.now();
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
  }

  /**
   * Sends a message (not empty; must not be changed afterwards). It leaves at the end of this turn, with all
   * others to the same peer and lane.
   */
  send(to: MemberIndex, lane: Lane, bytes: Uint8Array): void {
    const link = this.#links.get(to);
    if (!link) throw new LinkConfigError(`no link to member ${to}`);
    const { maxFrameBytes } = this.#limits[lane];
    if (bytes.length > maxFrameBytes || bytes.length === 0) {
      this.#oversized++;
      const fields = { to, lane, sizeBytes: bytes.length, maxFrameBytes };
      this.#options.logger.error("message does not fit its lane and is not sent", fields);
      return;
    }
    link.send(lane, bytes);
  }

  /** Whether both lanes to a peer are connected. */
  isUp(peer: MemberIndex): boolean {
    return this.#links.get(peer)?.isUp ?? false;
  }

  stats(): LinksStats {
    const { refused, unproven, failedHandshakes, unknownKeys } = this.#acceptor.counts;
    return {
      peers: [...this.#links.values()].map((link) => link.stats()),
      refusedConnections: refused,
      unprovenConnections: unproven,
      failedHandshakes,
      unknownKeys: unknownKeys + this.#wrongKeys,
      malformedFrames: this.#malformed,
      oversizedMessages: this.#oversized,
    };
  }

  /** Ends all links and stops listening; nobody is told that links are down. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    clearInterval(this.#timer);
    for (const dialer of this.#dialers) dialer.close();
    for (const link of this.#links.values()) link.close();
    await this.#acceptor.close();
  }

  #closed(member: MemberIndex, lane: Lane, connection: Connection, reason: CloseReason): void {
    if (reason === "malformed") this.#malformed++;
    if (!this.#isClosed) this.#links.get(member)!.disconnect(lane, connection, reason);
  }

  #wrongKey(peer: LinkPeer, fingerprint: string | undefined): void {
    this.#wrongKeys++;
    const { index, host, port, tlsKeyFingerprint: expected } = peer;
    this.#options.logger.warn("another key than the peer's answers at its address: check the genesis", {
      peer: index,
      address: `${host}:${port}`,
      expected,
      found: fingerprint ?? "none",
    });
  }

  #tick(): void {
    const now = performance.now();
    // A process that was stopped for a while has not listened: the time does not count against its peers.
    const elapsedMs = Math.min(now - this.#tickedMs, 2 * TICK_MS);
    this.#tickedMs = now;
    for (const link of this.#links.values()) {
      link.tick(elapsedMs, this.#limits.lifeSignMs, this.#limits.silenceMs);
    }
  }
}

function checkPeers(options: LinksOptions): void {
  const own = certificateFingerprint(options.tls.cert);
  const keys = new Set([own]);
  const indexes = new Set([options.self]);
  for (const { index, tlsKeyFingerprint } of options.peers) {
    const key = tlsKeyFingerprint.toLowerCase();
    if (!/^[0-9a-f]{64}$/.test(key)) {
      throw new LinkConfigError(`member ${index}: the fingerprint of a link key has 64 hexadecimal digits`);
    }
    if (keys.has(key))
      throw new LinkConfigError(`member ${index}: its link key is pinned for another member too`);
    if (indexes.has(index)) throw new LinkConfigError(`member ${index} is listed twice`);
    keys.add(key);
    indexes.add(index);
  }
}
