/**
 * Golden transcripts: scripts in testdata/*.txt are run on a small cluster, and all that its members send, log
 * and do is compared with what stands below each command, one line an event. A change of the protocol shows as
 * a change of these files, for a reviewer to read.
 *
 * `KMMR_REWRITE=1 node --test src/consensus/transcripts.test.ts` writes the files anew.
 *
 * Lines of a script: `# comment`, `> command`, and below each command what happened until it was done:
 *
 *     12 0 -> 1,2,3 write r1 c1 5f3a91c2     at 12 ms member 0 sent this to members 1, 2 and 3
 *     12 0 log decision ... (sync)           it appended this record, and asked for it to be synced
 *     13 0 decided r1 c1 5f3a91c2            what happened inside
 *
 * Heartbeats and the questions of ordinary fences are left out.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import type { ReplicaOutput, TraceEvent } from "../replica/contract.ts";
import { put, TestCluster } from "../replica/testing/cluster.ts";
import { Forge, type ForgedBundle, type ForgedValue } from "../replica/testing/forge.ts";
import { describeBytes, describeRecord, shortDigest } from "./describe.ts";
import { decodeMessage } from "./messages.ts";

const FOLDER = new URL("./testdata/", import.meta.url);

function describeTrace(event: TraceEvent): string {
  switch (event.kind) {
    case "decided":
      return `decided r${event.regency} c${event.cid} ${shortDigest(event.digest)}`;
    case "executed":
      return `executed c${event.cid}, revision ${event.revision}`;
    case "regency":
      return `regency ${event.regency} of leader ${event.leader}`;
    case "stop":
      return `wants regency ${event.regency}: ${event.reason}`;
    case "checkpoint":
      return `checkpoint c${event.cid} ${shortDigest(event.root)}${event.stable ? " stable" : ""}`;
    case "transfer":
      return `transfer c${event.cid} ${event.phase}`;
    case "diverged":
      return `diverged at c${event.cid}`;
    case "misbehaviour":
      return `complains of ${event.member}: ${event.what}`;
  }
}

function numbers(list: string): number[] {
  return list.split(",").map(Number);
}

/** Runs the commands of one script. */
class Script {
  #cluster = new TestCluster();
  #forge = new Forge(this.#cluster.membership);
  #startMs = 0;
  #lines: string[] = [];
  /** What was sent last, while it may go to further members. */
  #sending: { readonly head: string; readonly bytes: Uint8Array; readonly to: number[] } | undefined;
  readonly #mute = new Set<number>();
  readonly #values = new Map<string, { readonly bundle: ForgedBundle; readonly value: ForgedValue }>();

  /** The lines that the command leads to. */
  run(command: string): string[] {
    this.#lines = [];
    const [name, ...words] = command.split(" ");
    this.#execute(name!, words);
    this.#closeSending();
    return this.#lines;
  }

  #execute(name: string, words: readonly string[]): void {
    const cluster = this.#cluster;
    const member = Number(words[0]);
    switch (name) {
      case "cluster":
        this.#begin(words);
        break;
      case "run":
        cluster.run(member);
        break;
      case "submit":
        cluster.submit(member, put(words[1]!, words[2]!));
        break;
      case "kill":
        cluster.kill(member);
        break;
      case "crash":
        cluster.crash(member);
        break;
      case "start":
        cluster.start(member, (words[1] ?? "clean") as "clean");
        break;
      case "lose":
        this.#lose(words);
        break;
      case "byzantine":
        this.#mute.add(member);
        break;
      case "value":
        this.#makeValue(words[0]!);
        break;
      case "say":
        this.#say(member, numbers(words[1]!), words.slice(2));
        break;
      case "state":
        this.#printState();
        break;
      default:
        assert.fail(`no command is named ${name}`);
    }
  }

  /** `cluster 4 checkpointInstances=8`: begins, and runs until all members serve. */
  #begin([n, ...options]: readonly string[]): void {
    const entries = options.map((option) => option.split("="));
    this.#cluster = new TestCluster(
      Number(n),
      Object.fromEntries(entries.map(([key, value]) => [key, Number(value)])),
    );
    this.#forge = new Forge(this.#cluster.membership);
    this.#cluster.run(100);
    this.#startMs = this.#cluster.now;
    this.#cluster.observe = (member, output) => this.#observe(member, output);
    this.#cluster.alter = (from) => (this.#mute.has(from) ? [] : undefined);
  }

  /** `lose accept,write to 1,2`, `lose any from 3`: also loses these; `lose nothing`: none any more. */
  #lose([types, ...where]: readonly string[]): void {
    const ends = (word: string) => {
      const at = where.indexOf(word);
      return at < 0 ? undefined : numbers(where[at + 1]!);
    };
    const from = ends("from");
    const to = ends("to");
    const before = this.#cluster.drop;
    const loses = (sender: number, receiver: number, bytes: Uint8Array) =>
      (from?.includes(sender) ?? true) &&
      (to?.includes(receiver) ?? true) &&
      (types === "any" || types!.split(",").includes(decodeMessage(bytes).type));
    this.#cluster.drop =
      types === "nothing" ? () => false : (...sending) => before(...sending) || loses(...sending);
  }

  /** `value a`: a value for the first instance, with one bundle of member 0 that puts `a`. */
  #makeValue(name: string): void {
    const bundle = this.#forge.bundle(0, 1, { content: name });
    const value = this.#forge.value([bundle], { timestampMs: 1_700_000_000_000 + this.#cluster.now });
    this.#values.set(name, { bundle, value });
    this.#lines.push(`${name} is ${shortDigest(value.digest)}`);
  }

  /** `say 0 1,2 propose a 1`: member 0 sends members 1 and 2 its PROPOSE of a in regency 1. */
  #say(from: number, to: readonly number[], [type, name, regency]: readonly string[]): void {
    const { bundle, value } = this.#values.get(name!)!;
    const ballot = Number(regency);
    for (const receiver of to) {
      if (type === "propose") {
        this.#cluster.send(from, receiver, bundle.message);
        this.#cluster.send(from, receiver, this.#forge.propose(ballot, value));
      } else {
        assert.ok(type === "write" || type === "accept");
        this.#cluster.send(from, receiver, this.#forge[type](from, ballot, value.value.cid, value.digest));
      }
    }
  }

  #printState(): void {
    for (const [member, { replica, up, log }] of this.#cluster.nodes.entries()) {
      if (this.#mute.has(member)) {
        this.#lines.push(`${member} is Byzantine`);
        continue;
      }
      this.#lines.push(
        up
          ? `${member} regency ${replica.regency} decided ${replica.lastDecided} executed ${replica.lastExecuted} ` +
              `revision ${replica.store.revision} ${replica.serving ? "serving" : "not serving"}, ${log.length} records`
          : `${member} is down`,
      );
    }
  }

  #observe(member: number, output: ReplicaOutput): void {
    const head = `${this.#cluster.now - this.#startMs} ${member}`;
    if (output.type === "send") {
      if (!this.#mute.has(member)) this.#send(head, output.to, output.bytes);
      return;
    }
    this.#closeSending();
    if (this.#mute.has(member)) return;
    if (output.type === "append") {
      this.#lines.push(`${head} log ${describeRecord(output.record)}${output.sync ? " (sync)" : ""}`);
    } else if (output.type === "trace") {
      this.#lines.push(`${head} ${describeTrace(output.event)}`);
    } else if (output.type === "truncate") {
      this.#lines.push(`${head} cuts the log before record ${output.before}`);
    } else if (output.type === "result") {
      this.#lines.push(`${head} answers request ${output.id}`);
    } else if (output.type === "failed") {
      this.#lines.push(`${head} fails request ${output.id}: ${output.reason}`);
    }
  }

  #send(head: string, to: number, bytes: Uint8Array): void {
    const message = decodeMessage(bytes);
    if (message.type === "heartbeat") return;
    if ((message.type === "fence" || message.type === "fenceReply") && message.nonce % 2 ** 32 > 0) return;
    const last = this.#sending;
    if (last?.head === head && Buffer.compare(last.bytes, bytes) === 0) {
      last.to.push(to);
      return;
    }
    this.#closeSending();
    this.#sending = { head, bytes, to: [to] };
  }

  #closeSending(): void {
    const last = this.#sending;
    this.#sending = undefined;
    if (last !== undefined)
      this.#lines.push(`${last.head} -> ${last.to.join()} ${describeBytes(last.bytes)}`);
  }
}

/** The script with what its commands lead to now. Blank lines stand behind events, and before comments. */
function transcribe(text: string): string {
  const script = new Script();
  const out: string[] = [];
  for (const line of text.split("\n")) {
    if (!line.startsWith("#") && !line.startsWith("> ")) continue;
    const previous = out.at(-1)?.[0] ?? "#";
    const isComment = line.startsWith("#");
    if (isComment ? previous !== "#" : previous !== "#" && previous !== ">") out.push("");
    out.push(line);
    if (!isComment) out.push(...script.run(line.slice(2)));
  }
  return `${out.join("\n")}\n`;
}

for (const name of readdirSync(FOLDER).sort()) {
  test(`transcript ${name}`, () => {
    const file = new URL(name, FOLDER);
    const expected = readFileSync(file, "utf8");
    const actual = transcribe(expected);
    if (process.env.KMMR_REWRITE === "1") writeFileSync(file, actual);
    else assert.deepEqual(actual.split("\n"), expected.split("\n"));
  });
}
