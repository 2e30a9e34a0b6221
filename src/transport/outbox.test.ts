import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { Outbox } from "./outbox.ts";

describe("outbox", () => {
  it("keeps order, stays within its bound, and drops the oldest only", () => {
    const steps = fc.array(fc.oneof(fc.nat({ max: 60 }), fc.constant("take" as const)), { maxLength: 200 });
    fc.assert(
      fc.property(steps, fc.integer({ min: 1, max: 100 }), (script, takeBytes) => {
        const outbox = new Outbox(200);
        let next = 0;
        let model: { id: number; size: number }[] = [];
        let dropped = 0;
        for (const step of script) {
          if (step === "take") {
            const { messages, sizeBytes } = outbox.take(takeBytes);
            assert.ok(messages.length > 0 || model.length === 0);
            assert.ok(sizeBytes <= takeBytes || messages.length === 1);
            for (const message of messages) assert.equal(message.length, model.shift()!.size);
          } else {
            const id = next++;
            outbox.push(new Uint8Array(step));
            model.push({ id, size: step });
            while (model.length > 1 && model.reduce((sum, item) => sum + item.size + 4, 0) > 200) {
              model = model.slice(1);
              dropped++;
            }
          }
          assert.equal(
            outbox.sizeBytes,
            model.reduce((sum, item) => sum + item.size + 4, 0),
          );
          assert.equal(outbox.isEmpty, model.length === 0);
          assert.equal(outbox.dropped, dropped);
        }
      }),
    );
  });
});
