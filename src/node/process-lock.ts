/**
 * One process at a time on a data directory: two processes with one identity would contradict each other, and
 * the cluster would rightly take this master for a liar.
 */
import { createHash } from "node:crypto";
import { realpathSync, rmSync } from "node:fs";
import { connect, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { makeFolder } from "./folder.ts";

/** Another process holds the directory. */
export class LockedError extends Error {
  override name = "LockedError";
}

/** A held lock; the system frees it when the process ends in any way. */
export interface ProcessLock {
  release(): Promise<void>;
}

/**
 * A name that only one process can listen on. On Linux it lies in the abstract namespace, where nothing is
 * left behind by a killed process; elsewhere it is a socket file.
 */
function lockName(folder: string): string {
  const digest = createHash("sha256").update(realpathSync(folder)).digest("hex").slice(0, 32);
  return process.platform === "linux" ? `\0kmmr-lock-${digest}` : join(tmpdir(), `kmmr-lock-${digest}.sock`);
}

function listen(name: string): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy());
    server.once("error", reject);
    server.listen(name, () => {
      // The lock must not keep a process alive that has nothing else to do.
      server.unref();
      resolve(server);
    });
  });
}

function answers(name: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(name);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}

const RETRY_INTERVAL_MS = 50;

/**
 * Takes the lock of a folder (made when missing); throws LockedError when another process has it and keeps it
 * for `waitMs`, which gives one that is just ending its time, and FolderError when it cannot be made.
 */
export async function lockFolder(folder: string, holder: string, waitMs = 0): Promise<ProcessLock> {
  makeFolder(folder);
  const deadlineMs = performance.now() + waitMs;
  for (;;) {
    try {
      return await tryLock(folder, holder);
    } catch (error) {
      if (!(error instanceof LockedError) || performance.now() >= deadlineMs) throw error;
      await delay(RETRY_INTERVAL_MS);
    }
  }
}

async function tryLock(folder: string, holder: string): Promise<ProcessLock> {
  const name = lockName(folder);
  let server: Server;
  try {
    server = await listen(name);
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "EADDRINUSE")) throw error;
    if (name.startsWith("\0") || (await answers(name))) {
      throw new LockedError(`${holder} is running already on ${folder}`);
    }
    rmSync(name, { force: true });
    server = await listen(name);
  }
  return { release: () => new Promise((resolve) => server.close(() => resolve())) };
}
