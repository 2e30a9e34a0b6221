/**
 * The etcd cluster beside which KmMR is measured: n members on this machine, mutual TLS between them, flags as
 * kubeadm sets them.
 */
import type { ChildProcess } from "node:child_process";
import { spawnSync } from "node:child_process";
import { mkdirSync, openSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { CertificateAuthority } from "./certificates.ts";
import { spawnBound, stopChild } from "./child-process.ts";
import { call, connectTo, methodHeaders, type TlsFiles } from "./connect.ts";
import { etcdBinaries, etcdMissingHint } from "./etcd-binaries.ts";
import { type Target, type TargetMember, type TargetOptions, TargetStartError } from "./target.ts";
import { encodeRange } from "./wire.ts";

const startTimeoutMs = 60_000;
const stopPatienceMs = 5000;
/** Long runs write more than the default 2 GiB. */
const quotaBytes = 8 * 2 ** 30;

interface Member {
  readonly name: string;
  readonly clientUrl: string;
  readonly dataDir: string;
  readonly peerUrl: string;
  readonly files: TlsFiles;
  readonly logPath: string;
}

/** Starts n members and waits until each answers a linearizable read. Throws TargetStartError. */
export async function startEtcd(options: TargetOptions): Promise<Target> {
  const program = etcdBinaries().etcd;
  if (program === undefined) throw new TargetStartError(etcdMissingHint);
  const description = versionOf(program);
  mkdirSync(options.folder, { recursive: true });
  const authority = await CertificateAuthority.create(options.folder);
  const client = options.clientTls ? await authority.issue("client") : undefined;
  const ports = await freePorts(options.members * 2);
  const planned: Member[] = [];
  for (let index = 0; index < options.members; index++) {
    const name = `etcd-${index + 1}`;
    planned.push({
      name,
      clientUrl: `${options.clientTls ? "https" : "http"}://127.0.0.1:${ports[index * 2]}`,
      peerUrl: `https://127.0.0.1:${ports[index * 2 + 1]}`,
      dataDir: join(options.folder, name),
      files: await authority.issue(name),
      logPath: join(options.folder, `${name}.log`),
    });
  }
  const cluster = planned.map((member) => `${member.name}=${member.peerUrl}`).join(",");
  const children = new Map<string, ChildProcess>();
  const members: TargetMember[] = planned.map(({ name, clientUrl, dataDir }) => {
    return { name, clientUrl, dataDir, pid: undefined };
  });
  const start = (name: string): void => {
    const member = planned.find((candidate) => candidate.name === name)!;
    const child = startMember(program, member, cluster, options.clientTls);
    children.set(name, child);
    members.find((candidate) => candidate.name === name)!.pid = child.pid;
  };
  const kill = (name: string): void => {
    children.get(name)!.kill("SIGKILL");
    members.find((candidate) => candidate.name === name)!.pid = undefined;
  };
  const restart = async (name: string): Promise<void> => {
    await stopChild(children.get(name)!, stopPatienceMs);
    start(name);
  };
  const stop = async (): Promise<void> => {
    await Promise.all([...children.values()].map((child) => stopChild(child, stopPatienceMs)));
    rmSync(options.folder, { recursive: true, force: true });
  };
  for (const { name } of planned) start(name);
  try {
    await Promise.all(planned.map((member) => untilServing(member, client, children.get(member.name)!)));
  } catch (error) {
    await stop();
    throw error;
  }
  return { name: "etcd", description, members, tls: client, kill, restart, stop };
}

function versionOf(program: string): string {
  const answer = spawnSync(program, ["--version"], { encoding: "utf8" });
  const version = /etcd Version: (\S+)/.exec(answer.stdout ?? "")?.[1];
  if (version === undefined)
    throw new TargetStartError(`${program} --version does not name a version of etcd`);
  return `etcd ${version}`;
}

function startMember(program: string, member: Member, cluster: string, clientTls: boolean): ChildProcess {
  const { files } = member;
  const log = openSync(member.logPath, "a");
  const parameters = [
    `--name=${member.name}`,
    `--data-dir=${member.dataDir}`,
    `--listen-peer-urls=${member.peerUrl}`,
    `--initial-advertise-peer-urls=${member.peerUrl}`,
    `--listen-client-urls=${member.clientUrl}`,
    `--advertise-client-urls=${member.clientUrl}`,
    `--initial-cluster=${cluster}`,
    "--initial-cluster-state=new",
    "--initial-cluster-token=kmmr-bench",
    `--peer-cert-file=${files.cert}`,
    `--peer-key-file=${files.key}`,
    `--peer-trusted-ca-file=${files.cacert}`,
    "--peer-client-cert-auth=true",
    "--watch-progress-notify-interval=5s",
    `--quota-backend-bytes=${quotaBytes}`,
    "--log-level=error",
    ...(clientTls
      ? [
          `--cert-file=${files.cert}`,
          `--key-file=${files.key}`,
          `--trusted-ca-file=${files.cacert}`,
          "--client-cert-auth=true",
        ]
      : []),
  ];
  return spawnBound(program, parameters, { stdio: ["ignore", log, log] });
}

async function untilServing(member: Member, tls: TlsFiles | undefined, child: ChildProcess): Promise<void> {
  const deadlineMs = performance.now() + startTimeoutMs;
  let reason = "";
  while (performance.now() < deadlineMs) {
    if (child.exitCode !== null) break;
    try {
      const connection = await connectTo(member.clientUrl, tls);
      try {
        await call(connection, methodHeaders.range, encodeRange({ key: Buffer.from("health") }), 2000);
        return;
      } finally {
        connection.close();
      }
    } catch (error) {
      reason = error instanceof Error ? error.message : String(error);
    }
    await sleep(100);
  }
  const log = readFileSync(member.logPath, "utf8").slice(-2000);
  throw new TargetStartError(`${member.name} does not serve: ${reason}\n${log}`);
}

/** Ports that were free a moment ago, all different. */
async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer();
      await new Promise<void>((resolve, reject) => {
        server.once("error", reject);
        server.listen(0, "127.0.0.1", resolve);
      });
      return server;
    }),
  );
  const ports = servers.map((server) => {
    const address = server.address();
    return typeof address === "object" && address !== null ? address.port : 0;
  });
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
