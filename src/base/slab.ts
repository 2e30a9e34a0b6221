/** Memory for many small byte arrays that live for about as long as each other. */

const SLAB_SIZE_BYTES = 65536;
/** Larger ones get memory of their own, so that a slab is never mostly wasted. */
const SLAB_ITEM_SIZE_MAX_BYTES = 8192;

/**
 * Cuts arrays out of shared buffers: a buffer of its own costs an array more than all else that is done with it.
 * A slab stays in memory as long as one of its arrays does.
 */
export class Slab {
  #bytes = new Uint8Array(SLAB_SIZE_BYTES);
  #used = 0;

  /** An array of this size; its bytes are zero. */
  allocate(sizeBytes: number): Uint8Array {
    if (sizeBytes > SLAB_ITEM_SIZE_MAX_BYTES) return new Uint8Array(sizeBytes);
    if (this.#used + sizeBytes > SLAB_SIZE_BYTES) {
      this.#bytes = new Uint8Array(SLAB_SIZE_BYTES);
      this.#used = 0;
    }
    const start = this.#used;
    this.#used = start + sizeBytes;
    return this.#bytes.subarray(start, this.#used);
  }
}
