/** etcdserverpb.Watch. */
import { BACKEND_STATUS } from "../errors.ts";
import type { Method } from "../grpc/method.ts";
import type { WatchHub } from "../watch/watch-hub.ts";
import { type ServiceContext, streaming } from "./context.ts";

const PATH = "/etcdserverpb.Watch/Watch";

export class WatchService {
  readonly methods: readonly Method[];

  constructor(context: ServiceContext, hub: WatchHub) {
    this.methods = [
      streaming(PATH, (call, { requireLeader }) => {
        const stream = hub.open(call, requireLeader);
        const reason = context.backend.unavailable();
        if (reason !== undefined) call.finish(BACKEND_STATUS[reason]);
        return stream;
      }),
    ];
  }
}
