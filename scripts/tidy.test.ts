import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, test } from "node:test";
import {
  banComplaints,
  type Complaint,
  cycleComplaints,
  deadFileComplaints,
  dependencyComplaints,
  LINES_MAX,
  layerComplaints,
  linkComplaints,
  lockComplaints,
  purityComplaints,
  sizeComplaints,
  titleComplaints,
} from "./tidy.ts";
import { codeOnly, importsOf, repositoryFiles, type SourceFile, withoutComments } from "./tidy-source.ts";

const root = resolve(import.meta.dirname, "..");
const repository = repositoryFiles(root);
const packageJson = readFileSync(join(root, "package.json"), "utf8");

function none(complaints: readonly Complaint[]): void {
  assert.equal(complaints.length, 0, `\n${complaints.join("\n")}\n`);
}

function plant(path: string, text: string): SourceFile[] {
  return [{ path, text }];
}

describe("this repository", () => {
  test("is all seen", () => {
    const paths = new Set(repository.map((file) => file.path));
    for (const path of ["src/base/codec.ts", "scripts/tidy.ts", "package.json"])
      assert.ok(paths.has(path), path);
  });
  test("imports go down the layers", () => none(layerComplaints(repository)));
  test("the pure layers are pure", () => none(purityComplaints(repository)));
  test("nothing banned is used", () => none(banComplaints(repository)));
  test("dependencies are declared and used", () => none(dependencyComplaints(repository, packageJson)));
  test("npm ci accepts the lock file", () => {
    none(lockComplaints(readFileSync(join(root, "package-lock.json"), "utf8")));
  });
  test("no file is dead", () => none(deadFileComplaints(repository)));
  test("no imports in a circle", () => none(cycleComplaints(repository)));
  test("long files have a reason", () => none(sizeComplaints(repository)));
  test("every document has one title", () => none(titleComplaints(repository)));
  test("links lead somewhere", () =>
    none(linkComplaints(repository, (path) => existsSync(join(root, path)))));
});

describe("a planted violation is found", () => {
  const bites = (name: string, complaints: readonly Complaint[], expected: RegExp) =>
    test(name, () => {
      assert.equal(complaints.length, 1, complaints.join("\n"));
      assert.match(complaints[0]!, expected);
    });

  const upward = plant("src/store/a.ts", 'import { x } from "../consensus/b.ts";\n');
  bites(
    "import of a higher layer",
    layerComplaints(upward),
    /^src\/store\/a\.ts:1: store must not import consensus/,
  );
  const sibling = plant("src/storage/a.ts", 'import type { X } from "../transport/b.ts";\n');
  bites("import of a sibling", layerComplaints(sibling), /storage must not import transport/);
  const lazy = plant("src/gateway/a.ts", 'const x = await import("../node/b.ts");\n');
  bites("dynamic import of a higher layer", layerComplaints(lazy), /gateway must not import node/);
  const simulator = plant("src/cli/a.ts", 'export { run } from "../simulator/main.ts";\n');
  bites("product imports the simulator", layerComplaints(simulator), /stands beside the product/);
  const unknown = plant("src/plugins/a.ts", 'import { x } from "../base/b.ts";\n');
  bites("folder without a layer", layerComplaints(unknown), /plugins has no place/);

  const lines: readonly (readonly [string, string, RegExp])[] = [
    ["a Node module", 'import { readFileSync } from "node:fs";', /must not import node:fs/],
    ["a package", 'import { open } from "lmdb";', /must not import lmdb/],
    ["the clock", "const now = Date.now();", /"Date" is banned/],
    ["a stop watch", "const now = performance.now();", /"performance" is banned/],
    ["a promise", "let later: Promise<void>;", /"Promise" is banned/],
    ["an async function", "export const f = async () => 1;", /"async" is banned/],
    ["a timer", "setTimeout(f, 10);", /keep a deadline/],
    ["the console", "console.log(1);", /emit a trace/],
    ["a weak reference", "const r = new WeakRef(x);", /garbage/],
    ["for..in", "for (const key in object) f(key);", /iterate a Map/],
    ["the process", "const e = process.env.X;", /pass in what/],
    ["Buffer", "const b = Buffer.from(x);", /base\/bytes/],
    ["JSON", "const s = JSON.stringify(x);", /base\/codec/],
    ["a rounding that engines choose", "const x = Math.log2(n);", /integers/],
    ["code in a template", `const s = ${"`a ${Date"}.now()}\`;`, /"Date" is banned/],
  ];
  for (const [name, line, expected] of lines) {
    bites(`in a pure layer: ${name}`, purityComplaints(plant("src/consensus/a.ts", `${line}\n`)), expected);
  }
  const memory = plant("src/storage/memory-engine.ts", "const now = Date.now();\n");
  bites("the memory engine counts as pure", purityComplaints(memory), /"Date" is banned/);

  bites("randomness", banComplaints(plant("src/bench/a.ts", "Math.random();")), /base\/prng/);
  bites(
    "a test that hides others",
    banComplaints(plant("src/node/a.test.ts", 'test.only("x", f);')),
    /npm test/,
  );
  bites("a left-over", banComplaints(plant("docs/a.md", `FIX${"ME"} later`)), /do it/);
  bites("a type check switched off", banComplaints(plant("src/a.ts", `// @ts-${"ignore"}`)), /its type/);
  for (const path of [`/home/${"jane/"}x`, `/wo${"rk/"}x`, `/Users/${"jane/"}x`, `/ro${"ot/"}x`]) {
    bites(
      `a path of one machine: ${path}`,
      banComplaints(plant("README.md", `see ${path}`)),
      /every machine/,
    );
  }

  const undeclared = plant("src/node/a.ts", 'import { x } from "@grpc/grpc-js";');
  bites("an undeclared dependency", dependencyComplaints(undeclared, "{}"), /@grpc\/grpc-js is not in/);
  const unused = dependencyComplaints([], '{"dependencies":{"left-pad":"1.0.0"}}');
  bites("an unused dependency", unused, /left-pad is imported nowhere/);
  const lock = '{"packages":{"node_modules/a":{"optionalDependencies":{"a-win32":"1.0.0"}}}}';
  bites("a lock file without another platform's package", lockComplaints(lock), /lacks a-win32/);
  bites("a dead file", deadFileComplaints(plant("src/node/a.ts", "")), /nothing imports this file/);
  const circle = [
    ...plant("src/node/a.ts", 'import { b } from "./b.ts";'),
    ...plant("src/node/b.ts", 'import { a } from "./a.ts";'),
  ];
  bites("a circle", cycleComplaints(circle), /a\.ts -> src\/node\/b\.ts -> src\/node\/a\.ts/);
  const long = plant("src/node/a.ts", "x;\n".repeat(LINES_MAX + 1));
  bites("a long file", sizeComplaints(long, {}), /401 lines: split it/);
  bites("a reason that is no longer needed", sizeComplaints([], { "src/a.ts": "x" }), /not long any more/);
  bites("no title", titleComplaints(plant("docs/a.md", "## Part\n")), /has 0/);
  bites("two titles", titleComplaints(plant("docs/a.md", "# One\n```\n# code\n```\n# Two\n")), /has 2/);
  const link = linkComplaints(
    plant("docs/a.md", "[x](../gone.md#part) [y](https://example.org)"),
    () => false,
  );
  bites("a dead link", link, /gone\.md leads nowhere/);
});

describe("what is allowed", () => {
  test("lower layers, the own one, and tests from anywhere", () => {
    none(layerComplaints(plant("src/replica/a.ts", 'import { x } from "../store/b.ts";')));
    none(layerComplaints(plant("src/store/a.test.ts", 'import { x } from "../storage/memory-engine.ts";')));
    none(layerComplaints(plant("src/simulator/a.ts", 'import { x } from "../node/b.ts";')));
    none(purityComplaints(plant("src/store/a.test.ts", 'import fs from "node:fs";')));
  });
  test("words in comments and texts", () => {
    const text = '// Date and async\n/* console */ const a = "Promise", b = `Date`, c = /Date/;\n';
    none(purityComplaints(plant("src/store/a.ts", text)));
  });
});

describe("reading source", () => {
  test("texts are blanked and lines kept", () => {
    const text = `a("x//y"); // z\n\`p$${"{"}q({ r: \`s\` })}t\`;\nconst u = /["'/]/g; v / w / x;\n`;
    const code = codeOnly(text);
    assert.equal(code.split("\n").length, text.split("\n").length);
    for (const hidden of ["y", "z", "p$", "`s`", "t`"])
      assert.ok(!code.includes(hidden), `${hidden} in ${code}`);
    for (const kept of ["a(", "q({ r:", "v / w / x;"])
      assert.ok(code.includes(kept), `${kept} not in ${code}`);
    assert.match(withoutComments(text), /x\/\/y/);
  });
  test("every way to import", () => {
    const text = [
      'import a from "node:fs";',
      'import type { B } from "../base/b.ts";',
      "import {\n  c,\n  type D,\n} from './c.ts';",
      'import "./d.ts";',
      'export * from "./e.ts";',
      'const f = import("./f.ts");',
      'new Worker(new URL("./g.ts", import.meta.url));',
      '// import x from "./not.ts";',
    ].join("\n");
    const found = importsOf({ path: "src/node/x.ts", text });
    const targets = found.map((one) => one.target ?? one.specifier).sort();
    const expected = ["c", "d", "e", "f", "g"].map((name) => `src/node/${name}.ts`);
    assert.deepEqual(targets, ["node:fs", "src/base/b.ts", ...expected]);
    assert.deepEqual(
      found.filter((one) => one.typeOnly).map((one) => one.specifier),
      ["../base/b.ts"],
    );
  });
});
