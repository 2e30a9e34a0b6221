/**
 * Rules of the repository that no compiler knows, each a function from files to complaints: layers, purity,
 * banned constructs with what to use in their place, sizes, documents. `tidy.test.ts` runs them on the
 * repository and shows on a planted example that each one bites.
 */
import { codeOnly, type Import, importsOf, type SourceFile, withoutComments } from "./tidy-source.ts";

/** `path:line: what is wrong and what to do`. */
export type Complaint = string;

/** Height of each folder of src. A file imports only from lower folders and from its own. */
export const LAYERS: Readonly<Record<string, number>> = {
  base: 0,
  store: 1,
  consensus: 2,
  replica: 3,
  storage: 4,
  transport: 4,
  gateway: 5,
  node: 6,
  cli: 7,
};

/** Folders that stand beside the product: they import it and each other, and it never imports them. */
const BESIDE = new Set(["simulator", "bench", "compare"]);

const PURE = /^src\/(base|store|consensus|replica)\/|^src\/storage\/memory-engine\.ts$/;
/** Tests and small benchmarks, and what only those import: case suites and models to compare with. */
const TEST = /\.(test|bench)\.ts$|-cases\.ts$|\/naive-[\w-]+\.ts$|\/testing\//;

/** Longest file that needs no reason. */
export const LINES_MAX = 400;

/** Files that are longer, and why they are not split. */
export const LONG_FILES: Readonly<Record<string, string>> = {
  "src/bench/http2-connection.ts":
    "one connection's frames, windows and streams: state that is not to be shared",
  "src/bench/wire.ts": "all etcd messages that the load generator sends and reads, and their bytes",
  "src/consensus/agreement.ts":
    "the normal case from PROPOSE to decision, to be read in one go beside docs/protocol.md",
  "src/consensus/core.ts": "the state that all parts of the protocol share, most of it declarations",
  "src/consensus/messages.ts": "the whole vocabulary of the replicas and its bytes, to be read in one place",
  "src/gateway/messages/messages.test.ts": "one case for each field of each message",
  "src/replica/replica.ts": "one voter: every input and every part of it meets here",
  "src/store/store.ts": "the one door to the replicated state; what it does is in the files beside it",
};

interface Ban {
  readonly what: RegExp;
  /** Paths that it concerns; all when left out. */
  readonly where?: RegExp;
  readonly instead: string;
}

/** What makes two machines, or two runs, differ: nothing of it may be in the pure layers. */
const PURE_BANS: readonly Ban[] = [
  { what: /\bDate\b/, instead: "time comes in with the input, or with the batch" },
  { what: /\bMath\.random\b/, instead: "draw from the Prng that is passed in" },
  {
    what: /\bMath\.(a?sinh?|a?cosh?|a?tanh?|atan2|exp|expm1|log|log1p|log2|log10|pow|cbrt|hypot)\b/,
    instead: "engines may round it differently: calculate with integers",
  },
  { what: /\b(Promise|async|await)\b/, instead: "take an input and return outputs" },
  {
    what: /\b(setTimeout|setInterval|setImmediate|queueMicrotask)\b/,
    instead: "keep a deadline and look at it on a tick",
  },
  { what: /\bconsole\b/, instead: "emit a trace output" },
  { what: /\bperformance\b/, instead: "time comes in with the input" },
  { what: /\b(WeakRef|FinalizationRegistry)\b/, instead: "what a garbage collector does is not repeatable" },
  { what: /\bfor\s*\(\s*(const|let|var)\s+\w+\s+in\b/, instead: "iterate a Map, an array or Object.entries" },
  { what: /(?<![.#\w])(process|globalThis)\s*[.[]/, instead: "pass in what is needed" },
  { what: /(?<![.#\w])(Buffer|TextEncoder|TextDecoder)\b/, instead: "base/bytes.ts" },
  { what: /\bJSON\s*\./, instead: "base/codec.ts: bytes that are signed or hashed have one encoding" },
  { what: /\b(Intl|localeCompare|toLocale\w+)\b/, instead: "compareBytes of base/bytes.ts, or plain <" },
];

/** What no source file may have. */
const BANS: readonly Ban[] = [
  {
    what: /\bMath\.random\b/,
    where: /^(scripts|src\/(simulator|bench|compare))\//,
    instead: "base/prng.ts with a seed that is printed: a run must be repeatable",
  },
  { what: /\.substr\(/, instead: "slice" },
  { what: /\b(test|describe|it)\.only\b/, instead: "run one file: npm test -- path" },
  { what: /\bdebugger\b/, instead: "nothing" },
  { what: /\beval\(|\bnew Function\(/, instead: "a function" },
];

/** The same, looked for in comments and texts too. Written in pieces so that this file passes. */
const TEXT_BANS: readonly Ban[] = [
  { what: new RegExp(`\\b(FIX${"ME"}|TO${"DO"}|XX${"X"})\\b`), instead: "do it, or open an issue" },
  { what: new RegExp(`@ts-(ignore|no${"check"})`), instead: "give it its type" },
  { what: /from ["']node:assert["']/, instead: "node:assert/strict" },
  {
    what: /(?<![\w.-])(\/(home|Users)\/[a-z][\w-]*\/|\/root\/|\/work\/|[A-Z]:\\Users\\)/,
    instead: "a path that every machine has, or one relative to the repository",
  },
];

/** Imports go down the layers only, and nobody imports what stands beside the product. */
export function layerComplaints(files: readonly SourceFile[]): Complaint[] {
  return overImports(files, (file, imported) => {
    const from = folderOf(file.path);
    const to = imported.target === null ? null : folderOf(imported.target);
    if (from === null || to === null || from === to || TEST.test(file.path)) return null;
    if (BESIDE.has(from)) return null;
    if (BESIDE.has(to)) return `${to} stands beside the product: nothing imports it`;
    const [low, high] = [LAYERS[to], LAYERS[from]];
    if (low === undefined) return `folder ${to} has no place in the layers: give it one in scripts/tidy.ts`;
    if (high === undefined)
      return `folder ${from} has no place in the layers: give it one in scripts/tidy.ts`;
    return low < high ? null : `${from} must not import ${to}: imports go down the layers`;
  });
}

/** The pure layers import each other only, and have nothing in them that differs between two runs. */
export function purityComplaints(files: readonly SourceFile[]): Complaint[] {
  const pure = files.filter((file) => PURE.test(file.path) && !TEST.test(file.path));
  const imports = overImports(pure, (_, imported) => {
    if (imported.target !== null && PURE.test(imported.target)) return null;
    return `a pure layer must not import ${imported.specifier}`;
  });
  return [...imports, ...pure.flatMap((file) => banned(file.path, codeOnly(file.text), PURE_BANS))];
}

/** Constructs that have something better in their place. */
export function banComplaints(files: readonly SourceFile[]): Complaint[] {
  return files.flatMap((file) => {
    const code = /\.[jt]s$/.test(file.path) ? banned(file.path, codeOnly(file.text), BANS) : [];
    return [...code, ...banned(file.path, file.text, TEXT_BANS)];
  });
}

/** The shipped code imports only what is shipped with it, and every dependency is used. */
export function dependencyComplaints(files: readonly SourceFile[], packageJson: string): Complaint[] {
  const { dependencies = {} } = JSON.parse(packageJson) as { dependencies?: Record<string, string> };
  const used = new Set<string>();
  const shipped = files.filter((file) => {
    const folder = folderOf(file.path);
    return folder !== null && !BESIDE.has(folder) && !TEST.test(file.path);
  });
  const complaints = overImports(shipped, (_, imported) => {
    if (imported.target !== null || imported.specifier.startsWith("node:")) return null;
    const name = imported.specifier.match(/^(@[^/]+\/)?[^/]+/)![0];
    used.add(name);
    return name in dependencies ? null : `${name} is not in "dependencies" of package.json`;
  });
  const unused = Object.keys(dependencies).filter((name) => !used.has(name));
  return [...complaints, ...unused.map((name) => `package.json:1: ${name} is imported nowhere: remove it`)];
}

interface LockedPackage {
  readonly optionalDependencies?: Record<string, string>;
}

/**
 * Optional packages, those of other platforms above all, that the lock file leaves out: `npm ci` then refuses to
 * install anything. It happens when the lock file was written where such a package was not to be had.
 */
export function lockComplaints(packageLock: string): Complaint[] {
  const { packages } = JSON.parse(packageLock) as { packages: Record<string, LockedPackage> };
  return Object.entries(packages).flatMap(([path, { optionalDependencies = {} }]) =>
    Object.keys(optionalDependencies)
      .filter(
        (name) => !(`node_modules/${name}` in packages) && !(`${path}/node_modules/${name}` in packages),
      )
      .map(
        (name) => `package-lock.json:1: lacks ${name}, which ${path || "the project"} names: npm ci refuses`,
      ),
  );
}

/** Files of src that nothing imports, runs or names. */
export function deadFileComplaints(files: readonly SourceFile[]): Complaint[] {
  const alive = new Set<string>();
  for (const file of files) for (const { target } of importsOf(file)) if (target !== null) alive.add(target);
  const runnable = files.filter((file) => /^(package\.json|bin\/|scripts\/)/.test(file.path));
  return files
    .filter(
      (file) => /^src\/.*(?<!\.d)\.ts$/.test(file.path) && !TEST.test(file.path) && !alive.has(file.path),
    )
    .filter((file) => !runnable.some((other) => other.text.includes(file.path)))
    .map((file) => `${file.path}:1: nothing imports this file: use it or remove it`);
}

/** Files of src that import each other in a circle at run time. */
export function cycleComplaints(files: readonly SourceFile[]): Complaint[] {
  const graph = new Map(
    files.map((file) => [
      file.path,
      importsOf(file).flatMap(({ target, typeOnly }) => (target === null || typeOnly ? [] : [target])),
    ]),
  );
  const done = new Set<string>();
  const complaints: Complaint[] = [];
  const visit = (path: string, trail: readonly string[]) => {
    if (trail.includes(path)) {
      const circle = [...trail.slice(trail.indexOf(path)), path];
      complaints.push(`${path}:1: imports in a circle: ${circle.join(" -> ")}; move what both need lower`);
      return;
    }
    if (done.has(path)) return;
    for (const next of graph.get(path) ?? []) visit(next, [...trail, path]);
    done.add(path);
  };
  for (const path of graph.keys()) visit(path, []);
  return complaints;
}

/** Source files that are too long and have no reason to be. */
export function sizeComplaints(
  files: readonly SourceFile[],
  reasons: Readonly<Record<string, string>> = LONG_FILES,
): Complaint[] {
  const complaints: Complaint[] = [];
  for (const { path, text } of files) {
    if (!path.endsWith(".ts")) continue;
    const lines = text.split("\n").length - 1;
    if (lines <= LINES_MAX) continue;
    if (reasons[path] !== undefined) continue;
    complaints.push(`${path}:${LINES_MAX}: ${lines} lines: split it, or say why not in scripts/tidy.ts`);
  }
  for (const path of Object.keys(reasons)) {
    const file = files.find((candidate) => candidate.path === path);
    // A few lines to and fro change nothing.
    if (file !== undefined && file.text.split("\n").length > LINES_MAX * 0.8) continue;
    complaints.push(`${path}:1: is not long any more: take it out of LONG_FILES`);
  }
  return complaints;
}

/** Documents that do not have exactly one title. */
export function titleComplaints(files: readonly SourceFile[]): Complaint[] {
  const complaints: Complaint[] = [];
  for (const { path, text } of files.filter((file) => file.path.endsWith(".md"))) {
    const prose = text.replace(/^(```|~~~)[\s\S]*?^\1/gm, "");
    const titles = prose.match(/^# \S/gm)?.length ?? 0;
    if (titles !== 1) complaints.push(`${path}:1: has ${titles} "# Title" lines: exactly one names the page`);
  }
  return complaints;
}

/** Relative links of documents that lead nowhere. `exists` gets a path from the root. */
export function linkComplaints(files: readonly SourceFile[], exists: (path: string) => boolean): Complaint[] {
  return files
    .filter((file) => file.path.endsWith(".md"))
    .flatMap(({ path, text }) => {
      const links = [
        ...text.matchAll(/\]\((?!https?:|mailto:|#)([^)#\s]+)[^)]*\)|src="(?!https?:)([^"]+)"/g),
      ];
      return links.flatMap((match) => {
        const target = new URL(match[1] ?? match[2]!, `file:///${path}`).pathname.slice(1);
        return exists(target)
          ? []
          : [`${path}:${lineAt(text, match.index)}: link to ${target} leads nowhere`];
      });
    });
}

function overImports(
  files: readonly SourceFile[],
  judge: (file: SourceFile, imported: Import) => string | null,
): Complaint[] {
  return files
    .filter((file) => file.path.endsWith(".ts"))
    .flatMap((file) =>
      importsOf(file).flatMap((imported) => {
        const wrong = judge(file, imported);
        const at = withoutComments(file.text).indexOf(imported.specifier);
        return wrong === null ? [] : [`${file.path}:${lineAt(file.text, at)}: ${wrong}`];
      }),
    );
}

function banned(path: string, text: string, bans: readonly Ban[]): Complaint[] {
  return text.split("\n").flatMap((line, i) =>
    bans.flatMap(({ what, where, instead }) => {
      const found = where?.test(path) === false ? null : line.match(what);
      return found === null ? [] : [`${path}:${i + 1}: "${found[0].trim()}" is banned; instead: ${instead}`];
    }),
  );
}

function folderOf(path: string): string | null {
  return path.match(/^src\/([^/]+)\//)?.[1] ?? null;
}

function lineAt(text: string, index: number): number {
  return text.slice(0, index).split("\n").length;
}
