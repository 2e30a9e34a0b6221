/**
 * The state of the store at every revision, computed from the history of changes alone: an independent, dumb
 * model of etcd's data, which client results are compared with.
 */
import type { KeyValue } from "../../store/types.ts";
import type { Report } from "../history.ts";
import type { ChangeHistory } from "./changes.ts";

interface Version {
  readonly revision: number;
  /** Undefined: deleted. */
  readonly kv: KeyValue | undefined;
}

export class StoreModel {
  readonly #versions = new Map<string, Version[]>();
  readonly #keys: string[];
  readonly #gaps: number[] = [];
  readonly lastRevision: number;

  /** Reports changes that no etcd makes: wrong version numbers, deletions of what is not there, gaps. */
  constructor(history: ChangeHistory, report: Report) {
    this.lastRevision = history.lastRevision;
    for (let revision = 2; revision <= history.lastRevision; revision++) {
      const change = history.change(revision);
      if (change === undefined) {
        this.#gaps.push(revision);
        continue;
      }
      for (const event of change.events) this.#apply(event.type, event.kv, revision, report);
    }
    this.#keys = [...this.#versions.keys()].sort();
  }

  #apply(type: "put" | "delete", kv: KeyValue, revision: number, report: Report): void {
    let versions = this.#versions.get(kv.key);
    if (versions === undefined) this.#versions.set(kv.key, (versions = []));
    const before = versions[versions.length - 1]?.kv;
    const wrong = (what: string) =>
      report({ checker: "model", message: `revision ${revision}, key ${kv.key}: ${what}` });
    if (this.#gaps.length === 0) {
      if (type === "delete" && before === undefined) wrong("deletes a key that is not there");
      if (type === "put") {
        const version = (before?.version ?? 0) + 1;
        const created = before?.createRevision ?? revision;
        if (kv.version !== version) wrong(`version ${kv.version} instead of ${version}`);
        if (kv.createRevision !== created) wrong(`created at ${kv.createRevision} instead of ${created}`);
      }
    }
    versions.push({ revision, kv: type === "put" ? kv : undefined });
  }

  /** Whether all changes up to a revision are known, so that `at` can be trusted there. */
  knows(revision: number): boolean {
    return revision <= this.lastRevision && (this.#gaps.length === 0 || revision < this.#gaps[0]!);
  }

  /** The key as it is after a revision. */
  at(key: string, revision: number): KeyValue | undefined {
    const versions = this.#versions.get(key);
    if (versions === undefined) return undefined;
    let low = 0;
    let high = versions.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (versions[middle]!.revision <= revision) low = middle + 1;
      else high = middle;
    }
    return low === 0 ? undefined : versions[low - 1]!.kv;
  }

  /** The keys of a range (etcd's rules for `rangeEnd`) after a revision, in order. */
  range(key: string, rangeEnd: string, revision: number): KeyValue[] {
    if (rangeEnd === "") {
      const kv = this.at(key, revision);
      return kv === undefined ? [] : [kv];
    }
    const found: KeyValue[] = [];
    for (const candidate of this.#keys) {
      if (candidate < key || (rangeEnd !== "\0" && candidate >= rangeEnd)) continue;
      const kv = this.at(candidate, revision);
      if (kv !== undefined) found.push(kv);
    }
    return found;
  }
}

/** Whether both are the same version of the same key with the same contents. */
export function sameKeyValue(a: KeyValue | undefined, b: KeyValue | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  if (a.key !== b.key || a.createRevision !== b.createRevision || a.modRevision !== b.modRevision)
    return false;
  if (a.version !== b.version || a.lease !== b.lease || a.value.length !== b.value.length) return false;
  for (let i = 0; i < a.value.length; i++) if (a.value[i] !== b.value[i]) return false;
  return true;
}
