/** grpc.health.v1.Health: whether this process may answer, for the whole server (service ""). */
import type { Method, StreamCall, StreamHandler, UnaryCall } from "../grpc/method.ts";
import { GrpcCode } from "../grpc/status.ts";
import {
  encodeHealthCheckResponse,
  readHealthCheckRequest,
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
    const status = this.#status(readHealthCheckRequest(message));
    if (status === ServingStatus.serviceUnknown) {
      call.fail({ code: GrpcCode.notFound, message: "unknown service" });
    } else call.reply(encodeHealthCheckResponse(status));
  }
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
    if (this.#service !== undefined) return;
    this.#service = readHealthCheckRequest(message);
    this.#watches.add(this);
    this.update();
  }

  /** Sends the status if it is another one than the last sent. */
  update(): void {
    const status = this.#status(this.#service ?? "");
    if (status === this.#sent || this.#call.bufferedBytes > 0) return;
    this.#sent = status;
    this.#call.write(encodeHealthCheckResponse(status));
  }

  /** The call goes on: the client sends one request only. */
  halfClose(): void {}

  drain(): void {
    this.update();
  }

  close(): void {
    this.#watches.delete(this);
  }
}
