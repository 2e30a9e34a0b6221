/** Messages of etcd's Lease service. Field numbers: api/etcdserverpb/rpc.proto. */
import { type MessageShape, messageShape, ProtoReader } from "../wire/proto-reader.ts";
import { bigFieldSize, delimitedSize, numberFieldSize, writer } from "../wire/proto-writer.ts";
import type { HeaderEncoder } from "./header.ts";

const GRANT = messageShape("LeaseGrantRequest", "TTL", "ID");
const REVOKE = messageShape("LeaseRevokeRequest", "ID");
const KEEP_ALIVE = messageShape("LeaseKeepAliveRequest", "ID");
const TIME_TO_LIVE = messageShape("LeaseTimeToLiveRequest", "ID", "Keys");
const LEASES = messageShape("LeaseLeasesRequest");

export interface LeaseGrantRequest {
  /** 0n: the server chooses. */
  readonly id: bigint;
  readonly ttlSeconds: number;
}

export function readLeaseGrantRequest(bytes: Buffer): LeaseGrantRequest {
  const reader = new ProtoReader(bytes);
  let id = 0n;
  let ttlSeconds = 0;
  while (reader.at < reader.end) {
    const tag = reader.tag();
    if (tag === 0x08) ttlSeconds = reader.int64();
    else if (tag === 0x10) id = reader.int64Exact();
    else reader.skip(tag, GRANT);
  }
  const { MAX_SAFE_INTEGER } = Number;
  return { id, ttlSeconds: Math.min(Math.max(ttlSeconds, -MAX_SAFE_INTEGER), MAX_SAFE_INTEGER) };
}

/** The ID of a LeaseRevokeRequest. */
export function readLeaseRevokeRequest(bytes: Buffer): bigint {
  return readLeaseId(bytes, REVOKE);
}

/** The ID of a LeaseKeepAliveRequest. */
export function readLeaseKeepAliveRequest(bytes: Buffer): bigint {
  return readLeaseId(bytes, KEEP_ALIVE);
}

function readLeaseId(bytes: Buffer, shape: MessageShape): bigint {
  const reader = new ProtoReader(bytes);
  let id = 0n;
  while (reader.at < reader.end) {
    const tag = reader.tag();
    if (tag === 0x08) id = reader.int64Exact();
    else reader.skip(tag, shape);
  }
  return id;
}

export interface LeaseTimeToLiveRequest {
  readonly id: bigint;
  /** Whether the keys of the lease are wanted. */
  readonly keys: boolean;
}

export function readLeaseTimeToLiveRequest(bytes: Buffer): LeaseTimeToLiveRequest {
  const reader = new ProtoReader(bytes);
  let id = 0n;
  let keys = false;
  while (reader.at < reader.end) {
    const tag = reader.tag();
    if (tag === 0x08) id = reader.int64Exact();
    else if (tag === 0x10) keys = reader.bool();
    else reader.skip(tag, TIME_TO_LIVE);
  }
  return { id, keys };
}

/** A LeaseLeasesRequest says nothing; it has to be one. */
export function checkLeaseLeasesRequest(bytes: Buffer): void {
  const reader = new ProtoReader(bytes);
  while (reader.at < reader.end) reader.skip(reader.tag(), LEASES);
}

/** What LeaseGrantResponse and LeaseKeepAliveResponse say. */
export interface LeaseTtl {
  readonly revision: number;
  readonly id: bigint;
  readonly ttlSeconds: number;
}

/** Frame of a LeaseGrantResponse or a LeaseKeepAliveResponse, which look the same. */
export function encodeLeaseTtl(header: HeaderEncoder, term: number, lease: LeaseTtl): Buffer {
  const { revision, id, ttlSeconds } = lease;
  writer.beginFrame(header.size(revision, term) + bigFieldSize(id) + numberFieldSize(ttlSeconds));
  header.write(writer, revision, term);
  writer.bigField(0x10, id);
  writer.numberField(0x18, ttlSeconds);
  return writer.finish();
}

export interface LeaseTimeToLive extends LeaseTtl {
  readonly grantedTtlSeconds: number;
  readonly keys: readonly string[];
}

/** Frame of a LeaseTimeToLiveResponse. */
export function encodeLeaseTimeToLive(header: HeaderEncoder, term: number, lease: LeaseTimeToLive): Buffer {
  const { revision, id, ttlSeconds, grantedTtlSeconds, keys } = lease;
  let size = header.size(revision, term) + bigFieldSize(id) + numberFieldSize(ttlSeconds);
  size += numberFieldSize(grantedTtlSeconds);
  for (const key of keys) size += delimitedSize(key.length);
  writer.beginFrame(size);
  header.write(writer, revision, term);
  writer.bigField(0x10, id);
  writer.numberField(0x18, ttlSeconds);
  writer.numberField(0x20, grantedTtlSeconds);
  for (const key of keys) writer.byteStringField(0x2a, key, true);
  return writer.finish();
}

/** Frame of a LeaseLeasesResponse. */
export function encodeLeases(
  header: HeaderEncoder,
  term: number,
  revision: number,
  ids: readonly bigint[],
): Buffer {
  let size = header.size(revision, term);
  for (const id of ids) size += delimitedSize(bigFieldSize(id));
  writer.beginFrame(size);
  header.write(writer, revision, term);
  for (const id of ids) {
    writer.open(0x12, bigFieldSize(id));
    writer.bigField(0x08, id);
  }
  return writer.finish();
}
