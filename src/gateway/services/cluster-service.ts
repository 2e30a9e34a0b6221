/** etcdserverpb.Cluster.MemberList, and of etcdserverpb.Maintenance what only reads: Status and Alarm (get). */

import type { Method, UnaryCall } from "../grpc/method.ts";
import { GrpcCode } from "../grpc/status.ts";
import {
  AlarmAction,
  checkStatusRequest,
  encodeAlarms,
  encodeMemberList,
  encodeStatus,
  readAlarmAction,
  readMemberListRequest,
} from "../messages/cluster-messages.ts";
import { SERVER_VERSION, type ServiceContext, STORAGE_VERSION, unary } from "./context.ts";

export class ClusterService {
  readonly methods: readonly Method[];
  readonly #context: ServiceContext;

  constructor(context: ServiceContext) {
    this.#context = context;
    this.methods = [
      unary("/etcdserverpb.Cluster/MemberList", (message, call) => this.#memberList(message, call)),
      unary("/etcdserverpb.Maintenance/Status", (message, call) => this.#status(message, call)),
      unary("/etcdserverpb.Maintenance/Alarm", (message, call) => this.#alarm(message, call)),
    ];
  }

  #memberList(message: Buffer, call: UnaryCall): void {
    const linearizable = readMemberListRequest(message);
    const reply = (): void => {
      const { backend, header, term } = this.#context;
      call.reply(encodeMemberList(header, term, backend.members()));
    };
    if (linearizable) this.#context.fenced(call, reply);
    else reply();
  }

  #status(message: Buffer, call: UnaryCall): void {
    checkStatusRequest(message);
    const { backend, header, revision } = this.#context;
    const status = backend.status();
    // etcd reports the alarms and a missing leader as errors.
    const errors = [...status.errors];
    if (!backend.hasLeader() && !errors.includes(NO_LEADER)) errors.push(NO_LEADER);
    for (const _ of backend.store.alarms()) errors.push(`memberID:${backend.memberId} alarm:NOSPACE `);
    call.reply(
      encodeStatus(header, {
        revision,
        term: status.regency,
        version: SERVER_VERSION,
        dbSizeBytes: status.dbSizeBytes,
        leaderId: status.leaderId,
        raftIndex: status.lastDecided,
        raftAppliedIndex: status.lastExecuted,
        errors,
        dbSizeInUseBytes: status.dbSizeInUseBytes,
        storageVersion: STORAGE_VERSION,
        dbSizeQuotaBytes: status.quotaBytes,
      }),
    );
  }

  #alarm(message: Buffer, call: UnaryCall): void {
    const action = readAlarmAction(message);
    if (action !== AlarmAction.get) {
      call.fail({
        code: GrpcCode.unimplemented,
        message: "alarms raise and clear by themselves here; only reading them is implemented",
      });
      return;
    }
    const { backend, header, term, revision } = this.#context;
    const members = backend.store.alarms().map(() => backend.memberId);
    call.reply(encodeAlarms(header, term, revision, members));
  }
}

const NO_LEADER = "etcdserver: no leader";
