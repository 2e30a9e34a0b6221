/** Byte order of two byte strings, for sort(). */
export function compareByteStrings(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
