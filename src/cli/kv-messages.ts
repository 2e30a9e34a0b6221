/**
 * The few messages of etcd's KV service that the command writes and reads. Field numbers:
 * api/etcdserverpb/rpc.proto and api/mvccpb/kv.proto.
 */
import { ProtoReader } from "../gateway/wire/proto-reader.ts";

/** A key as it is shown; key and value as UTF-8. */
export interface ShownKey {
  readonly key: string;
  readonly value: string;
  readonly modRevision: number;
  readonly version: number;
}

/** A field of bytes: tag, length, content. */
export function bytesField(field: number, content: Buffer): Buffer {
  const head = [(field << 3) | 2];
  let size = content.length;
  for (; size >= 0x80; size = Math.floor(size / 0x80)) head.push((size & 0x7f) | 0x80);
  head.push(size);
  return Buffer.concat([Buffer.from(head), content]);
}

/** The end of the range of all keys with this prefix; "\0" when there is no such key. */
export function prefixEnd(prefix: Buffer): Buffer {
  const end = Buffer.from(prefix);
  for (let last = end.length - 1; last >= 0; last--) {
    if (end[last]! < 0xff) {
      end[last]! += 1;
      return end.subarray(0, last + 1);
    }
  }
  return Buffer.from([0]);
}

/** The revision in the header that every response starts with. */
export function readRevision(bytes: Buffer): number {
  const reader = new ProtoReader(bytes);
  return reader.tag() === 0x0a ? headerRevision(reader) : 0;
}

function headerRevision(reader: ProtoReader): number {
  const outerEnd = reader.end;
  const end = reader.open();
  reader.end = end;
  let revision = 0;
  while (reader.at < end) {
    const tag = reader.tag();
    if (tag === 0x18) revision = reader.int64();
    else reader.skip(tag);
  }
  reader.end = outerEnd;
  return revision;
}

function readKey(reader: ProtoReader): ShownKey {
  const outerEnd = reader.end;
  const end = reader.open();
  reader.end = end;
  let key = "";
  let value = "";
  let modRevision = 0;
  let version = 0;
  while (reader.at < end) {
    const tag = reader.tag();
    if (tag === 0x0a) key = reader.string();
    else if (tag === 0x18) modRevision = reader.int64();
    else if (tag === 0x20) version = reader.int64();
    else if (tag === 0x2a) value = reader.string();
    else reader.skip(tag);
  }
  reader.end = outerEnd;
  return { key, value, modRevision, version };
}

/** The keys of a RangeResponse. */
export function readRange(bytes: Buffer): ShownKey[] {
  const reader = new ProtoReader(bytes);
  const keys: ShownKey[] = [];
  while (reader.at < reader.end) {
    const tag = reader.tag();
    if (tag === 0x12) keys.push(readKey(reader));
    else reader.skip(tag);
  }
  return keys;
}
