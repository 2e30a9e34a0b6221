/**
 * Makes a list of operations that shows a difference shorter, by delta debugging: parts are left out, then ever
 * smaller parts, as long as a difference still shows.
 */

/** Whether the list still shows what is looked for. */
export type Shows<T> = (list: readonly T[]) => Promise<boolean>;

/**
 * The shortest list found. First the shortest tail that shows it (a difference mostly comes from what was just
 * before), then ever smaller parts of it are left out; at most `tries` calls of `shows`. Returns undefined when
 * not even the whole list shows it again.
 */
export async function shrink<T>(
  list: readonly T[],
  shows: Shows<T>,
  tries: number,
): Promise<readonly T[] | undefined> {
  let left = tries;
  const attempt = async (candidate: readonly T[]): Promise<boolean> => {
    if (left === 0) return false;
    left -= 1;
    return shows(candidate);
  };
  let best: readonly T[] | undefined;
  for (let length = 8; best === undefined; length *= 8) {
    const tail = list.slice(-length);
    if (await attempt(tail)) best = tail;
    else if (length >= list.length || left === 0) return undefined;
  }
  let parts = 2;
  while (best.length > 1 && left > 0) {
    const size: number = Math.ceil(best.length / parts);
    let smaller: readonly T[] | undefined;
    // From the front: the last operation is the one that shows it.
    for (let at = 0; at < best.length && smaller === undefined; at += size) {
      const candidate: readonly T[] = [...best.slice(0, at), ...best.slice(at + size)];
      if (await attempt(candidate)) smaller = candidate;
    }
    if (smaller !== undefined) {
      best = smaller;
      parts = Math.max(2, parts - 1);
    } else if (size === 1) {
      return best;
    } else {
      parts = Math.min(best.length, parts * 2);
    }
  }
  return best;
}
