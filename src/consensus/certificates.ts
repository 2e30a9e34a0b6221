/**
 * Checking of certificates, in full, before they are kept, used or passed on: signers are distinct members,
 * all fields equal, quorum size for the membership, every signature valid (refusing W3, W5 and W11 of
 * BFT-SMaRt, whose certificates were compared in part, against 2f+1, or not at all).
 */
import type { Verifier } from "../base/crypto.ts";
import type { Membership } from "./membership.ts";
import type {
  AcceptClaim,
  AcceptSignature,
  AuthorityCertificate,
  CheckpointCertificate,
  DecisionCertificate,
  MemberSignature,
} from "./messages.ts";
import { acceptStatement, checkpointStatement, stopStatement, writeStatement } from "./statements.ts";

/** What an ACCEPT is for. */
type AcceptedBallot = Pick<DecisionCertificate, "regency" | "cid" | "digest">;

/** Checks signatures for one membership. */
export class CertificateChecker {
  readonly #membership: Membership;
  readonly #verifier: Verifier;
  readonly #mutation: string;
  #checked = 0;

  constructor(membership: Membership, verifier: Verifier, mutation = "") {
    this.#membership = membership;
    this.#verifier = verifier;
    this.#mutation = mutation;
  }

  /** Signatures that were checked so far. */
  get checked(): number {
    return this.#checked;
  }

  /** Whether `member` is one and made this signature over the statement. */
  signedBy(member: number, statement: Uint8Array, signature: Uint8Array): boolean {
    this.#checked++;
    const signer = this.#membership.members[member];
    return signer !== undefined && this.#verifier.verify(signer.publicKey, statement, signature);
  }

  #quorumOf<T extends MemberSignature>(
    items: readonly T[],
    statement: (item: T) => Uint8Array,
    fewer = 0,
  ): boolean {
    if (items.length < this.#membership.quorum - fewer) return false;
    const seen = new Set<number>();
    for (const item of items) {
      if (seen.has(item.member) && this.#mutation !== "certificateAnySigner") return false;
      seen.add(item.member);
      if (!this.signedBy(item.member, statement(item), item.signature)) return false;
    }
    return true;
  }

  /** Whether its member signed this ACCEPT in the ballot. */
  accept(ballot: AcceptedBallot, accept: AcceptSignature): boolean {
    return this.signedBy(accept.member, this.#acceptStatement(ballot, accept), accept.signature);
  }

  #acceptStatement({ regency, cid, digest }: AcceptedBallot, accept: AcceptSignature): Uint8Array {
    const { executedCid, executionHash } = accept;
    return acceptStatement(this.#membership.digest, regency, cid, digest, executedCid, executionHash);
  }

  decision(certificate: DecisionCertificate): boolean {
    const { regency, cid, accepts } = certificate;
    if (regency < 1 || cid < 1) return false;
    const fewer = this.#mutation === "decisionOneSignerShort" ? 1 : 0;
    return this.#quorumOf(accepts, (accept) => this.#acceptStatement(certificate, accept), fewer);
  }

  /** Those of its ACCEPTs that are valid, a quorum at most: a certificate as it was received may hold others. */
  validAccepts(certificate: DecisionCertificate): AcceptSignature[] {
    const { quorum } = this.#membership;
    const valid: AcceptSignature[] = [];
    if (certificate.accepts.length < quorum) return valid;
    for (const accept of certificate.accepts) {
      if (valid.length === quorum) break;
      if (valid.some((other) => other.member === accept.member)) continue;
      if (this.accept(certificate, accept)) valid.push(accept);
    }
    return valid;
  }

  authority(certificate: AuthorityCertificate): boolean {
    if (certificate.regency < 2) return false;
    const statement = stopStatement(this.#membership.digest, certificate.regency);
    return this.#quorumOf(certificate.stops, () => statement);
  }

  checkpoint(certificate: CheckpointCertificate): boolean {
    const statement = checkpointStatement(this.#membership.digest, certificate.cid, certificate.root);
    return this.#quorumOf(certificate.signatures, () => statement);
  }

  /**
   * Whether more than f members signed this root, so that a correct one has computed it: enough to take the
   * state over, though not to cut the log. A quorum may lack the very member that needs the state.
   */
  checkpointRoot(certificate: CheckpointCertificate): boolean {
    const statement = checkpointStatement(this.#membership.digest, certificate.cid, certificate.root);
    const valid = new Set<number>();
    for (const { member, signature } of certificate.signatures) {
      if (!valid.has(member) && this.signedBy(member, statement, signature)) valid.add(member);
    }
    return valid.size > this.#membership.f - (this.#mutation === "checkpointRootOneFewer" ? 1 : 0);
  }

  /**
   * Whether a correct acceptor may have made this claim: f+1 valid WRITE signatures of distinct members for
   * exactly its ballot and value. At least one of them is a correct member's, which found the value right.
   */
  claim(claim: AcceptClaim): boolean {
    if (this.#mutation === "claimNotChecked") return true;
    if (claim.regency < 1) return false;
    const statement = writeStatement(this.#membership.digest, claim.regency, claim.cid, claim.digest);
    // Each signer once, as a correct acceptor counts them: nobody makes this member check more than n.
    const signers = new Set(claim.writes.map((write) => write.member));
    if (signers.size !== claim.writes.length) return false;
    const valid = new Set<number>();
    for (const write of claim.writes) {
      if (this.signedBy(write.member, statement, write.signature)) valid.add(write.member);
      if (valid.size > this.#membership.f) return true;
    }
    return false;
  }
}
