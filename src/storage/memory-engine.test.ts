import assert from "node:assert/strict";
import { test } from "node:test";
import { Table } from "../store/engine.ts";
import { type EngineUnderTest, engineCases } from "./engine-cases.ts";
import { MemoryEngine } from "./memory-engine.ts";

function underTest(engine: MemoryEngine): EngineUnderTest {
  return {
    engine,
    reopen: async () => {
      engine.flush();
      return underTest(engine.crash());
    },
    close: async () => {},
  };
}

engineCases("memory engine", async () => underTest(new MemoryEngine({ crashable: true })));

test("memory engine: a crash loses the newest units, whole ones", () => {
  const engine = new MemoryEngine({ crashable: true });
  const key = Uint8Array.of(1);
  const other = Uint8Array.of(2);
  for (let i = 1; i <= 3; i++) {
    engine.put(Table.meta, key, Uint8Array.of(i));
    engine.put(Table.meta, other, Uint8Array.of(i));
    engine.commit();
  }
  engine.put(Table.meta, key, Uint8Array.of(9));
  assert.equal(engine.unflushedUnits, 3);
  engine.flush(2);
  const found = engine.crash();
  assert.deepEqual(found.get(Table.meta, key), Uint8Array.of(2));
  assert.deepEqual(found.get(Table.meta, other), Uint8Array.of(2));
  assert.equal(found.unflushedUnits, 0);
  assert.equal(
    found.crash().range(Table.meta, key, Uint8Array.of(9), 9).length,
    2,
    "what survived is durable",
  );
});
