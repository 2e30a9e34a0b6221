/** etcd's ResponseHeader, most of which never changes within a process. */
import {
  bigFieldSize,
  delimitedSize,
  numberFieldSize,
  type ProtoWriter,
  writer,
} from "../wire/proto-writer.ts";

/** Writes `header = 1` of every response: ids encoded once, revision and term each time. */
export class HeaderEncoder {
  readonly #ids: Buffer;

  constructor(clusterId: bigint, memberId: bigint) {
    writer.begin(bigFieldSize(clusterId) + bigFieldSize(memberId));
    writer.bigField(0x08, clusterId);
    writer.bigField(0x10, memberId);
    this.#ids = writer.finish();
  }

  #contentSize(revision: number, term: number): number {
    return this.#ids.length + numberFieldSize(revision) + numberFieldSize(term);
  }

  /** Size of the whole field. */
  size(revision: number, term: number): number {
    return delimitedSize(this.#contentSize(revision, term));
  }

  /** `revision` 0 leaves it out, as the responses of the Cluster service do. */
  write(to: ProtoWriter, revision: number, term: number): void {
    to.open(0x0a, this.#contentSize(revision, term));
    to.raw(this.#ids);
    to.numberField(0x18, revision);
    to.numberField(0x20, term);
  }
}

/** Size of the header of a response inside a TxnResponse: nothing but the revision, a nested txn's not even that. */
export function innerHeaderSize(revision: number): number {
  return 2 + numberFieldSize(revision);
}

/** Writes the header of a response inside a TxnResponse. */
export function writeInnerHeader(to: ProtoWriter, revision: number): void {
  to.open(0x0a, numberFieldSize(revision));
  to.numberField(0x18, revision);
}
