/** How the tidy rules see the repository: its files, their imports, and their code without comments and texts. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** A file of the repository; the path is relative to its root, with forward slashes. */
export interface SourceFile {
  readonly path: string;
  readonly text: string;
}

/** An import of a file, as written and, if relative, as a path from the root. */
export interface Import {
  readonly specifier: string;
  /** Path from the root, or null for a package. */
  readonly target: string | null;
  readonly typeOnly: boolean;
}

const FOLDERS = ["src", "scripts", "docs", "conformance", "bin"];
const SKIPPED = /(^|\/)(node_modules|generated|\.[^/]*)(\/|$)|^conformance\/bin\//;
const KINDS = /\.(ts|js|md|json|svg|html)$/;

/** All text files that people write: no generated ones, no lock file. */
export function repositoryFiles(root: string): SourceFile[] {
  const paths = readdirSync(root).filter((name) => /\.(md|json)$/.test(name) && name !== "package-lock.json");
  const folders = new Set(readdirSync(root));
  for (const folder of FOLDERS) {
    if (!folders.has(folder)) continue;
    const inside = readdirSync(join(root, folder), { recursive: true, encoding: "utf8" });
    paths.push(...inside.map((name) => `${folder}/${name}`));
  }
  return paths
    .filter((path) => KINDS.test(path) && !SKIPPED.test(path))
    .sort()
    .map((path) => ({ path, text: readFileSync(join(root, path), "utf8") }));
}

/** The modules that a file imports or re-exports, dynamic imports and workers by `new URL` included. */
export function importsOf(file: SourceFile): Import[] {
  const patterns = [
    /\b(?:import|export)\s+(type\s)?[^"';]*?\bfrom\s*["']([^"']+)["']/g,
    /\bimport\s*(type\s)?\(?\s*["']([^"']+)["']/g,
    /\bnew URL\(\s*(type\s)?["'](\.[^"']+\.ts)["']/g,
  ];
  return patterns.flatMap((pattern) =>
    [...withoutComments(file.text).matchAll(pattern)].map((match) => ({
      specifier: match[2]!,
      target: match[2]!.startsWith(".") ? resolvePath(file.path, match[2]!) : null,
      typeOnly: match[1] !== undefined,
    })),
  );
}

function resolvePath(from: string, specifier: string): string {
  const parts = from.split("/").slice(0, -1);
  for (const part of specifier.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== ".") parts.push(part);
  }
  return parts.join("/");
}

/** The code with comments blanked; lines keep their numbers. */
export function withoutComments(text: string): string {
  return blank(text, false);
}

/** The code with comments and the contents of strings, templates and patterns blanked. */
export function codeOnly(text: string): string {
  return blank(text, true);
}

/** Longest match first at each place: comments, strings, pieces of templates, patterns. */
const TOKEN = new RegExp(
  [
    /\/\/[^\n]*/,
    /\/\*[\s\S]*?\*\//,
    /"(?:[^"\\\n]|\\.)*"/,
    /'(?:[^'\\\n]|\\.)*'/,
    /`/,
    // A pattern stands where a value may begin: after an operator, an opening bracket, or return.
    /(?<=(?:^|[=(,:;!&|?{}[\n]|=>|\breturn)\s*)\/(?:[^/\\\n[]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/[a-z]*/,
    /[{}]/,
  ]
    .map((pattern) => pattern.source)
    .join("|"),
  "g",
);

function blank(text: string, textsToo: boolean): string {
  const spaces = (piece: string) => piece.replace(/[^\n]/g, " ");
  let result = "";
  let at = 0;
  // Depth of braces inside each template expression that is open.
  const templates: number[] = [];
  while (at < text.length) {
    TOKEN.lastIndex = at;
    const match = TOKEN.exec(text);
    if (match === null) break;
    const token = match[0];
    result += text.slice(at, match.index);
    at = match.index + token.length;
    const closesExpression = token === "}" && templates.at(-1) === 0;
    if (token === "`" || closesExpression) {
      if (closesExpression) templates.pop();
      const end = templateEnd(text, at);
      const piece = text.slice(at, end);
      result += token + (textsToo ? spaces(piece.replace(/\$\{$/, "")) : piece.replace(/\$\{$/, ""));
      if (piece.endsWith("${")) {
        templates.push(0);
        result += "${";
      }
      at = end;
    } else if (token === "{" || token === "}") {
      if (templates.length > 0) templates[templates.length - 1]! += token === "{" ? 1 : -1;
      result += token;
    } else if (token.startsWith("//") || token.startsWith("/*")) {
      result += spaces(token);
    } else {
      result += textsToo ? token[0] + spaces(token.slice(1, -1)) + token.at(-1) : token;
    }
  }
  return result + text.slice(at);
}

/** Where the text of a template ends: after its closing quote, or after the `${` of an expression. */
function templateEnd(text: string, from: number): number {
  for (let at = from; at < text.length; at++) {
    if (text[at] === "\\") at += 1;
    else if (text[at] === "`") return at + 1;
    else if (text[at] === "$" && text[at + 1] === "{") return at + 2;
  }
  return text.length;
}
