/**
 * The decided instances since the stable checkpoint before the last: for members that were away, for
 * certificates, and for the claims of a leader change.
 */
import { assert } from "../base/assert.ts";
import { equalBytes, toByteString } from "../base/bytes.ts";
import { Reader, Writer } from "../base/codec.ts";
import { Slab } from "../base/slab.ts";
import type { Bundle } from "./bundle.ts";
import type { CertificateChecker } from "./certificates.ts";
import { MAX_MEMBERS, type Membership } from "./membership.ts";
import {
  type AcceptSignature,
  type DecisionCertificate,
  type MemberSignature,
  readAcceptSignature,
  writeAcceptSignature,
} from "./messages.ts";
import type { Value } from "./value.ts";

/** Newest decisions whose bundles stay at hand, for members that lack a body. */
const RECENT = 16;

export interface DecidedEntry {
  readonly cid: number;
  readonly regency: number;
  readonly digest: Uint8Array;
  readonly encodedValue: Uint8Array;
  readonly value: Value;
  readonly bundles: readonly Bundle[];
  /** ACCEPTs of the deciding ballot by member, as received. */
  readonly accepts: (AcceptSignature | undefined)[];
  /** Own ACCEPT, with the WRITEs behind it, where there is one and no certificate. */
  readonly claim: { readonly regency: number; readonly writes: readonly MemberSignature[] } | undefined;
  /** Regency of the own logged WRITE for it; 0 where there is none. */
  readonly loggedIn: number;
  readonly certificate: DecisionCertificate | undefined;
}

/**
 * A decision as the history keeps it, for thousands of instances: value and bodies as they are sent, and once a
 * certificate covers it, its ACCEPTs in one array.
 */
export class KeptDecision {
  readonly cid: number;
  readonly regency: number;
  readonly digest: Uint8Array;
  readonly encodedValue: Uint8Array;
  /** Encoded bundles, in the value's order. */
  readonly bodies: readonly Uint8Array[];
  claim: DecidedEntry["claim"];
  loggedIn: number;
  certificate: DecisionCertificate | undefined;
  #accepts: (AcceptSignature | undefined)[] | undefined;
  #packed: Uint8Array | undefined;

  constructor(entry: DecidedEntry) {
    this.cid = entry.cid;
    this.regency = entry.regency;
    this.digest = entry.digest;
    this.encodedValue = entry.encodedValue;
    this.bodies = entry.bundles.map((bundle) => bundle.encoded);
    this.claim = entry.claim;
    this.loggedIn = entry.loggedIn;
    this.certificate = entry.certificate;
    this.#accepts = entry.accepts;
  }

  /** ACCEPTs of the deciding ballot by member, as received. */
  get accepts(): (AcceptSignature | undefined)[] {
    if (this.#accepts === undefined) {
      this.#accepts = unpackAccepts(this.#packed!);
      this.#packed = undefined;
    }
    return this.#accepts;
  }

  /** A certificate, of this or a later instance, covers the decision: no claim is made for it any more. */
  cover(): void {
    this.claim = undefined;
    this.loggedIn = 0;
    if (this.#accepts === undefined) return;
    this.#packed = packAccepts(this.certificate === undefined ? this.#accepts : []);
    this.#accepts = undefined;
  }
}

const scratch = new Writer(1024);
const packed = new Slab();

function packAccepts(accepts: readonly (AcceptSignature | undefined)[]): Uint8Array {
  scratch.list(accepts, (accept) => {
    scratch.boolean(accept !== undefined);
    if (accept !== undefined) writeAcceptSignature(accept, scratch);
  });
  return scratch.finishIn(packed);
}

function unpackAccepts(bytes: Uint8Array): (AcceptSignature | undefined)[] {
  const r = new Reader(bytes);
  return r.list(MAX_MEMBERS, () => (r.boolean() ? readAcceptSignature(r) : undefined));
}

export class DecisionHistory {
  readonly #membership: Membership;
  readonly #checker: CertificateChecker;
  readonly #onBadSignature: (member: number) => void;
  #entries: KeptDecision[] = [];
  /** Bundles of the newest decisions, oldest decision first. */
  #recent: (readonly Bundle[])[] = [];
  /** The same by digest, since the last time that somebody asked. */
  #recentByDigest: Map<string, Bundle> | undefined;
  /** Instance before the first entry. */
  #base = 0;
  /** Certificate of the instance at the base, when the base is a checkpoint. */
  #baseCertificate: DecisionCertificate | undefined;
  /** Instances up to this one are covered by a full, checked certificate (their own or a later one's). */
  #certified = 0;
  #covered = 0;
  /** A checkpoint's instance: it needs a certificate of its own, though one of a later instance covers it; 0 for none. */
  wanted = 0;

  constructor(membership: Membership, checker: CertificateChecker, onBadSignature: (member: number) => void) {
    this.#membership = membership;
    this.#checker = checker;
    this.#onBadSignature = onBadSignature;
  }

  get last(): number {
    return this.#base + this.#entries.length;
  }

  get first(): number {
    return this.#base + 1;
  }

  get certified(): number {
    return this.#certified;
  }

  /** Highest instance that a certificate at hand really covers; may be below `certified` after a restart. */
  get covered(): number {
    return this.#covered;
  }

  get(cid: number): KeptDecision | undefined {
    return this.#entries[cid - this.#base - 1];
  }

  /**
   * The bundle with this digest (as a byte string) of one of the last 16 decisions: the same object as was
   * decided, so that what is noted about it still holds.
   */
  recentBundle(digestKey: string): Bundle | undefined {
    this.#recentByDigest ??= new Map(
      this.#recent.flat().map((bundle) => [toByteString(bundle.digest), bundle]),
    );
    return this.#recentByDigest.get(digestKey);
  }

  add(entry: DecidedEntry): void {
    assert(entry.cid === this.last + 1, "decisions are kept in order");
    this.#entries.push(new KeptDecision(entry));
    this.#recent.push(entry.bundles);
    if (this.#recent.length > RECENT) this.#recent.shift();
    this.#recentByDigest = undefined;
    if (entry.certificate !== undefined) this.#noteCertified(entry.cid);
  }

  /** Starts anew behind a checkpoint. */
  reset(base: number, certificate: DecisionCertificate | undefined): void {
    this.#entries = [];
    this.#recent = [];
    this.#recentByDigest = undefined;
    this.#base = base;
    this.#baseCertificate = certificate;
    // No instance up to the base is held, so none of them can be certified here; lag is counted from it.
    this.#certified = base;
    this.#covered = certificate === undefined ? 0 : base;
  }

  /** Forgets instances up to `cid`. */
  dropUpTo(cid: number): void {
    if (cid <= this.#base || cid > this.last) return;
    this.#baseCertificate = this.get(cid)!.certificate;
    this.#entries.splice(0, cid - this.#base);
    this.#base = cid;
  }

  /**
   * A late ACCEPT for a decided instance; kept when it is one of the deciding ballot, and its member's first. Returns
   * whether it was kept.
   */
  addAccept(cid: number, regency: number, digest: Uint8Array, accept: AcceptSignature): boolean {
    const entry = this.get(cid);
    if (entry === undefined || entry.regency !== regency || entry.certificate !== undefined) return false;
    // The history keeps no more of what a certificate covers than it had then.
    if (cid <= this.#certified && cid !== this.wanted) return false;
    if (!equalBytes(entry.digest, digest) || entry.accepts[accept.member] !== undefined) return false;
    entry.accepts[accept.member] = accept;
    return true;
  }

  /**
   * The full certificate of an instance, every signature in it checked, or undefined while fewer than a
   * quorum of the ACCEPTs at hand are valid. Bad ones are dropped and their member named.
   */
  certify(cid: number): DecisionCertificate | undefined {
    if (cid === this.#base) return this.#baseCertificate;
    const entry = this.get(cid);
    if (entry === undefined) return undefined;
    if (entry.certificate !== undefined) return entry.certificate;
    // Nothing is checked before it can be enough.
    if (entry.accepts.filter((accept) => accept !== undefined).length < this.#membership.quorum)
      return undefined;
    const valid: AcceptSignature[] = [];
    for (let member = 0; member < entry.accepts.length; member++) {
      const accept = entry.accepts[member];
      if (accept === undefined) continue;
      if (this.#checker.accept(entry, accept)) {
        valid.push(accept);
        if (valid.length === this.#membership.quorum) break;
      } else {
        entry.accepts[member] = undefined;
        this.#onBadSignature(member);
      }
    }
    if (valid.length < this.#membership.quorum) return undefined;
    entry.certificate = { cid, regency: entry.regency, digest: entry.digest, accepts: valid };
    this.#noteCertified(cid);
    return entry.certificate;
  }

  /** The newest instance with a full certificate, checking from `from` downwards; undefined before any. */
  newestCertificate(from = this.last): DecisionCertificate | undefined {
    for (let cid = from; cid > this.#base; cid--) {
      const certificate = this.certify(cid);
      if (certificate !== undefined) return certificate;
    }
    return this.#baseCertificate;
  }

  #noteCertified(cid: number): void {
    // The values are chained by digest, so this certificate covers every instance below it.
    for (let below = Math.max(this.#certified, this.#base) + 1; below <= cid; below++) {
      this.get(below)!.cover();
    }
    this.#certified = Math.max(this.#certified, cid);
    this.#covered = Math.max(this.#covered, cid);
  }
}
