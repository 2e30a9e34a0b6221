/** etcdserverpb.KV: Range, Put, DeleteRange, Txn and Compact. */
import { checkDeleteRange, checkPut, checkRange, checkTxn } from "../../store/request-checks.ts";
import { isReadOnlyTxn } from "../../store/txn.ts";
import { type RangeRequest, type RequestOp, StoreErrorCode, type TxnRequest } from "../../store/types.ts";
import { BACKEND_STATUS, STORE_STATUS } from "../errors.ts";
import type { Method, UnaryCall } from "../grpc/method.ts";
import {
  EMPTY_OP_PLACEHOLDERS,
  EmptyRequestOpError,
  readCompactionRequest,
  readDeleteRangeRequest,
  readMessage,
  readPutRequest,
  readRangeRequest,
  readTxnRequest,
} from "../messages/kv-requests.ts";
import {
  encodeDeleteRangeResponse,
  encodeHeaderResponse,
  encodePutResponse,
  encodeRangeResponse,
  encodeTxnResponse,
} from "../messages/kv-responses.ts";
import { type ServiceContext, unary } from "./context.ts";

export class KvService {
  readonly methods: readonly Method[];
  readonly #context: ServiceContext;

  constructor(context: ServiceContext) {
    this.#context = context;
    const path = "/etcdserverpb.KV";
    this.methods = [
      unary(`${path}/Range`, (message, call) => this.#range(message, call)),
      unary(`${path}/Put`, (message, call) => this.#put(message, call)),
      unary(`${path}/DeleteRange`, (message, call) => this.#deleteRange(message, call)),
      unary(`${path}/Txn`, (message, call) => this.#txn(message, call)),
      unary(`${path}/Compact`, (message, call) => this.#compact(message, call)),
    ];
  }

  #range(message: Buffer, call: UnaryCall): void {
    const request = readMessage(message, readRangeRequest);
    if (failed(call, checkRange(request)) || this.#overloaded(call)) return;
    this.#read(call, request.serializable, () => this.#replyRange(call, request));
  }

  #replyRange(call: UnaryCall, request: RangeRequest): void {
    const { backend, header, term } = this.#context;
    call.reply(encodeRangeResponse(header, term, backend.store.range(request)));
  }

  /** Reads at once, or after a fence when the read has to be linearizable. */
  #read(call: UnaryCall, serializable: boolean, read: () => void): void {
    if (!serializable) this.#context.fenced(call, read);
    else if (!this.#context.refused(call)) read();
  }

  /** Refuses reads while too much of earlier ones waits for slow clients. */
  #overloaded(call: UnaryCall): boolean {
    const { pendingResponses, limits } = this.#context;
    if (pendingResponses.sizeBytes <= limits.pendingResponsesSizeBytesMax) return false;
    call.fail(BACKEND_STATUS.tooManyRequests);
    return true;
  }

  #put(message: Buffer, call: UnaryCall): void {
    const put = readMessage(message, readPutRequest);
    if (failed(call, checkPut(put))) return;
    this.#context.submit(call, message.length, { type: "put", put }, (result) => {
      if (result.type !== "put") return unexpected(call, result.type);
      call.reply(encodePutResponse(this.#context.header, this.#context.term, result.put));
    });
  }

  #deleteRange(message: Buffer, call: UnaryCall): void {
    const deleteRange = readMessage(message, readDeleteRangeRequest);
    if (failed(call, checkDeleteRange(deleteRange))) return;
    this.#context.submit(call, message.length, { type: "deleteRange", deleteRange }, (result) => {
      if (result.type !== "deleteRange") return unexpected(call, result.type);
      call.reply(encodeDeleteRangeResponse(this.#context.header, this.#context.term, result.deleteRange));
    });
  }

  #txn(message: Buffer, call: UnaryCall): void {
    const txn = readTxn(message);
    if (typeof txn === "string") {
      call.fail(STORE_STATUS[txn]);
      return;
    }
    if (failed(call, checkTxn(txn))) return;
    if (isReadOnlyTxn(txn)) {
      if (this.#overloaded(call)) return;
      this.#read(call, isSerializableTxn(txn), () => {
        const { backend, header, term } = this.#context;
        call.reply(encodeTxnResponse(header, term, backend.store.readTxn(txn)));
      });
      return;
    }
    this.#context.submit(call, message.length, { type: "txn", txn }, (result) => {
      if (result.type !== "txn") return unexpected(call, result.type);
      call.reply(encodeTxnResponse(this.#context.header, this.#context.term, result.txn));
    });
  }

  #compact(message: Buffer, call: UnaryCall): void {
    const revision = readCompactionRequest(message);
    this.#context.submit(call, message.length, { type: "compact", revision }, (result) => {
      if (result.type !== "compact") return unexpected(call, result.type);
      call.reply(encodeHeaderResponse(this.#context.header, this.#context.term, result.revision));
    });
  }
}

/** Reads a TxnRequest; the code of its refusal when it has an operation of no kind. */
function readTxn(message: Buffer): TxnRequest | StoreErrorCode {
  try {
    return readMessage(message, (reader, end) => readTxnRequest(reader, end));
  } catch (error) {
    if (!(error instanceof EmptyRequestOpError)) throw error;
  }
  // etcd answers with the first mistake of a request. If it matters what stands for the empty operation,
  // that one is the first.
  const [first, second] = EMPTY_OP_PLACEHOLDERS.map((placeholder) =>
    checkTxn(readMessage(message, (reader, end) => readTxnRequest(reader, end, placeholder))),
  );
  return first === second && first !== undefined ? first : StoreErrorCode.keyNotFound;
}

/** Whether no range of a read-only Txn asks for the newest state. One without operations does. */
function isSerializableTxn(txn: TxnRequest): boolean {
  const serializable = (op: RequestOp): boolean => op.type === "range" && op.range.serializable;
  if (txn.success.length === 0 && txn.failure.length === 0) return false;
  return txn.success.every(serializable) && txn.failure.every(serializable);
}

/** Fails the call when a check refused its request. */
function failed(call: UnaryCall, code: StoreErrorCode | undefined): boolean {
  if (code === undefined) return false;
  call.fail(STORE_STATUS[code]);
  return true;
}

/** A result of another kind than its operation is a bug of the process behind. */
export function unexpected(_call: UnaryCall, type: string): never {
  throw new TypeError(`the backend answered an operation with a result of kind ${type}`);
}
