/** What waits to be written to a socket: small frames copied together, large pieces as they are. */
import type { Socket } from "node:net";

const SLAB_SIZE_BYTES_MIN = 1024;
const SLAB_SIZE_BYTES_MAX = 65_536;
/** Pieces from this size on are not copied. */
const LARGE_PIECE_BYTES = 4096;

export class Output {
  #pieces: Buffer[] = [];
  #slab: Buffer = Buffer.alloc(0);
  /** The part of the slab that is filled and not in the pieces yet. */
  #start = 0;
  #at = 0;
  /** Bytes that wait. */
  sizeBytes = 0;

  /** Room for so many bytes, which the caller fills from the returned index on in `slab`. */
  reserve(sizeBytes: number): number {
    if (this.#at + sizeBytes > this.#slab.length) {
      this.#seal();
      const wanted = Math.min(Math.max(2 * this.sizeBytes, SLAB_SIZE_BYTES_MIN), SLAB_SIZE_BYTES_MAX);
      this.#slab = Buffer.allocUnsafeSlow(Math.max(wanted, sizeBytes));
      this.#start = 0;
      this.#at = 0;
    }
    const at = this.#at;
    this.#at = at + sizeBytes;
    this.sizeBytes += sizeBytes;
    return at;
  }

  get slab(): Buffer {
    return this.#slab;
  }

  /** Adds bytes that nobody changes any more. */
  add(piece: Buffer): void {
    if (piece.length < LARGE_PIECE_BYTES) {
      const at = this.reserve(piece.length);
      this.#slab.set(piece, at);
      return;
    }
    this.#seal();
    this.#pieces.push(piece);
    this.sizeBytes += piece.length;
  }

  #seal(): void {
    if (this.#at > this.#start) this.#pieces.push(this.#slab.subarray(this.#start, this.#at));
    this.#start = this.#at;
  }

  /** Hands everything to the socket, in one write as far as the socket can. */
  flush(socket: Socket): void {
    if (this.sizeBytes === 0) return;
    this.#seal();
    const pieces = this.#pieces;
    this.#pieces = [];
    this.sizeBytes = 0;
    if (pieces.length === 1) {
      socket.write(pieces[0]!);
      return;
    }
    socket.cork();
    for (const piece of pieces) socket.write(piece);
    socket.uncork();
  }
}
