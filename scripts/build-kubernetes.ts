/**
 * Builds the unmodified Kubernetes programs that the conformance test runs on a store, from their Go modules
 * (conformance/go.mod), into `.cache/kubernetes/`. Needs Go 1.26 or later; takes 6 minutes on 2 cores the first
 * time. Run: `node scripts/build-kubernetes.ts [--parallel N]`.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const outputDir = join(root, ".cache", "kubernetes");
const moduleDir = join(root, "conformance");

const programs = ["kube-apiserver", "kubectl", "kube-controller-manager", "kube-scheduler"] as const;
export type KubernetesProgram = (typeof programs)[number];

/** Absolute path of every built program. */
export type KubernetesBinaries = { readonly [program in KubernetesProgram]: string };

/** Go is missing or a build failed; the message says what to do. */
export class KubernetesBuildError extends Error {
  override name = "KubernetesBuildError";
}

/** The Kubernetes version that conformance/go.mod names, such as "v1.36.3". */
export function kubernetesVersion(): string {
  const match = /^\s*(?:require\s+)?k8s\.io\/kubernetes (v\S+)/m.exec(
    readFileSync(join(moduleDir, "go.mod"), "utf8"),
  );
  if (match?.[1] === undefined) {
    throw new KubernetesBuildError("conformance/go.mod names no version of k8s.io/kubernetes");
  }
  return match[1];
}

/** The linker writes the release into the programs: from a module they would call themselves v0.0.0-master. */
function linkerFlags(version: string): string {
  const [major, minor] = version.slice(1).split(".");
  const packages = ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"];
  const values = { gitVersion: version, gitMajor: major, gitMinor: minor, gitTreeState: "clean" };
  const settings = packages.flatMap((name) =>
    Object.entries(values).map(([variable, value]) => `-X ${name}.${variable}=${value}`),
  );
  return ["-s", "-w", ...settings].join(" ");
}

function buildProgram(program: KubernetesProgram, version: string, parallel: number): void {
  const target = join(outputDir, program);
  console.error(`building ${program} ${version}: several minutes the first time`);
  const result = spawnSync(
    "go",
    [
      "build",
      "-trimpath",
      "-buildvcs=false",
      "-p",
      String(parallel),
      "-ldflags",
      linkerFlags(version),
      "-o",
      `${target}.part`,
      `k8s.io/kubernetes/cmd/${program}`,
    ],
    {
      cwd: moduleDir,
      stdio: ["ignore", "inherit", "inherit"],
      env: { ...process.env, CGO_ENABLED: "0", GOWORK: "off", GOTOOLCHAIN: "local" },
    },
  );
  if (result.error !== undefined) {
    throw new KubernetesBuildError(`cannot run go (${result.error.message}): install Go 1.26 or later`);
  }
  if (result.status !== 0) {
    throw new KubernetesBuildError(
      `go build of ${program} failed with exit code ${result.status}: see above`,
    );
  }
  renameSync(`${target}.part`, target);
}

/**
 * The programs, built where they are missing or of another version than conformance/go.mod names.
 * `parallel` is the number of compiler processes at once.
 * @throws KubernetesBuildError
 */
export function kubernetesBinaries(parallel = 2): KubernetesBinaries {
  const version = kubernetesVersion();
  const stamp = join(outputDir, "version");
  mkdirSync(outputDir, { recursive: true });
  const stale = !existsSync(stamp) || readFileSync(stamp, "utf8").trim() !== version;
  for (const program of programs) {
    if (stale || !existsSync(join(outputDir, program))) {
      buildProgram(program, version, parallel);
    }
  }
  writeFileSync(stamp, `${version}\n`);
  const path = (program: KubernetesProgram): string => join(outputDir, program);
  return {
    "kube-apiserver": path("kube-apiserver"),
    "kube-controller-manager": path("kube-controller-manager"),
    "kube-scheduler": path("kube-scheduler"),
    kubectl: path("kubectl"),
  };
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const option = process.argv.indexOf("--parallel");
  const parallel = option === -1 ? 2 : Number(process.argv[option + 1]);
  try {
    console.log(JSON.stringify(kubernetesBinaries(parallel)));
  } catch (error) {
    console.error(error instanceof KubernetesBuildError ? error.message : error);
    process.exitCode = 1;
  }
}
