/** Runs the door over a store in memory, for trying clients on it by hand: `node try-gateway.ts [port]`. */
import { Gateway } from "../gateway.ts";
import { LocalBackend } from "./local-backend.ts";

const gateway = new Gateway({
  backend: new LocalBackend(),
  listen: { host: "127.0.0.1", port: Number(process.argv[2] ?? 2379) },
  limits: { progressNotifyIntervalMs: 1_000 },
  logger: console,
});
const { port } = await gateway.listen();
process.stdout.write(`export ETCDCTL_ENDPOINTS=http://127.0.0.1:${port}\n`);
process.on("SIGTERM", () => void gateway.close());
process.on("SIGINT", () => void gateway.close());
