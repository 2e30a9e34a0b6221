/**
 * One master: log, state, replica, links and door, put together.
 */
import { dirname, join } from "node:path";
import { toHex } from "../base/bytes.ts";
import { Writer } from "../base/codec.ts";
import { Gateway } from "../gateway/gateway.ts";
import type { TraceEvent } from "../replica/contract.ts";
import { Replica } from "../replica/replica.ts";
import type { LmdbEngine } from "../storage/lmdb-engine.ts";
import { type Log, openLog } from "../storage/log.ts";
import { QUOTA_DEFAULT_BYTES } from "../store/store.ts";
import { type LinkLogger, Links } from "../transport/links.ts";
import { parseAddress, parseEndpoint } from "./address.ts";
import { ReplicaBackend } from "./backend.ts";
import { ClientTlsWatch, readClientTls } from "./client-tls.ts";
import { type Config, ConfigError } from "./config.ts";
import { NodeHasher, NodeVerifier } from "./crypto.ts";
import { DurableLog } from "./durable-log.ts";
import { useFirstStartMark } from "./first-start.ts";
import { HostLoop } from "./host-loop.ts";
import { nextIncarnation, outlived } from "./incarnation.ts";
import type { Logger } from "./logger.ts";
import { checkFiles, type MemberFiles, makeDataDir } from "./member-files.ts";
import { openState } from "./member-state.ts";
import { Metrics } from "./metrics.ts";
import { MetricsListener } from "./metrics-listener.ts";
import { lockFolder, type ProcessLock } from "./process-lock.ts";

/** What a member says of itself to whoever runs it. */
export interface MemberReport {
  /** Whether it answers clients. */
  readonly serving: boolean;
  /** Name of the leader, null while none is known. */
  readonly leader: string | null;
  readonly regency: number;
}

/** Traces that operators want to see, and how loud. */
const TRACE_LEVELS: Readonly<Record<TraceEvent["kind"], "debug" | "info" | "warn" | "error">> = {
  decided: "debug",
  executed: "debug",
  regency: "info",
  stop: "info",
  checkpoint: "debug",
  transfer: "info",
  diverged: "error",
  misbehaviour: "warn",
};

/** Lines of this kind in one second beyond which they are only counted: a peer must not fill our disk. */
const TRACES_LOGGED_PER_SECOND = 20;

/** A process that was told to end just before gets this long to do so. */
const LOCK_WAIT_MS = 5_000;

/** What a member is made of once its files were read. */
interface MemberParts {
  readonly files: MemberFiles;
  readonly lock: ProcessLock;
  readonly log: Log;
  readonly engine: LmdbEngine;
  readonly replica: Replica;
}

export class Member {
  readonly #config: Config;
  readonly #logger: Logger;
  readonly #files: MemberFiles;
  readonly #lock: ProcessLock;
  readonly #engine: LmdbEngine;
  readonly #log: DurableLog;
  readonly #replica: Replica;
  readonly #loop: HostLoop;
  readonly #links: Links;
  readonly #backend: ReplicaBackend;
  readonly #metrics: Metrics;
  readonly #gateway: Gateway;
  readonly #metricsListener: MetricsListener;
  readonly #tlsWatch: ClientTlsWatch;
  #fatal: (error: unknown) => void = () => {};
  #traceSecond = 0;
  #tracesInSecond = 0;

  /**
   * Reads all files, the log and the state, and makes the replica; nothing is said to anybody before `start`. Throws
   * ConfigError, LockedError, LogDamagedError, or what the system says.
   */
  static async open(config: Config, configFile: string, logger: Logger): Promise<Member> {
    // Before the lock is taken and an incarnation used up: a config that cannot be used leaves nothing behind.
    const files = checkFiles(config);
    makeDataDir(config);
    const lock = await lockFolder(config.dataDir, `master ${config.name}`, LOCK_WAIT_MS);
    useFirstStartMark(dirname(configFile), join(config.dataDir, "log"));
    let member: Member | undefined;
    // What fails before there is a member makes its first write fail.
    const fatal = (error: unknown) => (member === undefined ? undefined : member.#fatal(error));
    const { genesis, membership, self, signer } = files;
    const incarnation = nextIncarnation(config.dataDir, Date.now());
    const { log, recovery, finding } = openLog(join(config.dataDir, "log"), {
      owner: new Writer(16).i64(genesis.clusterId).i64(genesis.members[self]!.id).finish(),
      onFailure: fatal,
    });
    if (finding !== undefined) logger.warn("the end of the log was cut", { finding });
    if (recovery.state === "lost") {
      logger.warn("there is no log here: this master may have lost it, and catches up before it votes");
    }
    const { dataDir } = config;
    const { engine, made: replica } = await openState({ dataDir, onError: fatal, logger }, (opened) => {
      return new Replica({
        membership,
        self,
        signer,
        verifier: new NodeVerifier(),
        hasher: new NodeHasher(),
        engine: opened,
        recovery,
        incarnation,
        ...(genesis.quotaBytes === undefined ? {} : { quotaBytes: genesis.quotaBytes }),
      });
    });
    member = new Member(config, { files, lock, log, engine, replica }, logger);
    logger.info("opened", {
      name: config.name,
      cluster: toHex(new Writer(8).i64(genesis.clusterId).finish()),
      members: membership.n,
      tolerates: membership.f,
      incarnation,
      log: recovery.state,
      revision: replica.store.revision,
      executed: replica.lastExecuted,
    });
    return member;
  }

  private constructor(config: Config, { files, lock, log, engine, replica }: MemberParts, logger: Logger) {
    this.#config = config;
    this.#files = files;
    this.#lock = lock;
    this.#logger = logger;
    this.#engine = engine;
    this.#replica = replica;
    this.#metrics = this.#createMetrics();
    this.#log = new DurableLog({
      log,
      stateFlushed: () => this.#engine.flushed(),
      synced: (durationMs) => this.#metrics.logSynced(durationMs),
      fatal: (error) => this.#fatal(error),
    });
    this.#backend = this.#createBackend();
    this.#links = this.#createLinks();
    this.#loop = this.#createLoop();
    const listen = parseEndpoint(config.client.listen)!;
    const gatewayLog = logger.component("gateway");
    this.#gateway = new Gateway({
      backend: this.#backend,
      listen,
      tls: readClientTls(config.client),
      registry: this.#metrics.registry,
      logger: {
        warn: (details, message) => gatewayLog.warn(message, { ...details }),
        error: (details, message) => gatewayLog.error(message, { ...details }),
      },
    });
    this.#metricsListener = new MetricsListener(this.#backend, this.#metrics.registry);
    this.#tlsWatch = new ClientTlsWatch(
      config.client,
      (settings) => this.#gateway.renewTls(settings),
      logger.component("gateway"),
    );
  }

  #createMetrics(): Metrics {
    const replica = this.#replica;
    return new Metrics({
      members: this.#files.genesis.members.map((member) => member.name),
      serving: () => this.#backend.unavailable() === undefined,
      regency: () => replica.regency,
      lastDecided: () => replica.lastDecided,
      lastExecuted: () => replica.lastExecuted,
      pending: () => this.#backend.pendingCount,
      logBufferedBytes: () => this.#log.bufferedBytes,
    });
  }

  #createBackend(): ReplicaBackend {
    const replica = this.#replica;
    const { genesis, self } = this.#files;
    const { requestTimeoutMs, maxPendingRequests } = this.#config.limits;
    return new ReplicaBackend({
      clusterId: genesis.clusterId,
      memberId: genesis.members[self]!.id,
      members: genesis.members.map(({ id, name, peerHost, peerPort, clientUrls }) => ({
        id,
        name,
        peerUrls: [`https://${peerHost.includes(":") ? `[${peerHost}]` : peerHost}:${peerPort}`],
        clientUrls,
      })),
      view: {
        store: replica.store,
        leader: () => replica.leader,
        regency: () => replica.regency,
        lastDecided: () => replica.lastDecided,
        lastExecuted: () => replica.lastExecuted,
        serving: () => replica.serving,
      },
      input: (input) => this.#loop.input(input),
      databaseSize: () => this.#engine.sizeBytes(),
      quotaBytes: genesis.quotaBytes ?? QUOTA_DEFAULT_BYTES,
      requestTimeoutMs,
      maxPendingRequests,
      readMode: this.#config.readMode,
      overloaded: () => this.#log.overloaded,
      requestFailed: (count) => this.#metrics.requestFailed(count),
    });
  }

  #createLinks(): Links {
    const { genesis, self, linkCredentials } = this.#files;
    const peers = genesis.members.map(({ peerHost, peerPort, tlsKeyFingerprint }, index) => ({
      index,
      host: peerHost,
      port: peerPort,
      tlsKeyFingerprint,
    }));
    return new Links({
      self,
      listen: parseAddress(this.#config.peer.listen)!,
      peers: peers.filter((peer) => peer.index !== self),
      tls: linkCredentials,
      logger: this.#linkLogger(),
      onMessage: (from, bytes) => this.#loop.input({ type: "message", from, bytes }),
      onUp: (peer) => this.#loop.input({ type: "linkUp", peer }),
      onDown: (peer) => this.#loop.input({ type: "linkDown", peer }),
    });
  }

  /** Links know members by index, people by name. */
  #linkLogger(): LinkLogger {
    const logger = this.#logger.component("links");
    const named = (fields: Readonly<Record<string, unknown>> = {}) =>
      typeof fields.peer === "number" ? { ...fields, peer: this.#nameOf(fields.peer) } : fields;
    return {
      info: (message, fields) => logger.info(message, named(fields)),
      warn: (message, fields) => logger.warn(message, named(fields)),
      error: (message, fields) => logger.error(message, named(fields)),
    };
  }

  #createLoop(): HostLoop {
    const backend = this.#backend;
    return new HostLoop({
      replica: this.#replica,
      log: this.#log,
      links: this.#links,
      listener: {
        result: (id, result) => backend.result(id, result),
        fenced: (id) => backend.fenced(id),
        failed: (id, reason) => backend.failed(id, reason),
        revision: (revision) => backend.revision(revision),
        trace: (event) => this.#trace(event),
        tick: (now) => this.#tick(now.monotonicMs),
        slowTurn: (durationMs) => {
          this.#metrics.slowTurn();
          this.#logger.warn("the process was held up", { durationMs: Math.round(durationMs) });
        },
        fatal: (error) => this.#fatal(error),
      },
    });
  }

  #tick(monotonicMs: number): void {
    this.#backend.tick(monotonicMs);
    const { outlivedBy } = this.#replica;
    if (outlivedBy !== undefined) this.#fatal(outlived(this.#config.dataDir, outlivedBy));
  }

  #trace(event: TraceEvent): void {
    this.#metrics.trace(event);
    const level = TRACE_LEVELS[event.kind];
    if (level === "debug" && this.#config.log.level !== "debug") return;
    const second = Math.floor(performance.now() / 1000);
    if (second !== this.#traceSecond) {
      this.#traceSecond = second;
      this.#tracesInSecond = 0;
    }
    if (level !== "debug" && this.#tracesInSecond++ >= TRACES_LOGGED_PER_SECOND) return;
    const { kind, ...details } = event;
    const fields: Record<string, unknown> = {};
    for (const [name, value] of Object.entries(details)) {
      const isMember = name === "member" || name === "leader";
      if (value instanceof Uint8Array) fields[name] = toHex(value.subarray(0, 8));
      else fields[name] = isMember ? this.#nameOf(Number(value)) : value;
    }
    this.#logger.component("replica")[level](kind, fields);
  }

  #nameOf(index: number): string {
    return this.#files.genesis.members[index]?.name ?? String(index);
  }

  /** Told when the process cannot go on; set before `start`. */
  onFatal(listener: (error: unknown) => void): void {
    this.#fatal = listener;
  }

  /** Connects to the others and opens the door. Rejects when an address cannot be listened on. */
  async start(): Promise<void> {
    await listening("peer.listen", this.#config.peer.listen, this.#links.listen());
    this.#loop.start();
    await listening("client.listen", this.#config.client.listen, this.#gateway.listen());
    const metrics = this.#config.metrics.listen;
    if (metrics !== undefined) {
      await listening("metrics.listen", metrics, this.#metricsListener.listen(parseEndpoint(metrics)!));
    }
    this.#logger.info("listening", this.addresses());
  }

  addresses(): { readonly name: string; readonly client: string; readonly peer: string } {
    return { name: this.#config.name, client: this.#config.client.listen, peer: this.#config.peer.listen };
  }

  report(): MemberReport {
    const leader = this.#replica.leader;
    return {
      serving: this.#backend.unavailable() === undefined,
      leader: leader === undefined ? null : this.#nameOf(leader),
      regency: this.#replica.regency,
    };
  }

  /** Answers all that waits with "stopped", closes everything and makes it durable. */
  async stop(): Promise<void> {
    this.#tlsWatch.stop();
    this.#backend.stop();
    await Promise.all([this.#gateway.close(), this.#metricsListener.close()]);
    this.#loop.stop();
    await this.#links.close();
    await this.#log.close();
    await this.#engine.close();
    await this.#lock.release();
  }
}

/** Says which setting is to blame when an address cannot be listened on. */
async function listening(key: string, address: string, started: Promise<unknown>): Promise<void> {
  try {
    await started;
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code !== "EADDRINUSE" && code !== "EADDRNOTAVAIL" && code !== "EACCES") throw error;
    const reasons = {
      EADDRINUSE: "another process listens there",
      EADDRNOTAVAIL: "this machine has no such address",
      EACCES: "this user may not listen there",
    };
    throw new ConfigError([`${key}: ${address}: ${reasons[code]}`]);
  }
}
