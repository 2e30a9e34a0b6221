/**
 * The session that etcdctl runs on both stores. `$ENDPOINTS` stands for all client URLs and `$LEASE<n>` for the id
 * of the nth lease that was granted.
 */

/** One command of the session. */
export interface SessionStep {
  readonly parameters: readonly string[];
  readonly input?: string;
  /** A command that goes on: it is ended once it printed that many lines, or nothing for a second. */
  readonly untilLines?: number;
  /** Only one line of etcdctl has this command or option, or shows it in a stable form. */
  readonly only?: "3.4" | "3.6";
  /** Lines whose order is the server's business. */
  readonly unordered?: true;
}

function run(line: string, more: Omit<SessionStep, "parameters"> = {}): SessionStep {
  return { parameters: line.split(" "), ...more };
}

const writing: readonly SessionStep[] = [
  run("put foo bar"),
  run("put foo bar2 --prev-kv"),
  run("put foo bar3 -w json"),
  run("put foo bar4 -w fields --prev-kv"),
  run("put empty", { input: "" }),
  run("put from-input", { input: "value from input" }),
  run("put foo --ignore-value"),
  run("put absent --ignore-value"),
  run("put absent x --ignore-lease"),
  run("put foo x --lease=123456"),
  run("put a/1 one"),
  run("put a/2 two"),
  run("put a/3 three"),
  run("put a/10 ten"),
  run("put a/2 two-again"),
  run("put b 1"),
  run("put  emptykey"),
];

const reading: readonly SessionStep[] = [
  run("get foo"),
  run("get absent"),
  run("get foo -w json"),
  run("get foo -w fields"),
  run("get foo --hex"),
  run("get foo --print-value-only"),
  run("get a/ --prefix"),
  run("get a/ --prefix -w json"),
  run("get a/ --prefix -w fields"),
  run("get a/ --prefix --limit=2"),
  run("get a/ --prefix --limit=2 -w json"),
  run("get a/ --prefix --keys-only"),
  run("get a/ --prefix --keys-only -w json"),
  run("get a/ --prefix --count-only -w fields"),
  run("get a/ --prefix --count-only -w json"),
  run("get a/ --prefix --print-value-only"),
  run("get a/ --prefix --sort-by=MODIFY --order=DESCEND"),
  run("get a/ --prefix --sort-by=CREATE --order=ASCEND"),
  run("get a/ --prefix --sort-by=VALUE --order=DESCEND"),
  run("get a/ --prefix --sort-by=KEY --order=DESCEND --limit=3"),
  run("get a/ --prefix --sort-by=VERSION --order=DESCEND --limit=1"),
  run("get a/ --prefix --sort-by=WRONG"),
  run("get a/2 b --keys-only"),
  run("get a/2 --from-key --keys-only"),
  run("get a/2 --rev=10"),
  run("get a/ --prefix --rev=9 -w json"),
  run("get a/ --prefix --rev=100000"),
  run("get foo --consistency=s"),
  run("get foo --min-mod-rev=3 --max-mod-rev=100000", { only: "3.6" }),
];

const deleting: readonly SessionStep[] = [
  run("del b"),
  run("del b"),
  run("del a/10 --prev-kv"),
  run("del a/ --prefix --prev-kv -w json"),
  run("put a/1 one"),
  run("put a/2 two"),
  run("del a/2 --from-key -w fields"),
  run("del absent --prefix"),
];

const transactions: readonly SessionStep[] = [
  run("put t 1"),
  run("txn", { input: 'value("t") = "1"\n\nput t 2\nget t\n\nput t failed\n\n' }),
  run("txn", { input: 'value("t") = "1"\n\nput t 3\n\nget t\ndel absent\n\n' }),
  run("txn -w json", { input: 'ver("t") > "1"\n\nget t\nput t2 x\ndel foo\n\nget t\n\n' }),
  run("txn -w fields", { input: 'mod("t") > "0"\n\nput t 4 --prev-kv\n\n\n' }),
  run("txn", { input: 'create("new") = "0"\n\nput new created\n\nget new\n\n' }),
  run("txn", { input: 'create("new") = "0"\n\nput new created\n\nget new\n\n' }),
  run("txn", { input: "\nput dup 1\nput dup 2\n\n\n" }),
  run("txn", { input: '\nput "sp ace" "a b"\nget "sp ace"\n\n\n' }),
  run("txn", { input: "nonsense\n\n\n\n" }),
];

const watching: readonly SessionStep[] = [
  run("put w 1"),
  run("put w 2"),
  run("put w/x 3"),
  run("del w"),
  run("watch w --rev=2", { untilLines: 9 }),
  run("watch w --rev=2 --prev-kv", { untilLines: 12 }),
  run("watch w --prefix --rev=2 --prev-kv", { untilLines: 15 }),
  run("watch w w0 --rev=2", { untilLines: 12 }),
  run("watch w --prefix --rev=2 -w json", { untilLines: 2 }),
  run("watch w --prefix --rev=2 -w fields", { untilLines: 30 }),
  run("watch -i", { input: "watch w --rev=2\n", untilLines: 9 }),
];

const leases: readonly SessionStep[] = [
  run("lease list"),
  run("lease grant 600"),
  run("put l1 x --lease=$LEASE0"),
  run("get l1 -w json"),
  run("lease timetolive $LEASE0"),
  run("lease timetolive $LEASE0 --keys"),
  run("lease timetolive $LEASE0 --keys -w json"),
  run("lease timetolive $LEASE0 -w fields"),
  run("put l2 y --lease=$LEASE0"),
  run("lease keep-alive --once $LEASE0"),
  run("lease keep-alive --once $LEASE0 -w json"),
  run("lease grant 500 -w json"),
  run("lease grant 1"),
  run("lease list", { unordered: true }),
  run("lease list -w json", { unordered: true }),
  run("lease revoke $LEASE0"),
  run("lease revoke $LEASE0"),
  run("lease keep-alive --once $LEASE0"),
  run("lease timetolive $LEASE0"),
  run("lease timetolive $LEASE0 -w json"),
  run("get l --prefix"),
  run("lease grant 99999999999"),
];

const compacting: readonly SessionStep[] = [
  run("put c 1"),
  run("compact 5"),
  run("compaction 5"),
  run("compaction 6 --physical"),
  run("compaction 100000"),
  run("get foo --rev=3"),
  run("watch foo --rev=2", { untilLines: 2 }),
];

const cluster: readonly SessionStep[] = [
  run("endpoint health", { unordered: true }),
  run("endpoint health -w json", { unordered: true }),
  run("endpoint health -w table", { unordered: true }),
  run("endpoint health --cluster", { unordered: true }),
  run("endpoint status", { unordered: true }),
  run("endpoint status -w table", { unordered: true }),
  run("endpoint status -w json", { unordered: true }),
  run("endpoint status -w fields", { unordered: true }),
  run("endpoint status --cluster", { unordered: true }),
  run("member list", { unordered: true }),
  run("member list -w table", { unordered: true }),
  run("member list -w json", { unordered: true }),
  run("member list -w fields", { unordered: true }),
  run("alarm list"),
  run("version"),
];

/** The whole session, in order. */
export const session: readonly SessionStep[] = [
  ...writing,
  ...reading,
  ...deleting,
  ...transactions,
  ...watching,
  ...leases,
  ...cluster,
  ...compacting,
  { parameters: ["del", "", "--from-key"] },
];
