import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Slab } from "./slab.ts";

test("slab: arrays of any sizes are zero at first and never overlap", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 10_000 }), { maxLength: 60 }), (sizes) => {
      const slab = new Slab();
      const arrays = sizes.map((size, i) => {
        const array = slab.allocate(size);
        assert.equal(array.length, size);
        assert.ok(array.every((byte) => byte === 0));
        return array.fill((i % 255) + 1);
      });
      for (const [i, array] of arrays.entries()) assert.ok(array.every((byte) => byte === (i % 255) + 1));
    }),
  );
});
