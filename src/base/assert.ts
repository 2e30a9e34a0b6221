/** A broken invariant of our own: the process must stop rather than go on wrong. Never raised by peer bytes. */
export class InvariantError extends Error {
  override name = "InvariantError";
}

/** Checks a statement about our own state; stays on in production. */
export function assert(condition: unknown, statement: string): asserts condition {
  if (!condition) throw new InvariantError(`invariant broken: ${statement}`);
}

/** Marks a place that the type checker proves unreachable. */
export function unreachable(value: never): never {
  throw new InvariantError(`unreachable case: ${String(value)}`);
}
