/** Finds the method of each HTTP/2 stream and starts its call. */
import type { IncomingHttpHeaders, ServerHttp2Stream } from "node:http2";
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
  dispatch(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
    const path = headers[":path"] ?? "";
    const method = this.#methods.get(path);
    if (method === undefined) {
      refuse(stream, this.#unknownMethod(path));
      return;
    }
    const timeout = headers["grpc-timeout"] as string | undefined;
    const timeoutMs = timeout === undefined ? undefined : parseTimeoutMs(timeout);
    if (timeout !== undefined && timeoutMs === undefined) {
      refuse(stream, { code: GrpcCode.internal, message: `malformed grpc-timeout: "${timeout}"` });
      return;
    }
    const requireLeader = headers.hasleader === "true";
    if (requireLeader) {
      const missing = this.#leaderMissing();
      if (missing !== undefined) {
        method.stats.started++;
        method.stats.end(missing.code, 0);
        refuse(stream, missing);
        return;
      }
    }
    const encoding = headers["grpc-encoding"] as string | undefined;
    if (method.kind === "unary") {
      const call = new UnaryHttp2Call(stream, method, this.#context, encoding);
      if (timeoutMs !== undefined) call.expireAfter(timeoutMs);
    } else {
      const call = new StreamHttp2Call(stream, method, this.#context, encoding);
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
