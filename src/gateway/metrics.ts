/**
 * Metrics under etcd's names, so that its dashboards and alerts work. Counters of the hot path are plain
 * numbers that are only put into Prometheus' form when somebody asks.
 */
import { Gauge, type Metric, type Registry } from "prom-client";
import type { Sample } from "./duration-histogram.ts";
import type { Traffic } from "./grpc/call.ts";
import type { Method } from "./grpc/method.ts";
import { GRPC_CODE_NAMES } from "./grpc/status.ts";
import type { Listener } from "./listener.ts";
import { CLUSTER_VERSION, SERVER_VERSION, type ServiceContext } from "./services/context.ts";
import type { WatchHub } from "./watch/watch-hub.ts";

export interface ComputedMetric {
  readonly name: string;
  readonly help: string;
  readonly type: "counter" | "gauge" | "histogram";
  /** Called at every scrape, with the name: the samples of a histogram have names made from it. */
  readonly samples: (name: string) => Sample[];
}

/** Registers a metric whose samples are computed when it is scraped. */
export function registerComputed(registry: Registry, metric: ComputedMetric): void {
  const { name, help, type, samples } = metric;
  const adapter = {
    name,
    help,
    aggregator: "sum",
    get: async () => ({ name, help, type, aggregator: "sum", values: samples(name) }),
    reset: () => {},
  };
  registry.registerMetric(adapter as unknown as Metric);
}

export interface GatewayMetricsSources {
  readonly context: ServiceContext;
  readonly methods: readonly Method[];
  readonly hub: WatchHub;
  readonly listener: Listener;
  readonly traffic: Traffic;
}

/** Registers all metrics of the door. node/ adds those of consensus, disk and network to the same registry. */
export function registerGatewayMetrics(registry: Registry, sources: GatewayMetricsSources): void {
  registerGrpc(registry, sources.methods);
  registerState(registry, sources.context);
  registerConnections(registry, sources);
}

function registerGrpc(registry: Registry, methods: readonly Method[]): void {
  const labels = ({ stats }: Method): Record<string, string> => ({
    grpc_type: stats.kind === "unary" ? "unary" : "bidi_stream",
    grpc_service: stats.service,
    grpc_method: stats.method,
  });
  registerComputed(registry, {
    name: "grpc_server_started_total",
    help: "Total number of RPCs started on the server.",
    type: "counter",
    samples: () => methods.map((method) => ({ labels: labels(method), value: method.stats.started })),
  });
  registerComputed(registry, {
    name: "grpc_server_handled_total",
    help: "Total number of RPCs completed on the server, regardless of success or failure.",
    type: "counter",
    samples: () =>
      methods.flatMap((method) =>
        method.stats.handled.flatMap((value, code) =>
          value === 0 && code !== 0
            ? []
            : [{ labels: { ...labels(method), grpc_code: GRPC_CODE_NAMES[code]! }, value }],
        ),
      ),
  });
  registerComputed(registry, {
    name: "grpc_server_handling_seconds",
    help: "Histogram of response latency (seconds) of gRPC that had been application-level handled by the server.",
    type: "histogram",
    samples: (name) => methods.flatMap((method) => method.stats.durations.samples(name, labels(method))),
  });
}

function gauge(registry: Registry, name: string, help: string, value: () => number): void {
  new Gauge({
    name,
    help,
    registers: [registry],
    collect() {
      this.set(value());
    },
  });
}

function registerState(registry: Registry, context: ServiceContext): void {
  const { backend } = context;
  gauge(
    registry,
    "etcd_server_has_leader",
    "Whether or not a leader exists. 1 is existence, 0 is not.",
    () => (backend.hasLeader() ? 1 : 0),
  );
  gauge(
    registry,
    "etcd_server_is_leader",
    "Whether or not this member is a leader. 1 if is, 0 otherwise.",
    () => (backend.status().leaderId === backend.memberId ? 1 : 0),
  );
  gauge(
    registry,
    "etcd_server_is_learner",
    "Whether or not this member is a learner. 1 if is, 0 otherwise.",
    () => 0,
  );
  gauge(
    registry,
    "etcd_server_quota_backend_bytes",
    "Current backend storage quota size in bytes.",
    () => backend.status().quotaBytes,
  );
  gauge(
    registry,
    "etcd_mvcc_db_total_size_in_bytes",
    "Total size of the underlying database physically allocated in bytes.",
    () => backend.status().dbSizeBytes,
  );
  gauge(
    registry,
    "etcd_mvcc_db_total_size_in_use_in_bytes",
    "Total size of the underlying database logically in use in bytes.",
    () => backend.status().dbSizeInUseBytes,
  );
  gauge(
    registry,
    "etcd_debugging_mvcc_current_revision",
    "The current revision of store.",
    () => context.revision,
  );
  gauge(
    registry,
    "etcd_debugging_mvcc_compact_revision",
    "The revision of the last compaction in store.",
    () => backend.store.compactRevision,
  );
  gauge(registry, "etcd_debugging_mvcc_keys_total", "Total number of keys.", () => backend.store.keyCount);
  registerComputed(registry, {
    name: "etcd_cluster_version",
    help: "Which version is running. 1 for 'cluster_version' label with current cluster version",
    type: "gauge",
    // Without the patch version, as etcd has it.
    samples: () => [{ labels: { cluster_version: CLUSTER_VERSION.replace(/\.\d+$/, "") }, value: 1 }],
  });
  registerComputed(registry, {
    name: "etcd_server_version",
    help: "Which version is running. 1 for 'server_version' label with current version.",
    type: "gauge",
    samples: () => [{ labels: { server_version: SERVER_VERSION }, value: 1 }],
  });
  registerComputed(registry, {
    name: "etcd_server_id",
    help: "Server or member ID in hexadecimal format. 1 for 'server_id' label with current ID.",
    type: "gauge",
    samples: () => [{ labels: { server_id: backend.memberId.toString(16) }, value: 1 }],
  });
}

function counter(registry: Registry, name: string, help: string, value: () => number): void {
  registerComputed(registry, {
    name,
    help,
    type: "counter",
    samples: () => [{ labels: {}, value: value() }],
  });
}

function registerConnections(registry: Registry, sources: GatewayMetricsSources): void {
  const { hub, listener, traffic } = sources;
  gauge(
    registry,
    "etcd_debugging_mvcc_watch_stream_total",
    "Total number of watch streams.",
    () => hub.streamCount,
  );
  gauge(registry, "etcd_debugging_mvcc_watcher_total", "Total number of watchers.", () => hub.watcherCount);
  gauge(
    registry,
    "etcd_debugging_mvcc_slow_watcher_total",
    "Total number of unsynced slow watchers.",
    () => hub.behindCount,
  );
  counter(
    registry,
    "etcd_debugging_mvcc_events_total",
    "Total number of events sent by this member.",
    () => hub.eventsTotal,
  );
  counter(
    registry,
    "etcd_network_client_grpc_received_bytes_total",
    "The total number of bytes received from grpc clients.",
    () => traffic.receivedBytes,
  );
  counter(
    registry,
    "etcd_network_client_grpc_sent_bytes_total",
    "The total number of bytes sent to grpc clients.",
    () => traffic.sentBytes,
  );
  gauge(registry, "kmmr_gateway_connections", "Open client connections.", () => listener.connections);
  counter(
    registry,
    "kmmr_gateway_connections_total",
    "Client connections accepted since start.",
    () => listener.connectionsTotal,
  );
  counter(
    registry,
    "kmmr_gateway_tls_handshakes_failed_total",
    "Client TLS handshakes that failed since start.",
    () => listener.handshakesFailed,
  );
}
