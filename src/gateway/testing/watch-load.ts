/**
 * What watchers with prev_kv cost the door: `node watch-load.ts [watchers] [puts per second] [seconds]`. The
 * puts are made inside the serving process, in batches as agreement would bring them.
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import http2 from "node:http2";
import { fileURLToPath } from "node:url";
import { Gateway } from "../gateway.ts";
import { encodeMessage } from "./client.ts";
import { LocalBackend } from "./local-backend.ts";

const watchers = Number(process.argv[2] ?? 10);
const putsPerSecond = Number(process.argv[3] ?? 4_000);
const seconds = Number(process.argv[4] ?? 5);
const BATCH_INTERVAL_MS = 4;

async function serve(): Promise<void> {
  const backend = new LocalBackend();
  const gateway = new Gateway({ backend, listen: { host: "127.0.0.1", port: 0 } });
  const { port } = await gateway.listen();
  process.send!(port);
  process.on("disconnect", () => process.exit());
  process.on("message", () => {
    const started = performance.now();
    const before = process.cpuUsage();
    let puts = 0;
    const timer = setInterval(() => {
      const due = Math.min(performance.now() - started, seconds * 1000) * (putsPerSecond / 1000);
      for (; puts < due; puts++) {
        const key = `/registry/pods/default/pod-${puts % 5_000}`;
        const put = { key, lease: 0n, prevKv: false, ignoreValue: false, ignoreLease: false };
        backend.submit({ type: "put", put: { ...put, value: VALUE } }, () => {});
      }
      if (performance.now() - started < seconds * 1000 + 500) return;
      clearInterval(timer);
      process.send!({ puts, cpu: process.cpuUsage(before) });
    }, BATCH_INTERVAL_MS);
  });
}

const VALUE = Buffer.alloc(256, "v");

async function watch(port: number, count: { bytes: number }): Promise<http2.ClientHttp2Session> {
  const session = http2.connect(`http://127.0.0.1:${port}`, { settings: { initialWindowSize: 8_000_000 } });
  const stream = session.request({
    ":method": "POST",
    ":path": "/etcdserverpb.Watch/Watch",
    "content-type": "application/grpc",
  });
  const message = encodeMessage("etcdserverpb.WatchRequest", {
    create_request: {
      key: "/registry/pods/",
      range_end: "/registry/pods0",
      prev_kv: true,
      progress_notify: true,
    },
  });
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  stream.write(Buffer.concat([prefix, message]));
  // The server ends without a word when it is done.
  stream.on("error", () => {});
  session.on("error", () => {});
  stream.on("data", (chunk: Buffer) => {
    count.bytes += chunk.length;
  });
  await once(stream, "data");
  return session;
}

if (process.env.LOAD_SERVER === "1") await serve();
else {
  const server = fork(fileURLToPath(import.meta.url), process.argv.slice(2), {
    env: { ...process.env, LOAD_SERVER: "1" },
  });
  const [port] = (await once(server, "message")) as [number];
  const count = { bytes: 0 };
  const sessions = await Promise.all(Array.from({ length: watchers }, () => watch(port, count)));
  server.send("go");
  const [{ puts, cpu }] = (await once(server, "message")) as [{ puts: number; cpu: NodeJS.CpuUsage }];
  const cpuSeconds = (cpu.user + cpu.system) / 1e6;
  process.stdout.write(
    `${watchers} watchers, ${puts} puts in ${seconds} s: ${cpuSeconds.toFixed(2)} CPU seconds, ` +
      `${((1e6 * cpuSeconds) / puts).toFixed(1)} us a put, ${(count.bytes / 1e6).toFixed(1)} MB delivered\n`,
  );
  for (const session of sessions) session.close();
  server.disconnect();
}
