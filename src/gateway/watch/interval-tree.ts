/**
 * Half-open key ranges in order of their start, each subtree knowing its furthest end: all ranges that hold a
 * key are found in about logarithmic time plus their number. A treap whose priorities come from a counter
 * hash, so that no input order makes it deep.
 */

/** A range [start, end); `end` undefined is unbounded. */
export interface Interval<T> {
  readonly start: string;
  readonly end: string | undefined;
  readonly value: T;
}

interface Node<T> extends Interval<T> {
  readonly priority: number;
  left: Node<T> | undefined;
  right: Node<T> | undefined;
  /** The furthest end in this subtree. */
  furthest: string | undefined;
}

function later(a: string | undefined, b: string | undefined): string | undefined {
  if (a === undefined || b === undefined) return undefined;
  return a > b ? a : b;
}

/** Order by start, then by end, unbounded last. */
function compare(a: Interval<unknown>, start: string, end: string | undefined): number {
  if (a.start !== start) return a.start < start ? -1 : 1;
  if (a.end === end) return 0;
  if (a.end === undefined) return 1;
  if (end === undefined) return -1;
  return a.end < end ? -1 : 1;
}

function update<T>(node: Node<T>): Node<T> {
  let furthest = node.end;
  if (node.left !== undefined) furthest = later(furthest, node.left.furthest);
  if (node.right !== undefined) furthest = later(furthest, node.right.furthest);
  node.furthest = furthest;
  return node;
}

function merge<T>(left: Node<T> | undefined, right: Node<T> | undefined): Node<T> | undefined {
  if (left === undefined) return right;
  if (right === undefined) return left;
  if (left.priority > right.priority) {
    left.right = merge(left.right, right);
    return update(left);
  }
  right.left = merge(left, right.left);
  return update(right);
}

/** Splits into what is before the range and what is at or after it. */
function split<T>(
  node: Node<T> | undefined,
  start: string,
  end: string | undefined,
): [Node<T> | undefined, Node<T> | undefined] {
  if (node === undefined) return [undefined, undefined];
  if (compare(node, start, end) < 0) {
    const [before, after] = split(node.right, start, end);
    node.right = before;
    return [update(node), after];
  }
  const [before, after] = split(node.left, start, end);
  node.left = after;
  return [before, update(node)];
}

export class IntervalTree<T> {
  #root: Node<T> | undefined;
  #counter = 0;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** The value of exactly this range. */
  get(start: string, end: string | undefined): T | undefined {
    let node = this.#root;
    while (node !== undefined) {
      const order = compare(node, start, end);
      if (order === 0) return node.value;
      node = order < 0 ? node.right : node.left;
    }
    return undefined;
  }

  /** Adds a range that is not there yet. */
  add(start: string, end: string | undefined, value: T): void {
    const priority = this.#priority();
    const added: Node<T> = { start, end, value, priority, left: undefined, right: undefined, furthest: end };
    const [before, after] = split(this.#root, start, end);
    this.#root = merge(merge(before, added), after);
    this.#size++;
  }

  /** Removes exactly this range, if it is there. */
  remove(start: string, end: string | undefined): void {
    const [root, removed] = this.#without(this.#root, start, end);
    this.#root = root;
    if (removed) this.#size--;
  }

  #without(
    node: Node<T> | undefined,
    start: string,
    end: string | undefined,
  ): [Node<T> | undefined, boolean] {
    if (node === undefined) return [undefined, false];
    const order = compare(node, start, end);
    if (order === 0) return [merge(node.left, node.right), true];
    const side = order < 0 ? "right" : "left";
    const [child, removed] = this.#without(node[side], start, end);
    node[side] = child;
    return [update(node), removed];
  }

  /** Calls `visit` with the value of every range that holds the key. */
  stab(key: string, visit: (value: T) => void): void {
    if (this.#root !== undefined) this.#stab(this.#root, key, visit);
  }

  #stab(node: Node<T>, key: string, visit: (value: T) => void): void {
    if (node.furthest !== undefined && node.furthest <= key) return;
    if (node.left !== undefined) this.#stab(node.left, key, visit);
    if (node.start > key) return;
    if (node.end === undefined || node.end > key) visit(node.value);
    if (node.right !== undefined) this.#stab(node.right, key, visit);
  }

  /** A well-mixed 32-bit hash of a counter: different for every range, and unrelated to the order of adding. */
  #priority(): number {
    let z = (this.#counter = (this.#counter + 0x9e3779b9) >>> 0);
    z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
    z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
    return (z ^ (z >>> 16)) >>> 0;
  }
}
