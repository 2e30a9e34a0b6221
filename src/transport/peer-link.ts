/** Both lanes to one peer: which connection each uses now, and what went over it. */
import type { Lane, MemberIndex } from "../replica/contract.ts";
import type { CloseReason, Connection } from "./connection.ts";
import type { LinkLogger } from "./links.ts";

/** What went over one lane since the start of the process. */
export interface LaneStats {
  readonly isUp: boolean;
  readonly sentMessages: number;
  readonly sentBytes: number;
  readonly receivedMessages: number;
  readonly receivedBytes: number;
  /** Not sent: the lane was down, or the peer too slow. */
  readonly droppedMessages: number;
  readonly queuedBytes: number;
  /** Times it was not read for a moment because the peer sent too much. */
  readonly throttled: number;
  /** Times it was connected. */
  readonly connects: number;
}

/** One peer. */
export interface PeerStats {
  readonly index: MemberIndex;
  readonly isUp: boolean;
  readonly vote: LaneStats;
  readonly bulk: LaneStats;
}

/** A lane and the sums of its earlier connections. */
class LaneState {
  connection: Connection | undefined;
  connects = 0;
  #sentMessages = 0;
  #sentBytes = 0;
  #receivedMessages = 0;
  #receivedBytes = 0;
  #dropped = 0;
  #throttled = 0;

  drop(): void {
    this.#dropped++;
  }

  /** Adds up what an ended connection did. */
  retire(connection: Connection): void {
    const { counts } = connection;
    this.#sentMessages += counts.sentMessages;
    this.#sentBytes += counts.sentBytes;
    this.#receivedMessages += counts.receivedMessages;
    this.#receivedBytes += counts.receivedBytes;
    this.#dropped += connection.dropped;
    this.#throttled += connection.throttled;
  }

  stats(): LaneStats {
    const now = this.connection?.counts;
    return {
      isUp: this.connection !== undefined,
      sentMessages: this.#sentMessages + (now?.sentMessages ?? 0),
      sentBytes: this.#sentBytes + (now?.sentBytes ?? 0),
      receivedMessages: this.#receivedMessages + (now?.receivedMessages ?? 0),
      receivedBytes: this.#receivedBytes + (now?.receivedBytes ?? 0),
      droppedMessages: this.#dropped + (this.connection?.dropped ?? 0),
      queuedBytes: this.connection?.queuedBytes ?? 0,
      throttled: this.#throttled + (this.connection?.throttled ?? 0),
      connects: this.connects,
    };
  }
}

/** The link to one peer. */
export class PeerLink {
  readonly #index: MemberIndex;
  readonly #onUp: (peer: MemberIndex) => void;
  readonly #onDown: (peer: MemberIndex) => void;
  readonly #logger: LinkLogger;
  readonly #lanes: Record<Lane, LaneState> = { vote: new LaneState(), bulk: new LaneState() };

  constructor(
    index: MemberIndex,
    onUp: (peer: MemberIndex) => void,
    onDown: (peer: MemberIndex) => void,
    logger: LinkLogger,
  ) {
    this.#index = index;
    this.#onUp = onUp;
    this.#onDown = onDown;
    this.#logger = logger;
  }

  get isUp(): boolean {
    return this.#lanes.vote.connection !== undefined && this.#lanes.bulk.connection !== undefined;
  }

  /** The newest connection is the one in use: the peer may have restarted before this side noticed. */
  connect(lane: Lane, connection: Connection): void {
    const state = this.#lanes[lane];
    const replaced = state.connection;
    if (replaced) replaced.close("replaced");
    state.connection = connection;
    state.connects++;
    if (!this.isUp) return;
    this.#logger.info("link up", { peer: this.#index });
    this.#onUp(this.#index);
  }

  disconnect(lane: Lane, connection: Connection, reason: CloseReason): void {
    const state = this.#lanes[lane];
    if (state.connection !== connection) return;
    const wasUp = this.isUp;
    state.retire(connection);
    state.connection = undefined;
    if (!wasUp) return;
    this.#logger.warn("link down", { peer: this.#index, lane, reason });
    this.#onDown(this.#index);
  }

  send(lane: Lane, bytes: Uint8Array): void {
    const state = this.#lanes[lane];
    if (state.connection) state.connection.send(bytes);
    else state.drop();
  }

  tick(elapsedMs: number, lifeSignMs: number, silenceMs: number): void {
    this.#lanes.vote.connection?.tick(elapsedMs, lifeSignMs, silenceMs);
    this.#lanes.bulk.connection?.tick(elapsedMs, lifeSignMs, silenceMs);
  }

  close(): void {
    this.#lanes.vote.connection?.close("shutdown");
    this.#lanes.bulk.connection?.close("shutdown");
  }

  stats(): PeerStats {
    const { vote, bulk } = this.#lanes;
    return { index: this.#index, isUp: this.isUp, vote: vote.stats(), bulk: bulk.stats() };
  }
}
