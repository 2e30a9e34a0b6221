/** Finds the method of each HTTP/2 stream and starts its call. */
import { DEADLINE_EXCEEDED } from "../errors.ts";
import type { Http2Connection } from "../http2/connection.ts";
import type { RequestHead } from "../http2/hpack.ts";
import type { Http2Stream } from "../http2/stream.ts";
import { type CallContext, refuse, refuseEncoding, StreamHttp2Call, UnaryHttp2Call } from "./call.ts";
import { parseTimeoutMs, timeoutComplaint } from "./deadline.ts";
import { isKnownEncoding } from "./message-assembler.ts";
import type { Method } from "./method.ts";
import { GrpcCode, type GrpcStatus } from "./status.ts";

/** A call with less time is over before it begins: it is not executed, as etcd does not. */
const TIMEOUT_MIN_MS = 0.01;

export interface DispatcherOptions {
  readonly context: CallContext;
  readonly methods: readonly Method[];
  /** Why a call with `hasleader: true` is refused now, if it is. */
  readonly leaderMissing: () => GrpcStatus | undefined;
}

export class Dispatcher {
  readonly #context: CallContext;
  readonly #methods = new Map<string, Method>();
  readonly #services = new Set<string>();
  readonly #leaderMissing: () => GrpcStatus | undefined;

  constructor(options: DispatcherOptions) {
    this.#context = options.context;
    this.#leaderMissing = options.leaderMissing;
    for (const method of options.methods) {
      this.#methods.set(method.path, method);
      this.#services.add(method.stats.service);
    }
  }

  /** Handles a stream whose content type is gRPC's. The order of the refusals is grpc-go's. */
  dispatch(connection: Http2Connection, stream: Http2Stream, head: RequestHead): void {
    const { grpcTimeout, grpcEncoding } = head;
    const timeoutMs = grpcTimeout === undefined ? undefined : parseTimeoutMs(grpcTimeout);
    if (grpcTimeout !== undefined && timeoutMs === undefined) {
      const message = `malformed grpc-timeout: ${timeoutComplaint(grpcTimeout)}`;
      refuse(stream, { code: GrpcCode.internal, message }, 400);
      return;
    }
    if (head.method !== "POST") {
      const verb = JSON.stringify(head.method);
      const message = `Received a HEADERS frame with :method ${verb} which should be POST`;
      refuse(stream, { code: GrpcCode.internal, message }, 405);
      return;
    }
    if (timeoutMs !== undefined && timeoutMs < TIMEOUT_MIN_MS) {
      refuse(stream, DEADLINE_EXCEEDED);
      return;
    }
    const method = this.#methods.get(head.path);
    if (method === undefined) {
      refuse(stream, this.#unknownMethod(head.path));
      return;
    }
    if (grpcEncoding !== undefined && !isKnownEncoding(grpcEncoding)) {
      refuseEncoding(stream, grpcEncoding);
      return;
    }
    const requireLeader = head.hasLeader === "true";
    if (requireLeader) {
      const missing = this.#leaderMissing();
      if (missing !== undefined) {
        method.stats.started++;
        method.stats.end(missing.code, 0);
        refuse(stream, missing);
        return;
      }
    }
    const place = { connection, stream, context: this.#context, encoding: grpcEncoding };
    if (method.kind === "unary") {
      const call = new UnaryHttp2Call(method, place);
      if (timeoutMs !== undefined) call.expireAfter(timeoutMs);
    } else {
      const call = new StreamHttp2Call(method, place);
      if (timeoutMs !== undefined) call.expireAfter(timeoutMs);
      call.start(requireLeader);
    }
  }

  /** What grpc-go says about a path without a handler. */
  #unknownMethod(path: string): GrpcStatus {
    const slash = path.lastIndexOf("/");
    if (!path.startsWith("/") || slash <= 0) {
      return { code: GrpcCode.unimplemented, message: `malformed method name: ${JSON.stringify(path)}` };
    }
    const service = path.slice(1, slash);
    const message = this.#services.has(service)
      ? `unknown method ${path.slice(slash + 1)} for service ${service}`
      : `unknown service ${service}`;
    return { code: GrpcCode.unimplemented, message };
  }
}
