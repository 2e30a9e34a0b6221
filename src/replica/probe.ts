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
    if (core.probation === undefined || core.probation.limit !== undefined) return;
    if (core.monotonicMs - this.#askedAtMs < ASK_AGAIN_MS) return;
    this.#askedAtMs = core.monotonicMs;
    for (let member = 0; member < core.membership.n; member++) {
      if (member !== core.self && !this.#answers.has(member)) {
        core.send(member, { type: "fence", nonce: this.#nonce });
      }
    }
  }

  /**
   * Forgetting is a fault, so among the others at most f-1 are faulty: n-f of them answer, and each promise
   * of this member that mattered is known to at least one correct one of those. An ACCEPT of this member in
   * instance c followed the decision of c-1, which correct members accepted or logged; hence one above the highest.
   */
  onReply(from: number, message: Extract<Message, { type: "fenceReply" }>): void {
    const core = this.#core;
    if (message.nonce !== this.#nonce) return;
    if (core.probation === undefined || core.probation.limit !== undefined) return;
    this.#answers.set(from, message);
    const { n, f } = core.membership;
    if (this.#answers.size < n - f) return;
    const answers = [...this.#answers.values()];
    // Up to f-1 of the answers may be invented, and an invented height must not silence this member for ever.
    const highest = (values: number[]) => values.sort((a, b) => b - a)[f - 1]!;
    core.probation.limit = {
      cid: highest(answers.map((answer) => answer.accepted)) + 1,
      regency: highest(answers.map((answer) => answer.regency)),
    };
  }
}
