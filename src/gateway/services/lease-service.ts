/** etcdserverpb.Lease. Leases live by the agreed time of executed batches, so renewing one is ordered too. */
import type { BackendErrorCode, OperationResult } from "../../store/types.ts";
import { BACKEND_STATUS, STORE_STATUS } from "../errors.ts";
import type { Method, StreamCall, StreamHandler, UnaryCall } from "../grpc/method.ts";
import { encodeHeaderResponse } from "../messages/kv-responses.ts";
import {
  checkLeaseLeasesRequest,
  encodeLeases,
  encodeLeaseTimeToLive,
  encodeLeaseTtl,
  readLeaseGrantRequest,
  readLeaseKeepAliveRequest,
  readLeaseRevokeRequest,
  readLeaseTimeToLiveRequest,
} from "../messages/lease-messages.ts";
import { type ServiceContext, streaming, unary } from "./context.ts";
import { unexpected } from "./kv-service.ts";

export class LeaseService {
  readonly methods: readonly Method[];
  readonly #context: ServiceContext;

  constructor(context: ServiceContext) {
    this.#context = context;
    const path = "/etcdserverpb.Lease";
    this.methods = [
      unary(`${path}/LeaseGrant`, (message, call) => this.#grant(message, call)),
      unary(`${path}/LeaseRevoke`, (message, call) => this.#revoke(message, call)),
      unary(`${path}/LeaseTimeToLive`, (message, call) => this.#timeToLive(message, call)),
      unary(`${path}/LeaseLeases`, (message, call) => this.#leases(message, call)),
      streaming(`${path}/LeaseKeepAlive`, (call) => new KeepAliveStream(this.#context, call)),
    ];
  }

  #grant(message: Buffer, call: UnaryCall): void {
    const { id: asked, ttlSeconds } = readLeaseGrantRequest(message);
    const id = asked === 0n ? this.#context.backend.newLeaseId() : asked;
    this.#context.submit(call, message.length, { type: "leaseGrant", id, ttlSeconds }, (result) => {
      if (result.type !== "leaseGrant") return unexpected(call, result.type);
      call.reply(encodeLeaseTtl(this.#context.header, this.#context.term, result));
    });
  }

  #revoke(message: Buffer, call: UnaryCall): void {
    const id = readLeaseRevokeRequest(message);
    this.#context.submit(call, message.length, { type: "leaseRevoke", id }, (result) => {
      if (result.type !== "leaseRevoke") return unexpected(call, result.type);
      call.reply(encodeHeaderResponse(this.#context.header, this.#context.term, result.revision));
    });
  }

  #timeToLive(message: Buffer, call: UnaryCall): void {
    const { id, keys } = readLeaseTimeToLiveRequest(message);
    this.#context.fenced(call, () => {
      const { backend, header, term, revision } = this.#context;
      const { store } = backend;
      const lease = store.leaseTimeToLive(id);
      const remainingMs = lease === undefined ? 0 : Math.max(lease.expiresAtMs - store.timeMs, 0);
      call.reply(
        encodeLeaseTimeToLive(header, term, {
          revision,
          id,
          // etcd's answer for a lease that it does not know.
          ttlSeconds: lease === undefined ? -1 : Math.floor(remainingMs / 1000),
          grantedTtlSeconds: lease?.grantedTtlSeconds ?? 0,
          keys: keys ? (lease?.keys ?? []) : [],
        }),
      );
    });
  }

  #leases(message: Buffer, call: UnaryCall): void {
    checkLeaseLeasesRequest(message);
    this.#context.fenced(call, () => {
      const { backend, header, term, revision } = this.#context;
      call.reply(encodeLeases(header, term, revision, backend.store.leases()));
    });
  }
}

/** One LeaseKeepAlive call: renewals are ordered, and answered in the order in which they came. */
class KeepAliveStream implements StreamHandler {
  readonly #context: ServiceContext;
  readonly #call: StreamCall;
  /** Answers in the order of the requests; undefined where one is still to come. */
  readonly #answers: { frame: Buffer | undefined }[] = [];
  #halfClosed = false;
  #paused = false;

  constructor(context: ServiceContext, call: StreamCall) {
    this.#context = context;
    this.#call = call;
  }

  message(message: Buffer): void {
    const id = readLeaseKeepAliveRequest(message);
    const { backend } = this.#context;
    const reason = backend.unavailable();
    if (reason !== undefined) {
      this.#call.finish(BACKEND_STATUS[reason]);
      return;
    }
    const answer: { frame: Buffer | undefined } = { frame: undefined };
    this.#answers.push(answer);
    backend.submit({ type: "leaseKeepAlive", id }, (result) => this.#answered(answer, result));
    this.#balance();
  }

  #answered(answer: { frame: Buffer | undefined }, result: OperationResult | BackendErrorCode): void {
    if (this.#call.finished) return;
    if (typeof result === "string") {
      this.#call.finish(BACKEND_STATUS[result]);
      return;
    }
    if (result.type === "error") {
      this.#call.finish(STORE_STATUS[result.error]);
      return;
    }
    if (result.type !== "leaseKeepAlive") {
      throw new TypeError(`the backend answered a keep-alive with a result of kind ${result.type}`);
    }
    answer.frame = encodeLeaseTtl(this.#context.header, this.#context.term, result);
    this.#flush();
  }

  #flush(): void {
    while (this.#answers.length > 0 && this.#answers[0]!.frame !== undefined) {
      this.#call.write(this.#answers.shift()!.frame!);
    }
    if (this.#halfClosed && this.#answers.length === 0) this.#call.finish();
    else this.#balance();
  }

  /** Reads no further requests while too many wait for an answer, or answers for the client. */
  #balance(): void {
    const { keepAlivesPerStreamMax, watchBufferSizeBytesMax } = this.#context.limits;
    const full =
      this.#answers.length >= keepAlivesPerStreamMax || this.#call.bufferedBytes >= watchBufferSizeBytesMax;
    if (full === this.#paused || this.#call.finished) return;
    this.#paused = full;
    if (full) this.#call.pause();
    else this.#call.resume();
  }

  halfClose(): void {
    this.#halfClosed = true;
    if (this.#answers.length === 0) this.#call.finish();
  }

  drain(): void {
    this.#balance();
  }

  close(): void {
    this.#answers.length = 0;
  }
}
