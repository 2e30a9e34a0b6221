import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { IncarnationError, nextIncarnation, outlived } from "./incarnation.ts";

test("incarnations grow, with the clock or without it, and above one that an earlier life had", (context) => {
  const dataDir = mkdtempSync(join(tmpdir(), "kmmr-incarnation-"));
  context.after(() => rmSync(dataDir, { recursive: true }));
  assert.equal(nextIncarnation(dataDir, 1000), 1000);
  assert.equal(nextIncarnation(dataDir, 500), 1001);
  assert.equal(nextIncarnation(dataDir, 2000), 2000);
  const error = outlived(dataDir, 90_000);
  assert.ok(error instanceof IncarnationError);
  assert.match(error.message, /incarnation 90000, .* the next start goes on above it/);
  assert.equal(nextIncarnation(dataDir, 3000), 90_001);
});
