/**
 * Where etcd's programs are on this machine. Looked for in this order: the environment (ETCD_BIN, ETCDCTL_BIN,
 * ETCDCTL_34_BIN), what scripts/build-etcd.ts built into the checkout, PATH.
 */
import { accessSync, constants, statSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";

/** Folder, git-ignored, that scripts/build-etcd.ts builds into. */
export const etcdCacheFolder: string = fileURLToPath(new URL("../../.cache/etcd/", import.meta.url));

/** Paths of programs; undefined where there is none. */
export interface EtcdBinaries {
  /** The server, 3.6 or later. */
  readonly etcd: string | undefined;
  /** Its command line client. */
  readonly etcdctl: string | undefined;
  /** The command line client of the 3.4 line. */
  readonly etcdctlOld: string | undefined;
}

/** What to tell somebody who has no etcd. */
export const etcdMissingHint: string =
  "no etcd found: set ETCD_BIN to an etcd 3.6 or later, put it on PATH, or run `node scripts/build-etcd.ts` (needs Go)";

/** The programs that this machine has. Reads the environment and looks at files; starts nothing. */
export function etcdBinaries(environment: NodeJS.ProcessEnv = process.env): EtcdBinaries {
  const find = (variable: string, name: string, onPath: boolean): string | undefined => {
    const named = environment[variable];
    if (named !== undefined && named !== "") {
      if (!isProgram(named)) throw new Error(`${variable}=${named} is not a program; correct or unset it`);
      return named;
    }
    const folders = [etcdCacheFolder, ...(onPath ? (environment.PATH ?? "").split(delimiter) : [])];
    return folders.map((folder) => join(folder, name)).find(isProgram);
  };
  return {
    etcd: find("ETCD_BIN", "etcd", true),
    etcdctl: find("ETCDCTL_BIN", "etcdctl", true),
    etcdctlOld: find("ETCDCTL_34_BIN", "etcdctl-3.4", false),
  };
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
