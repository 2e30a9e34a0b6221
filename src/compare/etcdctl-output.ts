/**
 * Takes out of etcdctl's output what is different between any two stores: ids, addresses, names, sizes, versions,
 * times. What stays must be equal.
 */

/** What the program printed on both outputs, and how it ended. */
export interface ProgramOutput {
  readonly stdout: string;
  readonly stderr: string;
  /** Undefined when it was ended because it goes on by itself. */
  readonly exitCode: number | undefined;
}

type Rule = readonly [RegExp, string];

const rules: readonly Rule[] = [
  // Addresses and names first: their digits are no numbers.
  [/https?:\/\/127\.0\.0\.1:\d+/g, "URL"],
  [/127\.0\.0\.1:\d+/g, "ADDRESS"],
  [
    /"(cluster_id|member_id|raft_term|leader|raftIndex|raftTerm|raftAppliedIndex|dbSize|dbSizeInUse)":\d+/g,
    '"$1":N',
  ],
  [
    /"(ClusterID|MemberID|RaftTerm|Leader|RaftIndex|RaftTerm|RaftAppliedIndex|DBSize|DBSizeInUse)" : \d+/g,
    '"$1" : N',
  ],
  [/"dbSizeQuota":\d+/g, '"dbSizeQuota":N'],
  [/"DBSizeQuota" : \d+/g, '"DBSizeQuota" : N'],
  [/"version":"[\d.]+"/g, '"version":"V"'],
  [/"Version" : "[\d.]+"/g, '"Version" : "V"'],
  [/"(took|Took)"( ?: ?)"[^"]*"/g, '"$1"$2"TIME"'],
  [/took = [\d.]+\S+s/g, "took = TIME"],
  [/"(name|Name)"( ?: ?)"[^"]*"/g, '"$1"$2"NAME"'],
  // The rest of a lease's time depends on when it is asked for.
  [/remaining\(\d+s\)/g, "remaining(Ns)"],
  [/("granted-ttl":\d+|"grantedTTL":\d+)/g, "$1"],
  [/"ttl":5\d\d/g, '"ttl":5NN'],
  [/"TTL" : 5\d\d/g, '"TTL" : 5NN'],
  [/"(ID|id)":\d{6,}/g, '"$1":ID'],
  [/"ID" : \d{6,}/g, '"ID" : ID'],
  [/AuthInfo: '[^']*'/g, "AuthInfo: 'ANY'"],
  // Logs of the client.
  [/"ts":"[^"]*"/g, '"ts":"TIME"'],
  [/"target":"[^"]*"/g, '"target":"TARGET"'],
  [/0x[0-9a-f]{6,}/g, "POINTER"],
  [/[\d.]+ [kMG]?B\b/g, "SIZE"],
];

export class OutputNormalizer {
  /** Ids of leases in decimal and hexadecimal, in the order in which they were granted. */
  readonly #leases: bigint[] = [];
  readonly #endpoints: readonly string[];

  constructor(endpoints: readonly string[]) {
    this.#endpoints = endpoints;
  }

  /** A parameter with its `$...` replaced. */
  fillIn(text: string): string {
    return text
      .replaceAll("$ENDPOINTS", this.#endpoints.join(","))
      .replaceAll(/\$LEASE(\d+)/g, (_, number: string) => (this.#leases[Number(number)] ?? 1n).toString(16));
  }

  /** All lines of both outputs and the exit code, ready to be compared. */
  normalize(output: ProgramOutput, unordered: boolean): string[] {
    this.#learnLeases(output.stdout);
    const stdout = output.stdout.split("\n").map((line) => this.#normalizeLine(line));
    const stderr = output.stderr
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => `stderr: ${this.#normalizeLine(line)}`);
    if (stdout.at(-1) === "") stdout.pop();
    const lines = [...(unordered ? sortParts(stdout) : stdout), ...stderr];
    return [
      ...lines,
      output.exitCode === undefined ? "(ended from outside)" : `(exit code ${output.exitCode})`,
    ];
  }

  #learnLeases(text: string): void {
    const granted = /^lease ([0-9a-f]+) granted/m.exec(text);
    if (granted !== null) this.#leases.push(BigInt(`0x${granted[1]}`));
    const asJson = /"ID":(\d+),"TTL":\d+\}/.exec(text) ?? /"id":(\d+),"ttl":\d+\}/.exec(text);
    if (asJson !== null && !this.#leases.includes(BigInt(asJson[1]!))) this.#leases.push(BigInt(asJson[1]!));
  }

  #normalizeLine(line: string): string {
    let text = line;
    for (const [index, id] of this.#leases.entries()) {
      text = text
        .replaceAll(id.toString(16).padStart(16, "0"), `LEASE${index}`)
        .replaceAll(id.toString(), `LEASE${index}`);
    }
    for (const [pattern, replacement] of rules) text = text.replaceAll(pattern, replacement);
    return normalizeTable(text);
  }
}

/** Ids of members and versions in lists and tables, whose columns are as wide as what is in them. */
function normalizeTable(line: string): string {
  return (
    line
      .replaceAll(/\b[0-9a-f]{13,16}\b/g, "ID")
      .replaceAll(/\b3\.\d+\.\d+\b/g, "V")
      .replaceAll(/(?<=^|[ ,|])(m\d+|master[-\w]*\d+|m[-\w]*\d+)(?=[ ,|])/g, "NAME")
      .replaceAll(/-{2,}/g, "--")
      .replaceAll(/ {2,}/g, " ")
      .replaceAll(/\b[\d.]+%/g, "N%")
      .replaceAll(/(?<=\| )[\d.]+(?:ms|\S{1,3}s|s)(?= \|)/g, "TIME")
      // Regency or term, and the places in the log.
      .replaceAll(
        /(true|false)(, | \| )(true|false)(?:, | \| )\d+(?:, | \| )\d+(?:, | \| )\d+\b/g,
        "$1$2$3$2N$2N$2N",
      )
  );
}

/** Lines in a fixed order; the items of a JSON list too. */
function sortParts(lines: readonly string[]): string[] {
  return lines.map((line) => (line.includes("},{") ? sortJsonList(line) : line)).toSorted();
}

function sortJsonList(line: string): string {
  return line.replace(
    /\[\{(.*)\}\]/,
    (_, items: string) => `[{${items.split("},{").toSorted().join("},{")}}]`,
  );
}
