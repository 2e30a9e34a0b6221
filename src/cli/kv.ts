/**
 * `kmmr put` and `kmmr get`: enough to try a cluster on a machine without etcdctl.
 */
import { Command } from "commander";
import { ProtoReader } from "../gateway/wire/proto-reader.ts";
import { CallError, EtcdClient } from "./etcd-client.ts";
import { CommandError, ExitCode } from "./exit-code.ts";
import { type OutputFormat, outputOption, withExamples } from "./output-option.ts";
import { type TargetOptions, targetOf, withTargetOptions } from "./target.ts";

interface KvOptions extends TargetOptions {
  readonly prefix?: boolean;
  readonly output: OutputFormat;
}

interface ShownKey {
  readonly key: string;
  readonly value: string;
  readonly modRevision: number;
}

/** A field of bytes: tag, length, content. */
function bytesField(field: number, content: Buffer): Buffer {
  const head = [(field << 3) | 2];
  let size = content.length;
  for (; size >= 0x80; size = Math.floor(size / 0x80)) head.push((size & 0x7f) | 0x80);
  head.push(size);
  return Buffer.concat([Buffer.from(head), content]);
}

/** Tries the endpoints one after the other until one answers. */
async function callAny(options: TargetOptions, path: string, message: Buffer): Promise<Buffer> {
  const target = targetOf(options);
  const problems: string[] = [];
  for (const endpoint of target.endpoints) {
    const client = new EtcdClient(endpoint, target.tls, target.timeoutMs);
    try {
      return await client.call(path, message);
    } catch (error) {
      if (!(error instanceof CallError)) throw error;
      problems.push(`  ${endpoint}: ${error.message}`);
    } finally {
      client.close();
    }
  }
  throw new CommandError(["no endpoint did it:", ...problems].join("\n"), ExitCode.failure);
}

/** The revision in the header that every response starts with. */
function headerRevision(reader: ProtoReader): number {
  const outerEnd = reader.end;
  const end = reader.open();
  reader.end = end;
  let revision = 0;
  while (reader.at < end) {
    const tag = reader.tag();
    if (tag === 0x18) revision = reader.int64();
    else reader.skip(tag);
  }
  reader.end = outerEnd;
  return revision;
}

function readKey(reader: ProtoReader): ShownKey {
  const outerEnd = reader.end;
  const end = reader.open();
  reader.end = end;
  let key = "";
  let value = "";
  let modRevision = 0;
  while (reader.at < end) {
    const tag = reader.tag();
    if (tag === 0x0a) key = reader.string();
    else if (tag === 0x18) modRevision = reader.int64();
    else if (tag === 0x2a) value = reader.string();
    else reader.skip(tag);
  }
  reader.end = outerEnd;
  return { key, value, modRevision };
}

async function put(key: string, value: string, options: KvOptions): Promise<void> {
  const message = Buffer.concat([bytesField(1, Buffer.from(key)), bytesField(2, Buffer.from(value))]);
  const reader = new ProtoReader(await callAny(options, "/etcdserverpb.KV/Put", message));
  const revision = reader.tag() === 0x0a ? headerRevision(reader) : 0;
  console.log(options.output === "json" ? JSON.stringify({ key, revision }) : `OK (revision ${revision})`);
}

/** The end of the range of all keys with this prefix; "\0" when there is no such key. */
function prefixEnd(prefix: Buffer): Buffer {
  const end = Buffer.from(prefix);
  for (let last = end.length - 1; last >= 0; last--) {
    if (end[last]! < 0xff) {
      end[last]! += 1;
      return end.subarray(0, last + 1);
    }
  }
  return Buffer.from([0]);
}

async function get(key: string, options: KvOptions): Promise<void> {
  const from = Buffer.from(key);
  const parts = [bytesField(1, from)];
  if (options.prefix === true) parts.push(bytesField(2, prefixEnd(from)));
  const reader = new ProtoReader(await callAny(options, "/etcdserverpb.KV/Range", Buffer.concat(parts)));
  const keys: ShownKey[] = [];
  while (reader.at < reader.end) {
    const tag = reader.tag();
    if (tag === 0x12) keys.push(readKey(reader));
    else reader.skip(tag);
  }
  if (options.output === "json") console.log(JSON.stringify(keys));
  else for (const shown of keys) console.log(`${shown.key}\n${shown.value}`);
  if (keys.length === 0 && options.prefix !== true) throw new CommandError(`there is no key "${key}"`);
}

/** The `put` command. */
export function putCommand(): Command {
  const command = new Command("put")
    .description("write one key (for everything else: etcdctl)")
    .argument("<key>")
    .argument("<value>");
  withTargetOptions(command).addOption(outputOption()).action(put);
  return withExamples(command, ["kmmr put greeting hello", "kmmr put greeting hello --output json"]);
}

/** The `get` command. */
export function getCommand(): Command {
  const command = new Command("get").description("read one key, or all with a prefix").argument("<key>");
  withTargetOptions(command)
    .option("--prefix", "all keys that start with it")
    .addOption(outputOption())
    .action(get);
  return withExamples(command, ["kmmr get greeting", "kmmr get /registry/ --prefix --output json"]);
}
