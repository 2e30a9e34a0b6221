/** Messages that wait for a connection to take them: bounded, the oldest goes when there is no room. */
import { FRAME_HEADER_SIZE_BYTES } from "./frame.ts";

/** A queue with a bound in bytes. */
export class Outbox {
  readonly #maxBytes: number;
  #messages: Uint8Array[] = [];
  #head = 0;
  #bytes = 0;
  #dropped = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Bytes of the frames that wait. */
  get sizeBytes(): number {
    return this.#bytes;
  }

  get isEmpty(): boolean {
    return this.#head === this.#messages.length;
  }

  /** Messages that were dropped for want of room. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Puts a message at the end; those at the front go as long as there is no room. */
  push(message: Uint8Array): void {
    this.#messages.push(message);
    this.#bytes += message.length + FRAME_HEADER_SIZE_BYTES;
    while (this.#bytes > this.#maxBytes && this.#messages.length - this.#head > 1) {
      this.#takeFirst();
      this.#dropped++;
    }
  }

  /** The messages at the front, at least one, as long as their frames stay within `maxBytes` together. */
  take(maxBytes: number): { messages: Uint8Array[]; sizeBytes: number } {
    const start = this.#head;
    let end = start;
    let sizeBytes = 0;
    while (end < this.#messages.length) {
      const size = this.#messages[end]!.length + FRAME_HEADER_SIZE_BYTES;
      if (end > start && sizeBytes + size > maxBytes) break;
      sizeBytes += size;
      end++;
    }
    this.#bytes -= sizeBytes;
    if (start === 0 && end === this.#messages.length) {
      const messages = this.#messages;
      this.#messages = [];
      return { messages, sizeBytes };
    }
    const messages = this.#messages.slice(start, end);
    this.#head = end;
    this.#compact();
    return { messages, sizeBytes };
  }

  #takeFirst(): void {
    this.#bytes -= this.#messages[this.#head]!.length + FRAME_HEADER_SIZE_BYTES;
    this.#head++;
    this.#compact();
  }

  /** Lets go of taken messages once they are the larger part, so that each is moved at most once. */
  #compact(): void {
    if (2 * this.#head < this.#messages.length) return;
    this.#messages = this.#messages.slice(this.#head);
    this.#head = 0;
  }
}
