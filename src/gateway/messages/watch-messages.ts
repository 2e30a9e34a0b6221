/** Messages of etcd's Watch service. Field numbers: api/etcdserverpb/rpc.proto and api/mvccpb/kv.proto. */
import type { WatchEvent } from "../../store/types.ts";
import { messageShape, ProtoReader } from "../wire/proto-reader.ts";
import {
  delimitedSize,
  numberFieldSize,
  PREFIX_SIZE_BYTES,
  type ProtoWriter,
  varint64Size,
  varintSize,
  writer,
} from "../wire/proto-writer.ts";
import type { HeaderEncoder } from "./header.ts";
import { keyValueSize, writeKeyValue } from "./kv-responses.ts";

/** Any int64 that a client may choose: a number where that is exact. */
export type WatchId = number | bigint;

/** The id in responses that concern no watcher or all of them. */
export const INVALID_WATCH_ID = -1;

export interface WatchCreateRequest {
  readonly key: string;
  readonly rangeEnd: string;
  readonly startRevision: number;
  readonly progressNotify: boolean;
  readonly noPut: boolean;
  readonly noDelete: boolean;
  readonly prevKv: boolean;
  readonly watchId: WatchId;
  readonly fragment: boolean;
}

export type WatchRequest =
  | { readonly type: "create"; readonly create: WatchCreateRequest }
  | { readonly type: "cancel"; readonly watchId: WatchId }
  | { readonly type: "progress" }
  /** A request of no kind that we know; etcd ignores it. */
  | { readonly type: "unknown" };

const REQUEST = messageShape("WatchRequest", "CreateRequest", "CancelRequest", "ProgressRequest");
const CREATE = messageShape(
  "WatchCreateRequest",
  "Key",
  "RangeEnd",
  "StartRevision",
  "ProgressNotify",
  "Filters",
  "PrevKv",
  "WatchId",
  "Fragment",
);
const CANCEL = messageShape("WatchCancelRequest", "WatchId");
const PROGRESS = messageShape("WatchProgressRequest");

function readWatchId(reader: ProtoReader): WatchId {
  const exact = reader.int64Exact();
  const near = Number(exact);
  return Number.isSafeInteger(near) ? near : exact;
}

export function readWatchRequest(bytes: Buffer): WatchRequest {
  const reader = new ProtoReader(bytes);
  const { end } = reader;
  let request: WatchRequest = { type: "unknown" };
  while (reader.at < end) {
    const tag = reader.tag();
    if (tag === 0x0a) request = { type: "create", create: readCreate(reader, reader.open()) };
    else if (tag === 0x12) request = { type: "cancel", watchId: readCancel(reader, reader.open()) };
    else if (tag === 0x1a) {
      readProgress(reader, reader.open());
      request = { type: "progress" };
    } else reader.skip(tag, REQUEST);
  }
  return request;
}

function readProgress(reader: ProtoReader, end: number): void {
  const outerEnd = reader.end;
  reader.end = end;
  while (reader.at < end) reader.skip(reader.tag(), PROGRESS);
  reader.end = outerEnd;
}

function readCancel(reader: ProtoReader, end: number): WatchId {
  const outerEnd = reader.end;
  reader.end = end;
  let watchId: WatchId = 0;
  while (reader.at < end) {
    const tag = reader.tag();
    if (tag === 0x08) watchId = readWatchId(reader);
    else reader.skip(tag, CANCEL);
  }
  reader.end = outerEnd;
  return watchId;
}

function readCreate(reader: ProtoReader, end: number): WatchCreateRequest {
  let key = "";
  let rangeEnd = "";
  let startRevision = 0;
  let progressNotify = false;
  let noPut = false;
  let noDelete = false;
  let prevKv = false;
  let watchId: WatchId = 0;
  let fragment = false;
  const filter = (kind: number): void => {
    if (kind === 0) noPut = true;
    else if (kind === 1) noDelete = true;
  };
  const outerEnd = reader.end;
  reader.end = end;
  while (reader.at < end) {
    const tag = reader.tag();
    switch (tag) {
      case 0x0a:
        key = reader.byteString();
        break;
      case 0x12:
        rangeEnd = reader.byteString();
        break;
      case 0x18:
        startRevision = reader.int64();
        break;
      case 0x20:
        progressNotify = reader.bool();
        break;
      case 0x28:
        filter(reader.int32());
        break;
      case 0x2a: {
        const listEnd = reader.open();
        while (reader.at < listEnd) filter(reader.int32());
        break;
      }
      case 0x30:
        prevKv = reader.bool();
        break;
      case 0x38:
        watchId = readWatchId(reader);
        break;
      case 0x40:
        fragment = reader.bool();
        break;
      default:
        reader.skip(tag, CREATE);
    }
  }
  reader.end = outerEnd;
  return { key, rangeEnd, startRevision, progressNotify, noPut, noDelete, prevKv, watchId, fragment };
}

/** An event as the whole `events` field of a WatchResponse, ready to be copied into any number of them. */
export function encodeEvent(event: WatchEvent, withPrevKv: boolean): Buffer {
  const prevKv = withPrevKv ? event.prevKv : undefined;
  const typeSize = event.type === "delete" ? 2 : 0;
  const kvSize = delimitedSize(keyValueSize(event.kv));
  const prevKvSize = prevKv === undefined ? 0 : delimitedSize(keyValueSize(prevKv));
  const size = typeSize + kvSize + prevKvSize;
  writer.begin(delimitedSize(size));
  writer.open(0x5a, size);
  if (typeSize !== 0) writer.numberField(0x08, 1);
  writeKeyValue(writer, 0x12, event.kv);
  if (prevKv !== undefined) writeKeyValue(writer, 0x1a, prevKv);
  return writer.finish();
}

function watchIdSize(watchId: WatchId): number {
  if (typeof watchId === "bigint") return 1 + varint64Size(watchId);
  return numberFieldSize(watchId);
}

function writeWatchId(to: ProtoWriter, watchId: WatchId): void {
  if (typeof watchId === "bigint") to.bigField(0x10, watchId);
  else to.numberField(0x10, watchId);
}

/** A response that carries events: which of a watcher's pending ones, and under which revision. */
export interface EventsResponse {
  readonly watchId: WatchId;
  readonly revision: number;
  /** Encoded by encodeEvent. */
  readonly events: readonly Buffer[];
  readonly eventsSizeBytes: number;
  /** More events of the same revision follow in the next response. */
  readonly fragment: boolean;
}

/** Frames of the responses, one after the other in one buffer. */
export function encodeEventsResponses(
  header: HeaderEncoder,
  term: number,
  responses: readonly EventsResponse[],
): Buffer {
  let total = 0;
  for (const response of responses) total += PREFIX_SIZE_BYTES + eventsResponseSize(header, term, response);
  writer.begin(total);
  for (const response of responses) {
    writer.prefix(eventsResponseSize(header, term, response));
    header.write(writer, response.revision, term);
    writeWatchId(writer, response.watchId);
    writer.boolField(0x38, response.fragment);
    for (const event of response.events) writer.raw(event);
  }
  return writer.finish();
}

function eventsResponseSize(header: HeaderEncoder, term: number, response: EventsResponse): number {
  return (
    header.size(response.revision, term) +
    watchIdSize(response.watchId) +
    (response.fragment ? 2 : 0) +
    response.eventsSizeBytes
  );
}

/** A response without events. */
export interface ControlResponse {
  readonly watchId: WatchId;
  readonly revision: number;
  readonly created?: boolean;
  readonly canceled?: boolean;
  readonly compactRevision?: number;
  readonly cancelReason?: string;
}

/** Frame of a response without events (created, canceled, progress). */
export function encodeControlResponse(
  header: HeaderEncoder,
  term: number,
  response: ControlResponse,
): Buffer {
  const { watchId, revision, created = false, canceled = false } = response;
  const { compactRevision = 0, cancelReason = "" } = response;
  const reasonSize = Buffer.byteLength(cancelReason);
  writer.beginFrame(
    header.size(revision, term) +
      watchIdSize(watchId) +
      (created ? 2 : 0) +
      (canceled ? 2 : 0) +
      numberFieldSize(compactRevision) +
      (reasonSize === 0 ? 0 : 1 + varintSize(reasonSize) + reasonSize),
  );
  header.write(writer, revision, term);
  writeWatchId(writer, watchId);
  writer.boolField(0x18, created);
  writer.boolField(0x20, canceled);
  writer.numberField(0x28, compactRevision);
  writer.stringField(0x32, cancelReason);
  return writer.finish();
}
