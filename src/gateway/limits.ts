/** Every bound of the door. Defaults are etcd's where etcd has one. */
export interface GatewayLimits {
  /** Largest write, as etcd would marshal it for agreement ("request is too large"). */
  readonly requestSizeBytesMax: number;
  /** Largest gRPC message received (ResourceExhausted). */
  readonly messageSizeBytesMax: number;
  /** Open calls of one connection; a client that wants more waits (HTTP/2 MAX_CONCURRENT_STREAMS). */
  readonly streamsPerConnectionMax: number;
  /** Connections; more are closed at once. */
  readonly connectionsMax: number;
  /** Bytes of requests that are not complete yet, of all connections; above it calls are refused. */
  readonly partialRequestsSizeBytesMax: number;
  /** Bytes of large responses that clients did not take yet; above it reads are refused. */
  readonly pendingResponsesSizeBytesMax: number;
  /** A connection may have this many streams reset at once, and so many a second after that. */
  readonly streamResetBurst: number;
  readonly streamResetRatePerSecond: number;
  /** A watch stream that has so much unsent is fed no more until all of it went out. */
  readonly watchBufferSizeBytesMax: number;
  readonly watchersPerStreamMax: number;
  /** Keep-alives of one stream that are not answered yet; above it the stream is not read. */
  readonly keepAlivesPerStreamMax: number;
  /** Interval of the progress notifications of watchers that asked for them; at least 100. */
  readonly progressNotifyIntervalMs: number;
  /** Streams opened with `hasleader` are ended after so long without a leader. */
  readonly noLeaderStreamTimeoutMs: number;
  /** A new connection has so long to say which protocol it speaks, and to finish the TLS handshake. */
  readonly handshakeTimeoutMs: number;
}

const MIB = 1024 * 1024;

export const DEFAULT_LIMITS: GatewayLimits = {
  requestSizeBytesMax: 1.5 * MIB,
  messageSizeBytesMax: 2 * MIB,
  streamsPerConnectionMax: 4096,
  connectionsMax: 20_000,
  partialRequestsSizeBytesMax: 256 * MIB,
  pendingResponsesSizeBytesMax: 512 * MIB,
  // kube-apiservers end watches by resetting them, thousands at once when they restart.
  streamResetBurst: 100_000,
  streamResetRatePerSecond: 20_000,
  watchBufferSizeBytesMax: MIB,
  watchersPerStreamMax: 65_536,
  keepAlivesPerStreamMax: 1024,
  progressNotifyIntervalMs: 600_000,
  noLeaderStreamTimeoutMs: 3_000,
  handshakeTimeoutMs: 10_000,
};
