/**
 * State transfer: a member whose log no longer reaches the others' takes a certified checkpoint from them.
 */
import type { Core } from "../consensus/core.ts";
import type { CheckpointCertificate, DecisionCertificate, Message } from "../consensus/messages.ts";
import type { AppliedPosition } from "../consensus/recovery.ts";
import type { Store } from "../store/store.ts";

export interface StateSyncHost {
  readonly core: Core;
  readonly store: Store;
  lastExecuted(): number;
  started(cid: number): void;
  failed(cid: number): void;
  installed(position: AppliedPosition): void;
}

export class StateSync {
  readonly #host: StateSyncHost;

  constructor(host: StateSyncHost) {
    this.#host = host;
  }

  get active(): boolean {
    return false;
  }

  repair(_cid: number): void {}
  tick(): void {}
  onCertificate(_from: number, _certificate: CheckpointCertificate, _decision: DecisionCertificate): void {
    void this.#host;
  }
  onRequest(_from: number, _message: Extract<Message, { type: "stateRequest" }>): void {}
  onReply(_from: number, _message: Extract<Message, { type: "stateReply" }>): void {}
}
