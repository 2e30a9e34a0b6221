/** grpc.health.v1.Health: whether this process may answer, for the whole server (service ""). */
import type { Method, StreamCall, StreamHandler, UnaryCall } from "../grpc/method.ts";
import { GrpcCode, type GrpcStatus } from "../grpc/status.ts";
import {
  encodeHealthCheckResponse,
  encodeHealthListResponse,
  readHealthRequest,
  ServingStatus,
} from "../messages/cluster-messages.ts";
import { type ServiceContext, streaming, unary } from "./context.ts";

export class HealthService {
  readonly methods: readonly Method[];
  readonly #context: ServiceContext;
  readonly #watches = new Set<HealthWatch>();

  constructor(context: ServiceContext) {
    this.#context = context;
    this.methods = [
      unary("/grpc.health.v1.Health/Check", (message, call) => this.#check(message, call)),
      unary("/grpc.health.v1.Health/List", (message, call) => {
        readHealthRequest(message);
        call.reply(encodeHealthListResponse(this.#status("")));
      }),
      streaming("/grpc.health.v1.Health/Watch", (call) => new HealthWatch(call, this.#watches, this.#status)),
    ];
  }

  /** Tells the watching clients when the status changed; called every now and then. */
  tick(): void {
    for (const watch of this.#watches) watch.update();
  }

  readonly #status = (service: string): ServingStatus => {
    if (service !== "") return ServingStatus.serviceUnknown;
    return this.#context.backend.unavailable() === undefined
      ? ServingStatus.serving
      : ServingStatus.notServing;
  };

  #check(message: Buffer, call: UnaryCall): void {
    const status = this.#status(readHealthRequest(message));
    if (status === ServingStatus.serviceUnknown) {
      call.fail({ code: GrpcCode.notFound, message: "unknown service" });
    } else call.reply(encodeHealthCheckResponse(status));
  }
}

/** grpc-go's words for a number of requests other than one. */
function violation(what: string): GrpcStatus {
  return {
    code: GrpcCode.internal,
    message: `cardinality violation: received ${what} non-client-streaming RPC`,
  };
}

/** One Health.Watch call: the status now, and again whenever it changes. */
class HealthWatch implements StreamHandler {
  readonly #call: StreamCall;
  readonly #watches: Set<HealthWatch>;
  readonly #status: (service: string) => ServingStatus;
  #service: string | undefined;
  #sent: ServingStatus | undefined;

  constructor(call: StreamCall, watches: Set<HealthWatch>, status: (service: string) => ServingStatus) {
    this.#call = call;
    this.#watches = watches;
    this.#status = status;
  }

  message(message: Buffer): void {
    if (this.#service === undefined) this.#service = readHealthRequest(message);
    else this.#call.finish(violation("multiple request messages for"));
  }

  /** Sends the status if it is another one than the last sent. */
  update(): void {
    const status = this.#status(this.#service!);
    if (status === this.#sent || this.#call.bufferedBytes > 0) return;
    this.#sent = status;
    this.#call.write(encodeHealthCheckResponse(status));
  }

  /** Only now it is known that the client sends one request only, as the method has it; the call goes on. */
  halfClose(): void {
    if (this.#service === undefined) {
      this.#call.finish(violation("no request message from"));
      return;
    }
    this.#watches.add(this);
    this.update();
  }

  drain(): void {
    this.update();
  }

  close(): void {
    this.#watches.delete(this);
  }
}
