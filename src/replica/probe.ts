/**
 * Probation of a member that lost its log, or the end of it: it asks how far promises that it forgot may
 * reach, and neither votes nor reports in a leader change until the others are past that.
 */
import type { Core } from "../consensus/core.ts";
import type { Message } from "../consensus/messages.ts";
import { nonceBase } from "./fences.ts";

const ASK_AGAIN_MS = 200;

export class Probe {
  readonly #core: Core;
  readonly #nonce: number;
  readonly #answers = new Map<number, { readonly accepted: number; readonly regency: number }>();
  #askedAtMs = Number.NEGATIVE_INFINITY;

  constructor(core: Core) {
    this.#core = core;
    this.#nonce = nonceBase(core.incarnation);
  }

  tick(): void {
    const core = this.#core;
    if (core.probation === undefined) return;
    if (core.monotonicMs - this.#askedAtMs < ASK_AGAIN_MS) return;
    this.#askedAtMs = core.monotonicMs;
    for (let member = 0; member < core.membership.n; member++) {
      if (member !== core.self && !this.#answers.has(member)) {
        core.send(member, { type: "fence", nonce: this.#nonce });
      }
    }
  }

  /**
   * Forgetting is a fault, so among the others at most f-1 are faulty. An ACCEPT of this member in instance c followed
   * the decision of c-1, which a quorum accepted or logged: at least `quorum - f` correct others did, and all of them
   * but the silent ones say so. Hence one above what so many of the answers reach. Never above the f-th highest:
   * up to f-1 answers may be invented, and an invented height must not silence this member for ever. While some are
   * silent their places may be needed, so that what counts is found anew with each answer.
   */
  onReply(from: number, message: Extract<Message, { type: "fenceReply" }>): void {
    const core = this.#core;
    if (message.nonce !== this.#nonce || core.probation === undefined) return;
    this.#answers.set(from, message);
    const { n, f, quorum } = core.membership;
    if (this.#answers.size < n - f) return;
    const answers = [...this.#answers.values()];
    const silent = n - 1 - answers.length;
    const place = Math.min(f, quorum - f - silent);
    const highest = (values: number[]) => values.sort((a, b) => b - a)[place - 1]!;
    core.probation.limit = {
      cid: highest(answers.map((answer) => answer.accepted)) + 1,
      regency: highest(answers.map((answer) => answer.regency)),
    };
  }
}
