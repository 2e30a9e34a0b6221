/** A store event with its bytes, which all watchers that get it share. */

import type { WatchEvent } from "../../store/types.ts";
import { encodeEvent } from "../messages/watch-messages.ts";

export class SharedEvent {
  readonly #event: WatchEvent;
  #plain: Buffer | undefined;
  #withPrevKv: Buffer | undefined;

  constructor(event: WatchEvent) {
    this.#event = event;
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
    if (!withPrevKv) return (this.#plain ??= encodeEvent(this.#event, false));
    return (this.#withPrevKv ??= encodeEvent(this.#event, true));
  }
}
