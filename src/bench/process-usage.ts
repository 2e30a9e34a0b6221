/**
 * What a process and its children have used, from /proc. Only Linux has it; elsewhere everything is 0.
 */
import { readdirSync, readFileSync } from "node:fs";

/** Totals since the start of the process, sizes as they are now. */
export interface ProcessUsage {
  /** User and system time of all threads. */
  readonly cpuMs: number;
  /** Resident memory, files mapped into it included. */
  readonly rssBytes: number;
  /** Resident memory that no file backs. */
  readonly anonymousBytes: number;
  /** What went towards the disk. */
  readonly writtenBytes: number;
}

/** Linux counts processor time in hundredths of a second whatever the kernel's own tick is. */
const tickMs = 10;
const none: ProcessUsage = { cpuMs: 0, rssBytes: 0, anonymousBytes: 0, writtenBytes: 0 };

/** Usage of a process together with the processes it started. */
export function usageOf(pid: number): ProcessUsage {
  let total = none;
  for (const member of [pid, ...descendantsOf(pid)]) {
    const usage = usageOfOne(member);
    total = {
      cpuMs: total.cpuMs + usage.cpuMs,
      rssBytes: total.rssBytes + usage.rssBytes,
      anonymousBytes: total.anonymousBytes + usage.anonymousBytes,
      writtenBytes: total.writtenBytes + usage.writtenBytes,
    };
  }
  return total;
}

function usageOfOne(pid: number): ProcessUsage {
  const stat = fieldsOfStat(pid);
  if (stat === undefined) return none;
  const status = readText(`/proc/${pid}/status`);
  const io = readText(`/proc/${pid}/io`);
  return {
    cpuMs: (Number(stat[11]) + Number(stat[12])) * tickMs,
    rssBytes: numberAfter(status, "VmRSS:") * 1024,
    anonymousBytes: numberAfter(status, "RssAnon:") * 1024,
    writtenBytes: numberAfter(io, "write_bytes:"),
  };
}

function descendantsOf(pid: number): number[] {
  let pids: number[];
  try {
    pids = readdirSync("/proc").map(Number).filter(Number.isInteger);
  } catch {
    return [];
  }
  const childrenOf = new Map<number, number[]>();
  for (const candidate of pids) {
    const parent = Number(fieldsOfStat(candidate)?.[1]);
    childrenOf.set(parent, [...(childrenOf.get(parent) ?? []), candidate]);
  }
  const found: number[] = [];
  for (const next = [pid]; next.length > 0; ) {
    const children = childrenOf.get(next.pop()!) ?? [];
    found.push(...children);
    next.push(...children);
  }
  return found;
}

/** Fields of /proc/PID/stat from the state (field 3) on; the name before may contain anything. */
function fieldsOfStat(pid: number): string[] | undefined {
  const text = readText(`/proc/${pid}/stat`);
  return text === "" ? undefined : text.slice(text.lastIndexOf(")") + 2).split(" ");
}

function numberAfter(text: string, label: string): number {
  const start = text.indexOf(`\n${label}`);
  const from = start >= 0 ? start + 1 : text.startsWith(label) ? 0 : -1;
  return from < 0 ? 0 : Number.parseInt(text.slice(from + label.length).trim(), 10) || 0;
}

/** Empty when the process is gone or the file is not ours to read. */
function readText(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return "";
  }
}
