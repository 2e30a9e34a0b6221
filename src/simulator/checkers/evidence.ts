/**
 * Checks that every decision of a correct member has its votes behind it: ACCEPTs of a quorum in one ballot, or logged
 * WRITEs of all members, of which the correct ones were seen to send theirs; the Byzantine ones may have said anything
 * to anybody. A decision without them need not contradict another one in this run, but in some run it does.
 */
import { toByteString, toHex } from "../../base/bytes.ts";
import type { MemberIndex } from "../../replica/contract.ts";
import type { Report } from "../history.ts";
import { kindOf } from "../message-kinds.ts";

const NUMBER_SIZE_BYTES = 8;
const REGENCY_AT = 1;
const CID_AT = REGENCY_AT + NUMBER_SIZE_BYTES;
const DIGEST_AT = CID_AT + NUMBER_SIZE_BYTES;
const WRITE_LOGGED_AT = DIGEST_AT + 32 + 64;

interface Votes {
  readonly accepts: Set<MemberIndex>;
  readonly logged: Set<MemberIndex>;
}

export class EvidenceChecker {
  readonly #n: number;
  readonly #quorum: number;
  readonly #byzantine: ReadonlySet<MemberIndex>;
  readonly #report: Report;
  /** Votes of correct members by instance, then by value and regency. */
  readonly #votes = new Map<number, Map<string, Map<number, Votes>>>();
  readonly #proven = new Set<string>();
  #seen: Uint8Array | undefined;

  constructor(n: number, quorum: number, byzantine: ReadonlySet<MemberIndex>, report: Report) {
    this.#n = n;
    this.#quorum = quorum;
    this.#byzantine = byzantine;
    this.#report = report;
  }

  /** A member sends a message, as encoded. */
  sent(member: MemberIndex, bytes: Uint8Array): void {
    if (this.#seen === bytes || this.#byzantine.has(member)) return;
    const kind = kindOf(bytes);
    const isAccept = kind === "accept";
    if (!isAccept && (kind !== "write" || bytes[WRITE_LOGGED_AT] !== 1)) return;
    this.#seen = bytes;
    const votes = this.#of(
      numberAt(bytes, CID_AT),
      toByteString(bytes.subarray(DIGEST_AT, DIGEST_AT + 32)),
      numberAt(bytes, REGENCY_AT),
    );
    (isAccept ? votes.accepts : votes.logged).add(member);
  }

  #of(cid: number, digestKey: string, regency: number): Votes {
    const ofInstance = got(this.#votes, cid, () => new Map<string, Map<number, Votes>>());
    const ofValue = got(ofInstance, digestKey, () => new Map<number, Votes>());
    return got(ofValue, regency, () => ({ accepts: new Set(), logged: new Set() }));
  }

  /** A correct member has decided. */
  decided(member: MemberIndex, cid: number, digest: Uint8Array): void {
    const digestKey = toByteString(digest);
    const key = `${cid}/${digestKey}`;
    if (this.#proven.has(key)) return;
    this.#proven.add(key);
    for (const { accepts, logged } of this.#votes.get(cid)?.get(digestKey)?.values() ?? []) {
      if (accepts.size >= this.#quorum - this.#byzantine.size) return;
      if (logged.size >= this.#n - this.#byzantine.size) return;
    }
    this.#report({
      checker: "evidence",
      message: `member ${member} decided ${toHex(digest).slice(0, 16)} in instance ${cid}, which no quorum has accepted`,
    });
  }
}

function got<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let value = map.get(key);
  if (value === undefined) map.set(key, (value = make()));
  return value;
}

function numberAt(bytes: Uint8Array, at: number): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return view.getUint32(at) * 0x1_0000_0000 + view.getUint32(at + 4);
}
