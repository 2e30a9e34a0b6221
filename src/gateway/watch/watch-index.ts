/** Which watchers want to know of a key: single keys by a map, ranges by a tree, equal ranges grouped. */
import { IntervalTree } from "./interval-tree.ts";

/** What is watched: a key alone (`rangeEnd` ""), from a key on ("\0"), or [key, rangeEnd). */
export interface Watched {
  readonly key: string;
  readonly rangeEnd: string;
}

export class WatchIndex<W extends Watched> {
  readonly #byKey = new Map<string, Set<W>>();
  readonly #byRange = new IntervalTree<Set<W>>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  add(watcher: W): void {
    const { key, rangeEnd } = watcher;
    let group: Set<W> | undefined;
    if (rangeEnd === "") {
      group = this.#byKey.get(key);
      if (group === undefined) this.#byKey.set(key, (group = new Set()));
    } else {
      const end = endOf(rangeEnd);
      group = this.#byRange.get(key, end);
      if (group === undefined) this.#byRange.add(key, end, (group = new Set()));
    }
    if (group.has(watcher)) return;
    group.add(watcher);
    this.#size++;
  }

  remove(watcher: W): void {
    const { key, rangeEnd } = watcher;
    const single = rangeEnd === "";
    const group = single ? this.#byKey.get(key) : this.#byRange.get(key, endOf(rangeEnd));
    if (group === undefined || !group.delete(watcher)) return;
    this.#size--;
    if (group.size > 0) return;
    if (single) this.#byKey.delete(key);
    else this.#byRange.remove(key, endOf(rangeEnd));
  }

  /** Calls `visit` with every group of watchers that watch the key. */
  match(key: string, visit: (watchers: ReadonlySet<W>) => void): void {
    const single = this.#byKey.get(key);
    if (single !== undefined) visit(single);
    this.#byRange.stab(key, visit);
  }
}

function endOf(rangeEnd: string): string | undefined {
  return rangeEnd === "\0" ? undefined : rangeEnd;
}
