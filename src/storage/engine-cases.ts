/**
 * What every engine must do, as one suite that each engine's tests run.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { compareBytes } from "../base/bytes.ts";
import { type Engine, Table } from "../store/engine.ts";

/** An engine under test; `reopen` closes it and opens what is durable again. */
export interface EngineUnderTest {
  readonly engine: Engine;
  reopen(): Promise<EngineUnderTest>;
  close(): Promise<void>;
}

const TABLES = Object.values(Table);
const bytes = (...values: number[]) => Uint8Array.from(values);
const END = new Uint8Array(20).fill(255);

type Step =
  | { readonly type: "put"; readonly table: Table; readonly key: Uint8Array; readonly value: Uint8Array }
  | { readonly type: "delete"; readonly table: Table; readonly key: Uint8Array }
  | { readonly type: "commit" }
  | { readonly type: "clear" }
  | { readonly type: "pause" }
  | { readonly type: "reopen" };

const table = fc.constantFrom(...TABLES);
const key = fc.uint8Array({ minLength: 1, maxLength: 3, max: 3 });
const value = fc.uint8Array({ maxLength: 40 });
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 12, arbitrary: fc.record({ type: fc.constant("put" as const), table, key, value }) },
  { weight: 6, arbitrary: fc.record({ type: fc.constant("delete" as const), table, key }) },
  { weight: 4, arbitrary: fc.constant({ type: "commit" } as const) },
  { weight: 1, arbitrary: fc.constant({ type: "clear" } as const) },
  { weight: 1, arbitrary: fc.constant({ type: "pause" } as const) },
  { weight: 1, arbitrary: fc.constant({ type: "reopen" } as const) },
);

/** Runs the cases on engines that `create` makes, empty ones. */
export function engineCases(name: string, create: () => Promise<EngineUnderTest>): void {
  test(`${name}: what is put is read at once, and again after a restart once committed`, async () => {
    let under = await create();
    under.engine.put(Table.meta, bytes(1), bytes(10));
    assert.deepEqual(asArray(under.engine.get(Table.meta, bytes(1))), [10]);
    assert.equal(under.engine.get(Table.record, bytes(1)), undefined, "tables are apart");
    under.engine.commit();
    under = await under.reopen();
    assert.deepEqual(asArray(under.engine.get(Table.meta, bytes(1))), [10]);
    under.engine.delete(Table.meta, bytes(1));
    assert.equal(under.engine.get(Table.meta, bytes(1)), undefined);
    under.engine.commit();
    under = await under.reopen();
    assert.equal(under.engine.get(Table.meta, bytes(1)), undefined);
    await under.close();
  });

  test(`${name}: a unit that was not committed is gone after a restart`, async () => {
    let under = await create();
    under.engine.put(Table.meta, bytes(1), bytes(10));
    under.engine.commit();
    under.engine.put(Table.meta, bytes(1), bytes(11));
    under.engine.put(Table.meta, bytes(2), bytes(20));
    under = await under.reopen();
    assert.equal(under.engine.get(Table.meta, bytes(2)), undefined);
    await under.close();
  });

  test(`${name}: large and empty values, and many of them`, async () => {
    let under = await create();
    const large = new Uint8Array(3_000_000).map((_, i) => i * 7);
    under.engine.put(Table.record, bytes(1), large);
    under.engine.put(Table.record, bytes(2), bytes());
    for (let i = 0; i < 3000; i++) under.engine.put(Table.record, bytes(3, i >> 8, i), bytes(i, i >> 8));
    under.engine.commit();
    assert.equal(under.engine.range(Table.record, bytes(3), bytes(4), 5000).length, 3000);
    under = await under.reopen();
    assert.equal(compareBytes(under.engine.get(Table.record, bytes(1))!, large), 0);
    assert.deepEqual(asArray(under.engine.get(Table.record, bytes(2))), []);
    const middle = under.engine.range(Table.record, bytes(3, 4, 0), bytes(3, 5, 0), 10);
    assert.equal(middle.length, 10);
    assert.deepEqual([...middle[9]!.key], [3, 4, 9]);
    assert.deepEqual([...middle[9]!.value], [9, 4]);
    assert.ok(under.engine.sizeBytes().total >= 3_000_000);
    await under.close();
  });

  test(`${name}: agrees with a plain map under random changes, pauses and restarts`, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
        await agreesWithModel(await create(), steps);
      }),
      { numRuns: 25 },
    );
  });
}

async function agreesWithModel(first: EngineUnderTest, steps: readonly Step[]): Promise<void> {
  let under = first;
  let model = new Map<string, Uint8Array>();
  for (const change of steps) {
    if (change.type === "put") {
      under.engine.put(change.table, change.key, change.value);
      model.set(nameOf(change.table, change.key), change.value);
    } else if (change.type === "delete") {
      under.engine.delete(change.table, change.key);
      model.delete(nameOf(change.table, change.key));
    } else if (change.type === "clear") {
      under.engine.clear();
      model = new Map();
    } else if (change.type === "commit") {
      under.engine.commit();
    } else if (change.type === "pause") {
      under.engine.commit();
      await new Promise((resolve) => setTimeout(resolve, 3));
    } else {
      under.engine.commit();
      under = await under.reopen();
    }
    compare(under.engine, model);
  }
  await under.close();
}

function compare(engine: Engine, model: ReadonlyMap<string, Uint8Array>): void {
  for (const at of TABLES) {
    const expected = [...model]
      .filter(([name]) => name.startsWith(`${at}/`))
      .map(([name, data]) => ({ key: name.slice(2).split(",").map(Number), value: [...data] }))
      .sort((a, b) => compareBytes(Uint8Array.from(a.key), Uint8Array.from(b.key)));
    const found = engine.range(at, bytes(), END, Number.POSITIVE_INFINITY);
    assert.deepEqual(
      found.map((entry) => ({ key: [...entry.key], value: [...entry.value] })),
      expected,
    );
    const part = engine.range(at, bytes(1), bytes(2, 2), 3).map((entry) => [...entry.key]);
    const inPart = expected.filter(
      (entry) =>
        compareBytes(Uint8Array.from(entry.key), bytes(1)) >= 0 &&
        compareBytes(Uint8Array.from(entry.key), bytes(2, 2)) < 0,
    );
    assert.deepEqual(
      part,
      inPart.slice(0, 3).map((entry) => entry.key),
    );
    for (const entry of expected)
      assert.deepEqual(asArray(engine.get(at, Uint8Array.from(entry.key))), entry.value);
  }
}

function nameOf(at: Table, rowKey: Uint8Array): string {
  return `${at}/${rowKey.join()}`;
}

function asArray(data: Uint8Array | undefined): number[] | undefined {
  return data === undefined ? undefined : [...data];
}
