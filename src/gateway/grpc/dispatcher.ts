/** Finds the method of each HTTP/2 stream and starts its call. */
import type { Http2Connection } from "../http2/connection.ts";
import type { RequestHead } from "../http2/hpack.ts";
import type { Http2Stream } from "../http2/stream.ts";
import { type CallContext, refuse, StreamHttp2Call, UnaryHttp2Call } from "./call.ts";
import { parseTimeoutMs } from "./deadline.ts";
import type { Method } from "./method.ts";
import { GrpcCode, type GrpcStatus } from "./status.ts";

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

  /** Handles a stream whose content type is gRPC's. */
  dispatch(connection: Http2Connection, stream: Http2Stream, head: RequestHead): void {
    const method = this.#methods.get(head.path);
    if (method === undefined) {
      refuse(stream, this.#unknownMethod(head.path));
      return;
    }
    const { grpcTimeout } = head;
    const timeoutMs = grpcTimeout === undefined ? undefined : parseTimeoutMs(grpcTimeout);
    if (grpcTimeout !== undefined && timeoutMs === undefined) {
      refuse(stream, { code: GrpcCode.internal, message: `malformed grpc-timeout: "${grpcTimeout}"` });
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
    const place = { connection, stream, context: this.#context, encoding: head.grpcEncoding };
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
