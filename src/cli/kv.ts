/**
 * `kmmr put` and `kmmr get`: enough to try a cluster on a machine without etcdctl.
 */
import { Command } from "commander";
import { CallError, EtcdClient } from "./etcd-client.ts";
import { CommandError, ExitCode } from "./exit-code.ts";
import { bytesField, prefixEnd, readRange, readRevision } from "./kv-messages.ts";
import { type OutputFormat, outputOption, withExamples } from "./output-option.ts";
import { type TargetOptions, targetOf, withTargetOptions } from "./target.ts";

interface KvOptions extends TargetOptions {
  readonly prefix?: boolean;
  readonly output: OutputFormat;
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

async function put(key: string, value: string, options: KvOptions): Promise<void> {
  const message = Buffer.concat([bytesField(1, Buffer.from(key)), bytesField(2, Buffer.from(value))]);
  const revision = readRevision(await callAny(options, "/etcdserverpb.KV/Put", message));
  console.log(options.output === "json" ? JSON.stringify({ key, revision }) : `OK (revision ${revision})`);
}

async function get(key: string, options: KvOptions): Promise<void> {
  const from = Buffer.from(key);
  const parts = [bytesField(1, from)];
  if (options.prefix === true) parts.push(bytesField(2, prefixEnd(from)));
  const keys = readRange(await callAny(options, "/etcdserverpb.KV/Range", Buffer.concat(parts)));
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
