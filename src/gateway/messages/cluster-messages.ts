/**
 * Messages of etcd's Cluster and Maintenance services and of grpc.health.v1. Field numbers:
 * api/etcdserverpb/rpc.proto and grpc/health/v1/health.proto.
 */
import { isUtf8 } from "node:buffer";
import type { MemberInfo } from "../backend.ts";
import { messageShape, ProtoError, ProtoReader } from "../wire/proto-reader.ts";
import {
  bigFieldSize,
  bytesFieldSize,
  delimitedSize,
  numberFieldSize,
  writer,
} from "../wire/proto-writer.ts";
import type { HeaderEncoder } from "./header.ts";

const MEMBER_LIST = messageShape("MemberListRequest", "Linearizable");
const STATUS = messageShape("StatusRequest");
const ALARM = messageShape("AlarmRequest", "Action", "MemberID", "Alarm");

const textSize = (text: string): number => bytesFieldSize(Buffer.byteLength(text));

/** Strings of a list are there also when they are empty. */
const textsSize = (texts: readonly string[]): number =>
  texts.reduce((size, text) => size + delimitedSize(Buffer.byteLength(text)), 0);

/** `linearizable` of a MemberListRequest. */
export function readMemberListRequest(bytes: Buffer): boolean {
  const reader = new ProtoReader(bytes);
  let linearizable = false;
  while (reader.at < reader.end) {
    const tag = reader.tag();
    if (tag === 0x08) linearizable = reader.bool();
    else reader.skip(tag, MEMBER_LIST);
  }
  return linearizable;
}

function memberSize(member: MemberInfo): number {
  const { id, name, peerUrls, clientUrls } = member;
  return bigFieldSize(id) + textSize(name) + textsSize(peerUrls) + textsSize(clientUrls);
}

/** Frame of a MemberListResponse. Its header has no revision, as in etcd. */
export function encodeMemberList(
  header: HeaderEncoder,
  term: number,
  members: readonly MemberInfo[],
): Buffer {
  let size = header.size(0, term);
  for (const member of members) size += delimitedSize(memberSize(member));
  writer.beginFrame(size);
  header.write(writer, 0, term);
  for (const member of members) {
    writer.open(0x12, memberSize(member));
    writer.bigField(0x08, member.id);
    writer.stringField(0x12, member.name);
    for (const url of member.peerUrls) writer.stringField(0x1a, url, true);
    for (const url of member.clientUrls) writer.stringField(0x22, url, true);
  }
  return writer.finish();
}

/** A StatusRequest says nothing; it has to be one. */
export function checkStatusRequest(bytes: Buffer): void {
  const reader = new ProtoReader(bytes);
  while (reader.at < reader.end) reader.skip(reader.tag(), STATUS);
}

export interface StatusResponse {
  readonly revision: number;
  readonly term: number;
  readonly version: string;
  readonly dbSizeBytes: number;
  readonly leaderId: bigint;
  readonly raftIndex: number;
  readonly raftAppliedIndex: number;
  readonly errors: readonly string[];
  readonly dbSizeInUseBytes: number;
  readonly storageVersion: string;
  readonly dbSizeQuotaBytes: number;
}

/** Frame of a StatusResponse. */
export function encodeStatus(header: HeaderEncoder, status: StatusResponse): Buffer {
  const { revision, term } = status;
  writer.beginFrame(
    header.size(revision, term) +
      textSize(status.version) +
      numberFieldSize(status.dbSizeBytes) +
      bigFieldSize(status.leaderId) +
      numberFieldSize(status.raftIndex) +
      numberFieldSize(term) +
      numberFieldSize(status.raftAppliedIndex) +
      textsSize(status.errors) +
      numberFieldSize(status.dbSizeInUseBytes) +
      textSize(status.storageVersion) +
      numberFieldSize(status.dbSizeQuotaBytes) +
      delimitedSize(0),
  );
  header.write(writer, revision, term);
  writer.stringField(0x12, status.version);
  writer.numberField(0x18, status.dbSizeBytes);
  writer.bigField(0x20, status.leaderId);
  writer.numberField(0x28, status.raftIndex);
  writer.numberField(0x30, term);
  writer.numberField(0x38, status.raftAppliedIndex);
  for (const error of status.errors) writer.stringField(0x42, error, true);
  writer.numberField(0x48, status.dbSizeInUseBytes);
  writer.stringField(0x5a, status.storageVersion);
  writer.numberField(0x60, status.dbSizeQuotaBytes);
  // downgradeInfo: there, and empty, as long as no downgrade is under way.
  writer.open(0x6a, 0);
  return writer.finish();
}

export const AlarmAction = { get: 0, activate: 1, deactivate: 2 } as const;

/** `action` of an AlarmRequest; any number that a client sends. */
export function readAlarmAction(bytes: Buffer): number {
  const reader = new ProtoReader(bytes);
  let action = 0;
  while (reader.at < reader.end) {
    const tag = reader.tag();
    if (tag === 0x08) action = reader.int32();
    else if (tag === 0x10) reader.int64();
    else if (tag === 0x18) reader.int32();
    else reader.skip(tag, ALARM);
  }
  return action;
}

/** AlarmType.NOSPACE. */
const NO_SPACE = 1;

/** Frame of an AlarmResponse: the members with a NOSPACE alarm. */
export function encodeAlarms(
  header: HeaderEncoder,
  term: number,
  revision: number,
  noSpaceMembers: readonly bigint[],
): Buffer {
  const alarmSize = (id: bigint): number => bigFieldSize(id) + numberFieldSize(NO_SPACE);
  let size = header.size(revision, term);
  for (const id of noSpaceMembers) size += delimitedSize(alarmSize(id));
  writer.beginFrame(size);
  header.write(writer, revision, term);
  for (const id of noSpaceMembers) {
    writer.open(0x12, alarmSize(id));
    writer.bigField(0x08, id);
    writer.numberField(0x10, NO_SPACE);
  }
  return writer.finish();
}

/** The health service is not generated by gogo/protobuf: a known field of a wrong type is an unknown one. */
const HEALTH = messageShape("HealthCheckRequest");
const HEALTH_SERVICE = 0x0a;

/** `service` of a HealthCheckRequest, and nothing of a HealthListRequest. */
export function readHealthRequest(bytes: Buffer): string {
  let service: Buffer | undefined;
  try {
    const reader = new ProtoReader(bytes);
    while (reader.at < reader.end) {
      const tag = reader.tag();
      if (tag === HEALTH_SERVICE) service = reader.view();
      else reader.skip(tag, HEALTH);
    }
  } catch (error) {
    if (error instanceof ProtoError) throw new ProtoError("proto: cannot parse invalid wire-format data");
    throw error;
  }
  if (service === undefined) return "";
  if (!isUtf8(service)) throw new ProtoError("string field contains invalid UTF-8");
  return service.toString();
}

export const ServingStatus = { serving: 1, notServing: 2, serviceUnknown: 3 } as const;
export type ServingStatus = (typeof ServingStatus)[keyof typeof ServingStatus];

/** Frame of a HealthCheckResponse. */
export function encodeHealthCheckResponse(status: ServingStatus): Buffer {
  writer.beginFrame(2);
  writer.numberField(0x08, status);
  return writer.finish();
}

/** Frame of a HealthListResponse: the whole server, which is all that there is. */
export function encodeHealthListResponse(status: ServingStatus): Buffer {
  writer.beginFrame(8);
  writer.open(0x0a, 6);
  writer.open(0x0a, 0);
  writer.open(0x12, 2);
  writer.numberField(0x08, status);
  return writer.finish();
}
