/**
 * Calls per second of the door alone, over a store in memory, per CPU second of the serving process:
 * `node load.ts [seconds] [connections] [in flight per connection]`. The load comes from a process of its own
 * that speaks HTTP/2 with prepared messages.
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import http2 from "node:http2";
import { fileURLToPath } from "node:url";
import { Gateway } from "../gateway.ts";
import { encodeMessage } from "./client.ts";
import { LocalBackend } from "./local-backend.ts";

interface Usage {
  readonly user: number;
  readonly system: number;
}

async function serve(): Promise<void> {
  const backend = new LocalBackend();
  const gateway = new Gateway({ backend, listen: { host: "127.0.0.1", port: 0 } });
  const { port } = await gateway.listen();
  process.send!(port);
  process.on("message", () => process.send!(process.cpuUsage()));
  process.on("disconnect", () => process.exit());
}

function frame(type: string, message: object): Buffer {
  const bytes = encodeMessage(type, message);
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([prefix, bytes]);
}

interface Kind {
  readonly name: string;
  readonly path: string;
  readonly body: (i: number) => Buffer;
}

const keyOf = (i: number): string =>
  `/registry/pods/default/pod-${String((i * 7919) % 100_000).padStart(6, "0")}`;

const KINDS: readonly Kind[] = [
  {
    name: "put",
    path: "/etcdserverpb.KV/Put",
    body: (i) => frame("etcdserverpb.PutRequest", { key: keyOf(i), value: "v".repeat(256) }),
  },
  {
    name: "linearizable get",
    path: "/etcdserverpb.KV/Range",
    body: (i) => frame("etcdserverpb.RangeRequest", { key: keyOf(i) }),
  },
  {
    name: "serializable get",
    path: "/etcdserverpb.KV/Range",
    body: (i) => frame("etcdserverpb.RangeRequest", { key: keyOf(i), serializable: true }),
  },
];

async function load(port: number, usage: () => Promise<Usage>, kind: Kind): Promise<void> {
  const seconds = Number(process.argv[2] ?? 5);
  const connections = Number(process.argv[3] ?? 8);
  const inFlight = Number(process.argv[4] ?? 16);
  const sessions = Array.from({ length: connections }, () => http2.connect(`http://127.0.0.1:${port}`));
  const bodies = Array.from({ length: 4096 }, (_, i) => kind.body(i));
  const headers = {
    ":method": "POST",
    ":path": kind.path,
    "content-type": "application/grpc",
    te: "trailers",
  };
  let calls = 0;
  let failed = 0;
  const end = performance.now() + seconds * 1000;
  const call = (session: http2.ClientHttp2Session, done: () => void): void => {
    const stream = session.request(headers);
    stream.on("data", () => {});
    stream.on("trailers", (trailers) => {
      if (trailers["grpc-status"] !== "0") failed++;
    });
    stream.on("end", () => {
      calls++;
      if (performance.now() < end) call(session, done);
      else done();
    });
    stream.end(bodies[calls % bodies.length]!);
  };
  const before = await usage();
  const started = performance.now();
  await Promise.all(
    sessions.flatMap((session) =>
      Array.from({ length: inFlight }, () => new Promise<void>((resolve) => call(session, resolve))),
    ),
  );
  const tookSeconds = (performance.now() - started) / 1000;
  const after = await usage();
  const cpuSeconds = (after.user + after.system - before.user - before.system) / 1e6;
  const perCpuSecond = Math.round(calls / cpuSeconds);
  process.stdout.write(
    `${kind.name}: ${Math.round(calls / tookSeconds)}/s, ${perCpuSecond} per CPU second of the door, ` +
      `${((1e6 * cpuSeconds) / calls).toFixed(1)} us a call, ${failed} failed\n`,
  );
  for (const session of sessions) session.close();
}

if (process.env.LOAD_SERVER === "1") await serve();
else {
  const server = fork(fileURLToPath(import.meta.url), { env: { ...process.env, LOAD_SERVER: "1" } });
  const [port] = (await once(server, "message")) as [number];
  const usage = async (): Promise<Usage> => {
    server.send("usage");
    const [answer] = (await once(server, "message")) as [Usage];
    return answer;
  };
  for (const kind of KINDS) await load(port, usage, kind);
  server.disconnect();
}
