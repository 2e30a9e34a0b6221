/** The door: etcd's API on one port, in front of a backend. */
import { Registry } from "prom-client";
import type { Backend } from "./backend.ts";
import { BACKEND_STATUS, statusOfThrown } from "./errors.ts";
import type { Traffic } from "./grpc/call.ts";
import { DeadlineQueue } from "./grpc/deadline.ts";
import { Dispatcher } from "./grpc/dispatcher.ts";
import type { Method } from "./grpc/method.ts";
import { GrpcCode, type GrpcStatus } from "./grpc/status.ts";
import { HttpEndpoints } from "./http-endpoints.ts";
import { DEFAULT_LIMITS, type GatewayLimits } from "./limits.ts";
import { type GatewayTls, Listener } from "./listener.ts";
import { registerGatewayMetrics } from "./metrics.ts";
import { ClusterService } from "./services/cluster-service.ts";
import { ServiceContext } from "./services/context.ts";
import { HealthService } from "./services/health-service.ts";
import { KvService } from "./services/kv-service.ts";
import { LeaseService } from "./services/lease-service.ts";
import { WatchService } from "./services/watch-service.ts";
import { WatchHub } from "./watch/watch-hub.ts";

/** The little that the door needs of a logger (pino's fits). */
export interface GatewayLogger {
  warn(details: object, message: string): void;
  error(details: object, message: string): void;
}

export interface GatewayOptions {
  readonly backend: Backend;
  readonly listen: { readonly host: string; readonly port: number };
  /** Without it the port speaks plain HTTP. */
  readonly tls?: GatewayTls | undefined;
  /** Where the door's metrics go and what /metrics shows; one of its own if there is none. */
  readonly registry?: Registry | undefined;
  readonly logger?: GatewayLogger | undefined;
  /** What differs from DEFAULT_LIMITS. */
  readonly limits?: Partial<GatewayLimits> | undefined;
}

const MONITOR_INTERVAL_MS = 250;
const CLOSE_GRACE_MS = 1_000;

export class Gateway {
  readonly registry: Registry;
  readonly #options: GatewayOptions;
  readonly #limits: GatewayLimits;
  readonly #context: ServiceContext;
  readonly #hub: WatchHub;
  readonly #health: HealthService;
  readonly #listener: Listener;
  readonly #deadlines = new DeadlineQueue();
  #monitor: NodeJS.Timeout | undefined;
  #leaderlessSinceMs: number | undefined;
  #unavailableSinceMs: number | undefined;

  constructor(options: GatewayOptions) {
    this.#options = options;
    this.#limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.registry = options.registry ?? new Registry();
    const context = new ServiceContext(options.backend, this.#limits);
    this.#context = context;
    this.#hub = new WatchHub(context);
    this.#health = new HealthService(context);
    const methods: readonly Method[] = [
      ...new KvService(context).methods,
      ...new WatchService(context, this.#hub).methods,
      ...new LeaseService(context).methods,
      ...new ClusterService(context).methods,
      ...this.#health.methods,
    ];
    const traffic: Traffic = { receivedBytes: 0, sentBytes: 0 };
    const dispatcher = new Dispatcher({
      methods,
      leaderMissing: () => (options.backend.hasLeader() ? undefined : BACKEND_STATUS.noLeader),
      context: {
        messageSizeBytesMax: this.#limits.messageSizeBytesMax,
        partialRequestsSizeBytesMax: this.#limits.partialRequestsSizeBytesMax,
        partial: { sizeBytes: 0 },
        pendingResponses: context.pendingResponses,
        deadlines: this.#deadlines,
        traffic,
        statusOfThrown: (error, method) => this.#statusOfThrown(error, method),
      },
    });
    this.#listener = new Listener({
      limits: this.#limits,
      tls: options.tls,
      endpoints: new HttpEndpoints(context, this.registry),
      onGrpc: (connection, stream, head) => dispatcher.dispatch(connection, stream, head),
      onFault: (error) => options.logger?.error({ err: error }, "a connection met a fault of this process"),
    });
    registerGatewayMetrics(this.registry, {
      context,
      methods,
      hub: this.#hub,
      listener: this.#listener,
      traffic,
    });
  }

  /** Listens; rejects when the address is taken. Gives the port, which is a free one if 0 was asked for. */
  async listen(): Promise<{ port: number }> {
    const { host, port } = this.#options.listen;
    const listening = await this.#listener.listen(host, port);
    this.#monitor = setInterval(() => this.#watchBackend(), MONITOR_INTERVAL_MS);
    this.#monitor.unref();
    return listening;
  }

  /** New certificates for the handshakes to come. */
  renewTls(settings: GatewayTls): void {
    this.#listener.renewTls(settings);
  }

  /** Ends all calls and connections. */
  async close(): Promise<void> {
    clearInterval(this.#monitor);
    this.#hub.abort("stopped", false);
    this.#hub.close();
    await this.#listener.close(CLOSE_GRACE_MS);
    this.#deadlines.stop();
  }

  /** Ends watches that wait in vain, and wakes those that waited for the backend. */
  #watchBackend(): void {
    const { backend } = this.#context;
    const now = performance.now();
    const timeoutMs = this.#limits.noLeaderStreamTimeoutMs;
    this.#leaderlessSinceMs = backend.hasLeader() ? undefined : (this.#leaderlessSinceMs ?? now);
    if (this.#leaderlessSinceMs !== undefined && now - this.#leaderlessSinceMs >= timeoutMs) {
      this.#hub.abort("noLeader", true);
    }
    const reason = backend.unavailable();
    this.#unavailableSinceMs = reason === undefined ? undefined : (this.#unavailableSinceMs ?? now);
    if (reason !== undefined && now - this.#unavailableSinceMs! >= timeoutMs) this.#hub.abort(reason, false);
    if (reason === undefined) {
      this.#hub.pump();
      this.#hub.catchUp();
    }
    this.#health.tick();
  }

  /** Requests that are wrong get etcd's answer; a fault of our own is logged and shown as what it is. */
  #statusOfThrown(error: unknown, { kind, path }: Method): GrpcStatus {
    const status = statusOfThrown(error, kind);
    if (status !== undefined) return status;
    this.#options.logger?.error({ err: error, path }, "a request met a fault of this process");
    const message = error instanceof Error ? error.message : String(error);
    return { code: GrpcCode.unknown, message: `kmmr: ${message}` };
  }
}
