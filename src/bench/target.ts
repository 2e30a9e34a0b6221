/**
 * A cluster under load, whichever it is.
 */
import type { TlsFiles } from "./connect.ts";

/** One member of it. */
export interface TargetMember {
  readonly name: string;
  /** Changes when the member is restarted; undefined while it does not run. */
  pid: number | undefined;
  readonly clientUrl: string;
  readonly dataDir: string;
}

/** A cluster that serves. */
export interface Target {
  readonly name: "etcd" | "kmmr";
  /** What it says of itself, e.g. "etcd 3.6.16". */
  readonly description: string;
  readonly members: readonly TargetMember[];
  /** Client certificates; undefined where the client port is plain. */
  readonly tls: TlsFiles | undefined;
  /** Ends a member with kill -9; its data stays. */
  kill(name: string): void;
  /** Starts a killed member again on its data; returns once its process runs, which may be before it serves. */
  restart(name: string): Promise<void>;
  /** Ends its processes and removes its files. */
  stop(): Promise<void>;
}

/** How a target is started. */
export interface TargetOptions {
  readonly members: number;
  readonly clientTls: boolean;
  /** Folder for data and logs; on the disk that is measured. */
  readonly folder: string;
}

/** A cluster that did not come up, with the end of what it logged. */
export class TargetStartError extends Error {
  override name = "TargetStartError";
}
