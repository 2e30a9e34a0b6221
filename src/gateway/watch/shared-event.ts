/** A store event with its bytes, which all watchers that get it share. */

import type { WatchEvent } from "../../store/types.ts";
import { encodeEvent } from "../messages/watch-messages.ts";

export class SharedEvent {
  readonly #event: WatchEvent;
  readonly #previousCompacted: boolean;
  #plain: Buffer | undefined;
  #withPrevKv: Buffer | undefined;

  /** The version before an event at or below the compact revision is not shown, as if it were gone. */
  constructor(event: WatchEvent, compactRevision: number) {
    this.#event = event;
    this.#previousCompacted = event.kv.modRevision <= compactRevision;
  }

  get key(): string {
    return this.#event.kv.key;
  }

  get revision(): number {
    return this.#event.kv.modRevision;
  }

  get isDelete(): boolean {
    return this.#event.type === "delete";
  }

  /** The event as it stands in a WatchResponse; encoded when first asked for. */
  bytes(withPrevKv: boolean): Buffer {
    if (!withPrevKv || this.#previousCompacted) return (this.#plain ??= encodeEvent(this.#event, false));
    return (this.#withPrevKv ??= encodeEvent(this.#event, true));
  }
}
