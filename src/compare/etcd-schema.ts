/**
 * The part of etcd's v3 API that the comparison speaks, written from its public definition and apart from the
 * gateway's own, so that a wrong field number in one of them shows.
 */
import { type Schema, schema } from "./wire.ts";

const header: Schema = schema("ResponseHeader", {
  cluster_id: [1, "unsignedId"],
  member_id: [2, "unsignedId"],
  revision: [3, "int"],
  raft_term: [4, "int"],
});

const keyValue: Schema = schema("KeyValue", {
  key: [1, "bytes"],
  create_revision: [2, "int"],
  mod_revision: [3, "int"],
  version: [4, "int"],
  value: [5, "bytes"],
  lease: [6, "id"],
});

const event: Schema = schema("Event", {
  type: [1, "int"],
  kv: [2, () => keyValue],
  prev_kv: [3, () => keyValue],
});

const rangeRequest: Schema = schema("RangeRequest", {
  key: [1, "bytes"],
  range_end: [2, "bytes"],
  limit: [3, "int"],
  revision: [4, "int"],
  sort_order: [5, "int"],
  sort_target: [6, "int"],
  serializable: [7, "bool"],
  keys_only: [8, "bool"],
  count_only: [9, "bool"],
  min_mod_revision: [10, "int"],
  max_mod_revision: [11, "int"],
  min_create_revision: [12, "int"],
  max_create_revision: [13, "int"],
});

const rangeResponse: Schema = schema("RangeResponse", {
  header: [1, () => header],
  kvs: [2, () => keyValue, "repeated"],
  more: [3, "bool"],
  count: [4, "int"],
});

const putRequest: Schema = schema("PutRequest", {
  key: [1, "bytes"],
  value: [2, "bytes"],
  lease: [3, "id"],
  prev_kv: [4, "bool"],
  ignore_value: [5, "bool"],
  ignore_lease: [6, "bool"],
});

const putResponse: Schema = schema("PutResponse", {
  header: [1, () => header],
  prev_kv: [2, () => keyValue],
});

const deleteRangeRequest: Schema = schema("DeleteRangeRequest", {
  key: [1, "bytes"],
  range_end: [2, "bytes"],
  prev_kv: [3, "bool"],
});

const deleteRangeResponse: Schema = schema("DeleteRangeResponse", {
  header: [1, () => header],
  deleted: [2, "int"],
  prev_kvs: [3, () => keyValue, "repeated"],
});

const compare: Schema = schema("Compare", {
  result: [1, "int"],
  target: [2, "int"],
  key: [3, "bytes"],
  version: [4, "int"],
  create_revision: [5, "int"],
  mod_revision: [6, "int"],
  value: [7, "bytes"],
  lease: [8, "id"],
  range_end: [64, "bytes"],
});

const requestOp: Schema = schema("RequestOp", {
  request_range: [1, () => rangeRequest],
  request_put: [2, () => putRequest],
  request_delete_range: [3, () => deleteRangeRequest],
  request_txn: [4, () => txnRequest],
});

const txnRequest: Schema = schema("TxnRequest", {
  compare: [1, () => compare, "repeated"],
  success: [2, () => requestOp, "repeated"],
  failure: [3, () => requestOp, "repeated"],
});

const responseOp: Schema = schema("ResponseOp", {
  response_range: [1, () => rangeResponse],
  response_put: [2, () => putResponse],
  response_delete_range: [3, () => deleteRangeResponse],
  response_txn: [4, () => txnResponse],
});

const txnResponse: Schema = schema("TxnResponse", {
  header: [1, () => header],
  succeeded: [2, "bool"],
  responses: [3, () => responseOp, "repeated"],
});

const leaseStatus: Schema = schema("LeaseStatus", { ID: [1, "id"] });
const alarmMember: Schema = schema("AlarmMember", { memberID: [1, "unsignedId"], alarm: [2, "int"] });

export const watchRequest: Schema = schema("WatchRequest", {
  create_request: [
    1,
    () =>
      schema("WatchCreateRequest", {
        key: [1, "bytes"],
        range_end: [2, "bytes"],
        start_revision: [3, "int"],
        progress_notify: [4, "bool"],
        // A packed list of small enums is one byte each: "\0" leaves out puts, "\x01" deletes.
        filters: [5, "bytes"],
        prev_kv: [6, "bool"],
        watch_id: [7, "int"],
        fragment: [8, "bool"],
      }),
  ],
  cancel_request: [2, () => schema("WatchCancelRequest", { watch_id: [1, "int"] })],
  progress_request: [3, () => schema("WatchProgressRequest", {})],
});

export const watchResponse: Schema = schema("WatchResponse", {
  header: [1, () => header],
  watch_id: [2, "int"],
  created: [3, "bool"],
  canceled: [4, "bool"],
  compact_revision: [5, "int"],
  cancel_reason: [6, "string"],
  fragment: [7, "bool"],
  events: [11, () => event, "repeated"],
});

/** One RPC: its path on the wire and its messages. */
export interface Rpc {
  readonly path: string;
  readonly request: Schema;
  readonly response: Schema;
}

function rpc(path: string, request: Schema, response: Schema): Rpc {
  return { path: `/etcdserverpb.${path}`, request, response };
}

export const rpcs = {
  range: rpc("KV/Range", rangeRequest, rangeResponse),
  put: rpc("KV/Put", putRequest, putResponse),
  deleteRange: rpc("KV/DeleteRange", deleteRangeRequest, deleteRangeResponse),
  txn: rpc("KV/Txn", txnRequest, txnResponse),
  compact: rpc(
    "KV/Compact",
    schema("CompactionRequest", { revision: [1, "int"], physical: [2, "bool"] }),
    schema("CompactionResponse", { header: [1, () => header] }),
  ),
  leaseGrant: rpc(
    "Lease/LeaseGrant",
    schema("LeaseGrantRequest", { TTL: [1, "int"], ID: [2, "id"] }),
    schema("LeaseGrantResponse", {
      header: [1, () => header],
      ID: [2, "id"],
      TTL: [3, "int"],
      error: [4, "string"],
    }),
  ),
  leaseRevoke: rpc(
    "Lease/LeaseRevoke",
    schema("LeaseRevokeRequest", { ID: [1, "id"] }),
    schema("LeaseRevokeResponse", { header: [1, () => header] }),
  ),
  leaseKeepAlive: rpc(
    "Lease/LeaseKeepAlive",
    schema("LeaseKeepAliveRequest", { ID: [1, "id"] }),
    schema("LeaseKeepAliveResponse", { header: [1, () => header], ID: [2, "id"], TTL: [3, "int"] }),
  ),
  leaseTimeToLive: rpc(
    "Lease/LeaseTimeToLive",
    schema("LeaseTimeToLiveRequest", { ID: [1, "id"], keys: [2, "bool"] }),
    schema("LeaseTimeToLiveResponse", {
      header: [1, () => header],
      ID: [2, "id"],
      TTL: [3, "int"],
      grantedTTL: [4, "int"],
      keys: [5, "bytes", "repeated"],
    }),
  ),
  leaseLeases: rpc(
    "Lease/LeaseLeases",
    schema("LeaseLeasesRequest", {}),
    schema("LeaseLeasesResponse", { header: [1, () => header], leases: [2, () => leaseStatus, "repeated"] }),
  ),
  alarm: rpc(
    "Maintenance/Alarm",
    schema("AlarmRequest", { action: [1, "int"], memberID: [2, "unsignedId"], alarm: [3, "int"] }),
    schema("AlarmResponse", { header: [1, () => header], alarms: [2, () => alarmMember, "repeated"] }),
  ),
  watch: rpc("Watch/Watch", watchRequest, watchResponse),
} satisfies { readonly [name: string]: Rpc };

export type RpcName = keyof typeof rpcs;
