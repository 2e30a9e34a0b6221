/**
 * The bytes that members sign. Each statement begins with its kind and the membership digest (which binds
 * cluster and view), so that nothing signed for one purpose, cluster, view, regency or instance can pass for
 * another. Each is a view that is good until the next statement is made: sign or check it at once.
 */
import { Writer } from "../base/codec.ts";

const scratch = new Writer(256);

/**
 * Signed once per ballot (cid, regency): the signer found this value right. The leader's is in its PROPOSE, so
 * that two proposals in one ballot are two WRITEs, which anybody can hold against it.
 */
export function writeStatement(
  membershipDigest: Uint8Array,
  regency: number,
  cid: number,
  digest: Uint8Array,
): Uint8Array {
  return scratch.byteString("kmmr/write/1").raw(membershipDigest).u53(regency).u53(cid).raw(digest).view();
}

/**
 * Signed once per ballot, after it is durable: the signer saw a quorum of WRITEs. `executionHash` is the
 * signer's execution up to `executedCid` (0 and zeros when it names none).
 */
export function acceptStatement(
  membershipDigest: Uint8Array,
  regency: number,
  cid: number,
  digest: Uint8Array,
  executedCid: number,
  executionHash: Uint8Array,
): Uint8Array {
  return scratch
    .byteString("kmmr/accept/1")
    .raw(membershipDigest)
    .u53(regency)
    .u53(cid)
    .raw(digest)
    .u53(executedCid)
    .raw(executionHash)
    .view();
}

/** Signed to leave every regency below `regency`. */
export function stopStatement(membershipDigest: Uint8Array, regency: number): Uint8Array {
  return scratch.byteString("kmmr/stop/1").raw(membershipDigest).u53(regency).view();
}

/** Signed over the body of a STOPDATA, which names its regency itself. */
export function stopDataStatement(membershipDigest: Uint8Array, body: Uint8Array): Uint8Array {
  return scratch.byteString("kmmr/stopdata/1").raw(membershipDigest).bytes(body).view();
}

/** Signed by the origin of a bundle over its digest. */
export function bundleStatement(membershipDigest: Uint8Array, digest: Uint8Array): Uint8Array {
  return scratch.byteString("kmmr/bundle/1").raw(membershipDigest).raw(digest).view();
}

/** Signed by a voter whose state after instance `cid` has this Merkle root. */
export function checkpointStatement(membershipDigest: Uint8Array, cid: number, root: Uint8Array): Uint8Array {
  return scratch.byteString("kmmr/checkpoint/1").raw(membershipDigest).u53(cid).raw(root).view();
}

/** Signed by the leader of a regency over the content of its one SYNC. */
export function syncStatement(membershipDigest: Uint8Array, content: Uint8Array): Uint8Array {
  return scratch.byteString("kmmr/sync/1").raw(membershipDigest).bytes(content).view();
}
