/**
 * What a demo prints for people: which masters run, how to reach them, what to try, how to break it.
 */
import { faultsTolerated } from "../consensus/membership.ts";
import { formatTable } from "./table.ts";

/** A master of the demo as it is shown. */
export interface ShownMaster {
  readonly name: string;
  readonly clientUrl: string;
  readonly peerUrl: string;
  readonly role: string;
}

export interface ShownDemo {
  readonly masters: readonly ShownMaster[];
  readonly folder: string;
  readonly ephemeral: boolean;
  /** Whether the folder held a demo already, which goes on with its data. */
  readonly continued: boolean;
  /** Files for clients; null with client TLS off. */
  readonly cacert: string | null;
  readonly cert: string | null;
  readonly key: string | null;
  /** How this command is run: `kmmr`, or `npx kmmr` from a checkout. */
  readonly command: string;
  /** What its other commands need to find this demo: ` --data-dir FOLDER`, or nothing for the default one. */
  readonly commandTarget: string;
  readonly startupMs: number;
}

/** A path as one word of a shell. */
export function shellWord(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** Lines that make etcdctl find the demo. */
function exports(demo: ShownDemo): string {
  const lines = [`export ETCDCTL_ENDPOINTS=${demo.masters.map((m) => m.clientUrl).join(",")}`];
  if (demo.cacert !== null && demo.cert !== null && demo.key !== null) {
    lines.push(`export ETCDCTL_CACERT=${shellWord(demo.cacert)}`);
    lines.push(`export ETCDCTL_CERT=${shellWord(demo.cert)} ETCDCTL_KEY=${shellWord(demo.key)}`);
  }
  return lines.map((line) => `  ${line}\n`).join("");
}

/** Commands with what they do behind them. */
function aligned(lines: readonly (readonly [command: string, comment: string])[]): string {
  const width = Math.max(...lines.map(([command]) => command.length));
  const text = ([command, comment]: readonly [string, string]) =>
    comment === "" ? `  ${command}\n` : `  ${command.padEnd(width)}  # ${comment}\n`;
  return lines.map(text).join("");
}

/** The whole text that is shown once all masters serve. */
export function demoBanner(demo: ShownDemo): string {
  const n = demo.masters.length;
  const own = (args: string) => `${demo.command} ${args}${demo.commandTarget}`;
  const f = faultsTolerated(n);
  const follower = demo.masters.find((master) => master.role !== "leader") ?? demo.masters[0]!;
  const leader = demo.masters.find((master) => master.role === "leader") ?? demo.masters[0]!;
  const kept = demo.ephemeral
    ? `${demo.folder} (removed at the end)`
    : `${demo.folder}${demo.continued ? " (goes on with the data of the last run)" : ""}`;
  const rows = demo.masters.map((master) => [master.name, master.clientUrl, master.peerUrl, master.role]);
  return `
${formatTable(["MASTER", "CLIENT ENDPOINT", "PEER ENDPOINT", "ROLE"], rows)}
${n} masters serve after ${(demo.startupMs / 1000).toFixed(1)} s. ${f === 1 ? "One" : String(f)} of them may crash, lie or be taken over.
Data: ${kept}

In another terminal:
${exports(demo)}
Try:
${aligned([
  ["etcdctl put greeting hello", `or, without etcdctl: ${own("put greeting hello")}`],
  ["etcdctl get greeting", `or: ${own("get greeting")}`],
  [own("status"), ""],
])}
Break it:
${aligned([
  [own(`demo kill ${leader.name}`), "kill -9 the leader: another takes over"],
  [own(`demo start ${leader.name}`), "it comes back and catches up"],
  [own(`demo kill ${follower.name}`), "a follower: nobody notices"],
])}
Ctrl-C ends all ${n}.
`;
}
