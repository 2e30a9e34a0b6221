/** What LMDB throws, under the names that callers know. */
import { constants } from "node:os";
import { EngineCorruptError } from "../store/engine.ts";

/** LMDB's own findings: a page is missing, a page is of the wrong kind, the file is none of LMDB's. */
const DAMAGE_CODES: ReadonlySet<unknown> = new Set([-30797, -30796, -30793]);
/** Errors of the system come from LMDB as numbers. */
const SYSTEM_CODES: ReadonlyMap<unknown, string> = new Map(
  (["EIO", "ENOSPC", "EDQUOT"] as const).map((name) => [constants.errno[name], name]),
);

/** What LMDB threw, under the names that callers know. */
export function named(error: unknown): unknown {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (DAMAGE_CODES.has(code)) {
    return new EngineCorruptError(
      `the state's file is damaged (${String(error)}); the next start takes the state from the other masters`,
    );
  }
  const name = SYSTEM_CODES.get(code);
  return name === undefined
    ? error
    : Object.assign(new Error(String(error), { cause: error }), { code: name });
}

/** Why a transaction failed: LMDB hands it over in a promise of its own, which may never settle. */
export async function causeOf(error: unknown): Promise<unknown> {
  if (!(error instanceof Error) || !("commitError" in error)) return named(error);
  const unknown = new Promise((resolve) => setImmediate(resolve, error));
  return Promise.race([(error.commitError as Promise<unknown>).catch(named), unknown]);
}
