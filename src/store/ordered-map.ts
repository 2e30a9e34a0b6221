/**
 * A map ordered by byte-string key: a sorted list of sorted blocks. Look-ups cost two binary searches; an
 * insertion moves at most one block and, when it splits one, the list of blocks. With a million keys the list
 * has some four thousand entries, so both stay small, and whole blocks are counted without visiting them.
 */

/** Blocks split at this size: large enough for a short list, small enough that moving one is cheap. */
const BLOCK_SIZE_MAX = 512;

interface Block<V> {
  keys: string[];
  values: V[];
  /** Sum of the weights of the values. */
  weight: number;
}

/** See the head of the file. A key is in it once; values carry a weight that ranges can be summed over. */
export class OrderedMap<V> {
  #blocks: Block<V>[] = [];
  /** First key of each block, in one array so that the search touches nothing else. */
  #firsts: string[] = [];
  #size = 0;
  readonly #weightOf: (value: V) => number;

  /** `weightOf` is asked when a value is set or deleted; see `reweigh` for changes in between. */
  constructor(weightOf: (value: V) => number = () => 1) {
    this.#weightOf = weightOf;
  }

  get size(): number {
    return this.#size;
  }

  /** Index of the block in which the key is or belongs; 0 when it is before all. */
  #blockOf(key: string): number {
    const firsts = this.#firsts;
    let low = 0;
    let high = firsts.length - 1;
    if (high >= 0 && firsts[high]! <= key) return high;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (firsts[middle]! <= key) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  get(key: string): V | undefined {
    const block = this.#blocks[this.#blockOf(key)];
    if (block === undefined) return undefined;
    const at = lowerBound(block.keys, key);
    return block.keys[at] === key ? block.values[at] : undefined;
  }

  set(key: string, value: V): void {
    const index = this.#blockOf(key);
    const block = this.#blocks[index];
    const weight = this.#weightOf(value);
    if (block === undefined) {
      this.#blocks.push({ keys: [key], values: [value], weight });
      this.#firsts.push(key);
      this.#size = 1;
      return;
    }
    const at = lowerBound(block.keys, key);
    if (block.keys[at] === key) {
      block.weight += weight - this.#weightOf(block.values[at]!);
      block.values[at] = value;
      return;
    }
    this.#size++;
    if (at === block.keys.length && at >= BLOCK_SIZE_MAX) {
      // Appending behind a full block leaves it full, so keys that come in order are packed densely.
      this.#blocks.splice(index + 1, 0, { keys: [key], values: [value], weight });
      this.#firsts.splice(index + 1, 0, key);
      return;
    }
    if (at === block.keys.length) {
      block.keys.push(key);
      block.values.push(value);
    } else {
      block.keys.splice(at, 0, key);
      block.values.splice(at, 0, value);
    }
    block.weight += weight;
    if (at === 0) this.#firsts[index] = key;
    if (block.keys.length > BLOCK_SIZE_MAX) this.#split(index);
  }

  #split(index: number): void {
    const block = this.#blocks[index]!;
    const half = block.keys.length >>> 1;
    const right: Block<V> = { keys: block.keys.slice(half), values: block.values.slice(half), weight: 0 };
    for (const value of right.values) right.weight += this.#weightOf(value);
    block.keys.length = half;
    block.values.length = half;
    block.weight -= right.weight;
    this.#blocks.splice(index + 1, 0, right);
    this.#firsts.splice(index + 1, 0, right.keys[0]!);
  }

  /** Removes the key; false when it was not there. */
  delete(key: string): boolean {
    const index = this.#blockOf(key);
    const block = this.#blocks[index];
    if (block === undefined) return false;
    const at = lowerBound(block.keys, key);
    if (block.keys[at] !== key) return false;
    block.weight -= this.#weightOf(block.values[at]!);
    block.keys.splice(at, 1);
    block.values.splice(at, 1);
    this.#size--;
    if (block.keys.length === 0) {
      this.#blocks.splice(index, 1);
      this.#firsts.splice(index, 1);
    } else if (at === 0) {
      this.#firsts[index] = block.keys[0]!;
    }
    return true;
  }

  clear(): void {
    this.#blocks = [];
    this.#firsts = [];
    this.#size = 0;
  }

  /** Tells that the weight of the value under this key changed by `difference` since it was set. */
  reweigh(key: string, difference: number): void {
    const block = this.#blocks[this.#blockOf(key)];
    if (block !== undefined) block.weight += difference;
  }

  /**
   * Visits the values with from <= key < to (`undefined`: no end) in order until `visit` returns false. The
   * map must not be changed meanwhile.
   */
  scan(from: string, to: string | undefined, visit: (value: V, key: string) => boolean): void {
    const blocks = this.#blocks;
    let index = this.#blockOf(from);
    if (blocks[index] === undefined) return;
    let at = lowerBound(blocks[index]!.keys, from);
    for (; index < blocks.length; index++, at = 0) {
      const { keys, values } = blocks[index]!;
      const end = to === undefined || keys[keys.length - 1]! < to ? keys.length : lowerBound(keys, to);
      for (; at < end; at++) if (!visit(values[at]!, keys[at]!)) return;
      if (end < keys.length) return;
    }
  }

  /** Sum of the weights of the values with from <= key < to. */
  weightBetween(from: string, to: string | undefined): number {
    if (to !== undefined && from >= to) return 0;
    const blocks = this.#blocks;
    const first = this.#blockOf(from);
    if (blocks[first] === undefined) return 0;
    const last = to === undefined ? blocks.length - 1 : this.#blockOf(to);
    if (first === last) return this.#weightIn(blocks[first]!, from, to);
    let total = this.#weightIn(blocks[first]!, from, to) + this.#weightIn(blocks[last]!, from, to);
    for (let index = first + 1; index < last; index++) total += blocks[index]!.weight;
    return total;
  }

  #weightIn(block: Block<V>, from: string, to: string | undefined): number {
    const start = lowerBound(block.keys, from);
    const end = to === undefined ? block.keys.length : lowerBound(block.keys, to);
    if (start === 0 && end === block.keys.length) return block.weight;
    let total = 0;
    for (let at = start; at < end; at++) total += this.#weightOf(block.values[at]!);
    return total;
  }
}

/** Index of the first key that is not below `key`. */
function lowerBound(keys: readonly string[], key: string): number {
  let low = 0;
  let high = keys.length;
  if (high > 0 && keys[high - 1]! < key) return high;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (keys[middle]! < key) low = middle + 1;
    else high = middle;
  }
  return low;
}
