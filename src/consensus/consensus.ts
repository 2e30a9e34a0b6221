/**
 * The consensus core of one member: Mod-SMaRt as a pure state machine. The replica feeds it messages, ticks
 * and durable acknowledgements, and carries out its effects.
 */
import { DecodeError } from "../base/codec.ts";
import { advance, onBundle, onInstanceMessage, presign } from "./agreement.ts";
import { bundleDigest, decodeBundle, encodeBundleBody } from "./bundle.ts";
import {
  askForMissing,
  keepCertified,
  onAcceptRequest,
  onBundleRequest,
  onDecisionClaim,
  onDecisions,
  onDecisionsRequest,
  onValue,
  onValueRequest,
  signCertifying,
} from "./catch-up.ts";
import { Core, type CoreConfig } from "./core.ts";
import type { ConsensusEffect } from "./effects.ts";
import { presignLogged } from "./fast-path.ts";
import {
  askAuthority,
  onAuthority,
  onAuthorityRequest,
  onStop,
  onStopData,
  onSync,
  settleAccusation,
} from "./leader-change.ts";
import { encodeMessage, type Message } from "./messages.ts";
import { linkDown, linkUp, measureTurnaround, onHeartbeat, tick } from "./progress.ts";

/** A bundle up to this size travels beside the votes, so that it is there before the PROPOSE that names it. */
const VOTE_LANE_SIZE_BYTES = 16 << 10;
/** Own bundles that wait for their decision; beyond it the door is told to refuse. */
export const OUTBOX_MAX = 1024;

/** Messages that the core itself handles; the others are the replica's. */
export type CoreMessage = Exclude<
  Message,
  { type: "checkpoint" | "checkpointCertificate" | "fence" | "fenceReply" | "stateRequest" | "stateReply" }
>;

export class Consensus {
  readonly core: Core;

  constructor(config: CoreConfig) {
    this.core = new Core(config);
  }

  /** Sets the clocks for what follows and the array that takes the effects. */
  begin(now: { readonly monotonicMs: number; readonly wallMs: number }, effects: ConsensusEffect[]): void {
    this.core.monotonicMs = now.monotonicMs;
    this.core.wallMs = now.wallMs;
    this.core.effects = effects;
  }

  /** Call after one or more inputs: does what the state allows now. */
  settle(): void {
    advance(this.core);
    settleAccusation(this.core);
  }

  tick(): void {
    const { core } = this;
    tick(core);
    askForMissing(core);
    signCertifying(core, true);
    keepCertified(core);
  }

  /** What may be done while the disk and the others work. */
  workAhead(): void {
    presign(this.core);
    presignLogged(this.core);
  }

  /** What nobody waits for: certificates of what is decided. */
  workBehind(): void {
    signCertifying(this.core, false);
    keepCertified(this.core);
  }

  /** Whether something waits for the next `workAhead`. */
  get hasWorkAhead(): boolean {
    const { accepted, logged } = this.core.instance;
    if (logged !== undefined && !logged.durable && logged.signature === undefined) return true;
    return accepted !== undefined && !accepted.durable && accepted.signed === undefined;
  }

  durable(sequence: number): void {
    this.core.durable(sequence);
  }

  linkUp(peer: number): void {
    linkUp(this.core, peer);
  }

  linkDown(peer: number): void {
    linkDown(this.core, peer);
  }

  /** Signs and sends the operations as the next own bundle. Returns its seq. */
  submit(operations: readonly Uint8Array[]): number {
    const { core } = this;
    const seq = core.nextSeq++;
    const body = encodeBundleBody(core.self, core.incarnation, seq, operations);
    const digest = bundleDigest(core.hasher, core.membership.digest, body);
    const signature = core.signer.sign(core.bundleStatement(digest));
    const encoded = new Uint8Array(body.length + signature.length);
    encoded.set(body);
    encoded.set(signature, body.length);
    const message = encodeMessage({ type: "bundle", bundle: encoded });
    core.outbox.set(seq, { message, sentAtMs: core.monotonicMs, waitMs: 2 * core.options.resendIntervalMs });
    core.broadcastBytes(message, message.length <= VOTE_LANE_SIZE_BYTES ? "vote" : "bulk", core.leader);
    const own = decodeBundle(core.hasher, core.membership.digest, encoded);
    core.keepBundle(own);
    return seq;
  }

  /** Handles one message of a peer. Bytes that are no message are counted and dropped, never fatal. */
  message(from: number, message: CoreMessage): void {
    const { core } = this;
    try {
      this.#dispatch(from, message);
    } catch (error) {
      if (!(error instanceof DecodeError)) throw error;
      core.misbehaviour(from, `malformed ${message.type}: ${error.message}`);
    }
  }

  #dispatch(from: number, message: CoreMessage): void {
    const { core } = this;
    switch (message.type) {
      case "bundle":
        onBundle(core, from, message.bundle);
        break;
      case "propose":
        if (from === core.leader && message.regency === core.regency) {
          core.leaderHeardAtMs = core.monotonicMs;
          if (message.cid === core.instance.cid && core.instance.find(core.regency)?.proposal === undefined) {
            measureTurnaround(core);
          }
        }
        onInstanceMessage(core, from, message);
        break;
      case "write":
      case "accept":
        onInstanceMessage(core, from, message);
        break;
      case "stop":
        onStop(core, from, message);
        break;
      case "stopData":
        onStopData(core, from, message);
        break;
      case "sync":
        onSync(core, from, message.sync);
        break;
      case "authority":
        onAuthority(core, from, message.authority);
        break;
      case "authorityRequest":
        onAuthorityRequest(core, from, message);
        break;
      case "heartbeat":
        onHeartbeat(core, from, message.regency, message.decided);
        if (message.regency > core.regency) askAuthority(core, from);
        break;
      case "bundleRequest":
        onBundleRequest(core, from, message);
        break;
      case "valueRequest":
        onValueRequest(core, from, message);
        break;
      case "value":
        onValue(core, message);
        break;
      case "acceptRequest":
        onAcceptRequest(core, from, message.cid);
        break;
      case "decisionsRequest":
        onDecisionsRequest(core, from, message.from);
        break;
      case "decisionClaim":
        onDecisionClaim(core, from, message);
        break;
      case "decisions":
        onDecisions(core, from, message);
        break;
    }
  }
}
