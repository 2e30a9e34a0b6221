/** A door over a store in memory and a client of it, closed when the test ends. */
import type { TestContext } from "node:test";
import { Gateway, type GatewayOptions } from "../gateway.ts";
import { EtcdClient } from "./client.ts";
import { LocalBackend } from "./local-backend.ts";

export interface Fixture {
  readonly backend: LocalBackend;
  readonly gateway: Gateway;
  readonly client: EtcdClient;
  readonly port: number;
}

export async function startGateway(
  context: TestContext,
  options: Partial<GatewayOptions> & { quotaBytes?: number } = {},
): Promise<Fixture> {
  const { quotaBytes, ...rest } = options;
  const backend = new LocalBackend(quotaBytes === undefined ? {} : { quotaBytes });
  const gateway = new Gateway({ backend, listen: { host: "127.0.0.1", port: 0 }, ...rest });
  const { port } = await gateway.listen();
  const client = new EtcdClient(port);
  context.after(async () => {
    client.close();
    await gateway.close();
  });
  return { backend, gateway, client, port };
}

export const KV = "/etcdserverpb.KV";
export const WATCH = "/etcdserverpb.Watch/Watch";
export const LEASE = "/etcdserverpb.Lease";

/** Resolves when the condition holds; rejects when it does not come to hold in time. */
export async function until(condition: () => boolean, timeoutMs = 5_000): Promise<void> {
  const end = performance.now() + timeoutMs;
  while (!condition()) {
    if (performance.now() > end) throw new Error("what was waited for did not happen");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
