/**
 * `kmmr status`: how the cluster is, from the public etcd API of its masters.
 */
import { Command } from "commander";
import { quorumSize } from "../consensus/membership.ts";
import {
  CallError,
  EtcdClient,
  type ListedMember,
  type MemberStatus,
  readMemberList,
  readStatus,
  type TlsMaterial,
} from "./etcd-client.ts";
import { ExitCode } from "./exit-code.ts";
import { type OutputFormat, outputOption, withExamples } from "./output-option.ts";
import { formatSize, formatTable } from "./table.ts";
import { type TargetOptions, targetOf, withTargetOptions } from "./target.ts";

interface StatusOptions extends TargetOptions {
  readonly output: OutputFormat;
}

interface Answer {
  readonly endpoint: string;
  readonly status?: MemberStatus;
  readonly members?: readonly ListedMember[];
  readonly healthy: boolean;
  readonly problem?: string;
  /** Whether the problem is one of TLS. */
  readonly tlsProblem?: boolean;
}

/** One line of the table, and one object of the JSON output. */
export interface StatusRow {
  readonly name: string;
  readonly endpoint: string;
  readonly leader: boolean;
  readonly regency: number | null;
  readonly lastInstance: number | null;
  readonly revision: number | null;
  /** Instances that another master has decided and this one has not executed. */
  readonly lag: number | null;
  readonly dbSizeBytes: number | null;
  readonly healthy: boolean;
  /** Why it is not healthy; null when it is. */
  readonly problem: string | null;
}

export interface ClusterStatus {
  readonly rows: readonly StatusRow[];
  readonly healthyCount: number;
  /** How many make one; null when no master said who the members are, or anything. */
  readonly quorum: number | null;
  readonly exitCode: ExitCode;
  /** What to do when nothing is known; null else. */
  readonly advice: string | null;
}

async function ask(endpoint: string, tls: TlsMaterial, timeoutMs: number): Promise<Answer> {
  const client = new EtcdClient(endpoint, tls, timeoutMs);
  try {
    const status = readStatus(await client.call("/etcdserverpb.Maintenance/Status"));
    const healthy = await client.healthy();
    // A master without a quorum cannot say for sure who the members are: the table does without, then.
    const members = await client
      .call("/etcdserverpb.Cluster/MemberList")
      .then(readMemberList, () => undefined);
    return { endpoint, status, healthy, ...(members && { members }) };
  } catch (error) {
    const problem = error instanceof Error ? error.message : String(error);
    return { endpoint, healthy: false, problem, tlsProblem: error instanceof CallError && error.tls };
  } finally {
    client.close();
  }
}

/** Asks the given endpoints, then the members that these know of and that have not answered yet. */
async function askAll(endpoints: readonly string[], tls: TlsMaterial, timeoutMs: number): Promise<Answer[]> {
  const answers = await Promise.all(endpoints.map((endpoint) => ask(endpoint, tls, timeoutMs)));
  const members = answers.find((answer) => answer.members !== undefined)?.members ?? [];
  const answered = new Set(answers.map((answer) => answer.status?.memberId));
  const asked = new Set(endpoints);
  const further = members
    .filter((member) => !answered.has(member.id) && !member.clientUrls.some((url) => asked.has(url)))
    .flatMap((member) => member.clientUrls.slice(0, 1));
  return [...answers, ...(await Promise.all(further.map((endpoint) => ask(endpoint, tls, timeoutMs))))];
}

function problemOf(answer: Answer, lag: number | null): string | null {
  if (answer.problem !== undefined) return answer.problem;
  const errors = answer.status?.errors ?? [];
  if (errors.length > 0) return errors.join(", ");
  if (answer.healthy) return null;
  return lag !== null && lag > 0 ? "behind" : "not healthy";
}

/** Puts the answers together: rows by name, health, and what the exit code says. */
export function summarize(answers: readonly Answer[]): ClusterStatus {
  const members = answers.find((answer) => answer.members !== undefined)?.members ?? [];
  const newest = Math.max(0, ...answers.map((answer) => answer.status?.lastDecided ?? 0));
  const rows = answers.map((answer): StatusRow => {
    const status = answer.status;
    const member = members.find((candidate) =>
      status === undefined
        ? candidate.clientUrls.includes(answer.endpoint)
        : candidate.id === status.memberId,
    );
    const lag = status === undefined ? null : Math.max(0, newest - status.lastExecuted);
    const problem = problemOf(answer, lag);
    return {
      name: member?.name ?? "?",
      endpoint: answer.endpoint,
      leader: status !== undefined && status.leaderId !== 0n && status.leaderId === status.memberId,
      regency: status?.regency ?? null,
      lastInstance: status?.lastDecided ?? null,
      revision: status?.revision ?? null,
      lag,
      dbSizeBytes: status?.dbSizeBytes ?? null,
      healthy: problem === null,
      problem,
    };
  });
  rows.sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
  if (answers.every((answer) => answer.status === undefined)) {
    const advice = answers.some((answer) => answer.tlsProblem === true)
      ? "none of the given endpoints took this connection: name the right files with --cacert, --cert and --key"
      : "none of the given endpoints answered; name others with --endpoints";
    return { rows, healthyCount: 0, quorum: null, exitCode: ExitCode.unknown, advice };
  }
  const quorum = quorumSize(Math.max(members.length, rows.length));
  const healthyCount = rows.filter((row) => row.healthy).length;
  const allHealthy = healthyCount === rows.length && rows.length >= members.length;
  const exitCode = allHealthy ? ExitCode.ok : healthyCount >= quorum ? ExitCode.failure : ExitCode.severe;
  return { rows, healthyCount, quorum, exitCode, advice: null };
}

/** The table for people, with one line under it that says how things are. */
export function statusText(status: ClusterStatus): string {
  const header = [
    "NAME",
    "ENDPOINT",
    "LEADER",
    "REGENCY",
    "INSTANCE",
    "REVISION",
    "LAG",
    "DB SIZE",
    "HEALTH",
  ];
  const number = (value: number | null) => (value === null ? "-" : String(value));
  const rows = status.rows.map((row) => [
    row.name,
    row.endpoint,
    row.leader ? "yes" : "",
    number(row.regency),
    number(row.lastInstance),
    number(row.revision),
    number(row.lag),
    row.dbSizeBytes === null ? "-" : formatSize(row.dbSizeBytes),
    row.problem ?? "healthy",
  ]);
  const { healthyCount, quorum, exitCode, advice } = status;
  const counted = `${healthyCount} of ${rows.length} masters healthy`;
  const needed = quorum === 1 ? "1 is" : `${quorum} are`;
  const verdict =
    advice !== null
      ? advice
      : exitCode === ExitCode.severe
        ? `${counted}: no quorum, ${needed} needed`
        : `${counted}${exitCode === ExitCode.ok ? "" : `, the quorum of ${quorum} holds`}`;
  return `${formatTable(header, rows, ["REGENCY", "INSTANCE", "REVISION", "LAG", "DB SIZE"])}\n${verdict}\n`;
}

async function showStatus(options: StatusOptions): Promise<void> {
  const target = targetOf(options);
  const answers = await askAll(target.endpoints, target.tls, target.timeoutMs);
  const status = summarize(answers);
  if (options.output === "json") {
    const { rows, healthyCount, quorum } = status;
    console.log(JSON.stringify({ healthy: healthyCount, quorum, members: rows }));
  } else {
    process.stdout.write(statusText(status));
  }
  process.exitCode = status.exitCode;
}

/** The `status` command. */
export function statusCommand(): Command {
  const command = new Command("status").description(
    "show every master: leader, regency, last instance, revision, lag, size, health",
  );
  withTargetOptions(command).addOption(outputOption()).action(showStatus);
  return withExamples(
    command,
    [
      "kmmr status",
      "kmmr status --endpoints https://10.0.0.1:2379 --cacert ca.crt --cert client.crt --key client.key",
      "kmmr status --output json | jq '.members[] | select(.healthy | not)'",
    ],
    [
      "0  all masters are healthy",
      "1  some are not, a quorum is",
      "2  wrong use",
      "3  no quorum",
      "4  no endpoint answered",
    ],
  );
}
