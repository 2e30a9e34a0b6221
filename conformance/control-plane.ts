/**
 * An unmodified Kubernetes control plane on a running store: one kube-apiserver per master, each pointed at its own
 * master only, one kube-controller-manager, one kube-scheduler, and kubectl.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { KubernetesBinaries } from "../scripts/build-kubernetes.ts";
import { freePorts, type RunningStore, spawnLogged, stopProcess } from "../src/compare/store.ts";

/** kubectl failed, or something did not come to be in time. */
export class KubernetesError extends Error {
  override name = "KubernetesError";
}

export interface ApiServer {
  /** "master-1" and so on; also the name of its log. */
  readonly name: string;
  /** Published in the `kubernetes` EndpointSlice; loopback addresses are not allowed there and nobody connects. */
  readonly advertisedAddress: string;
  readonly kubeconfig: string;
  readonly process: ChildProcess;
}

/** From the block that is set aside for documentation (RFC 5737), so that it is nobody's address. */
const advertisedBlock = "192.0.2.";
const kubectlTimeoutMs = 60_000;

export class ControlPlane {
  readonly #binaries: KubernetesBinaries;
  readonly #store: RunningStore;
  readonly directory: string;
  readonly #token = randomBytes(16).toString("hex");
  readonly apiServers: ApiServer[] = [];
  readonly #others: ChildProcess[] = [];

  /** Makes the keys; starts nothing. `directory` takes keys, configuration and logs. */
  constructor(binaries: KubernetesBinaries, store: RunningStore, directory: string) {
    this.#binaries = binaries;
    this.#store = store;
    this.directory = directory;
    const { privateKey, publicKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
    this.#write("service-account.key", privateKey.export({ type: "pkcs1", format: "pem" }));
    this.#write("service-account.pub", publicKey.export({ type: "spki", format: "pem" }));
    this.#write("tokens.csv", `${this.#token},admin,admin,"system:masters"\n`);
  }

  #path(name: string): string {
    return join(this.directory, name);
  }

  #write(name: string, text: string | Buffer): void {
    writeFileSync(this.#path(name), text, { mode: 0o600 });
  }

  /** Starts one kube-apiserver for each endpoint of the store. */
  async startApiServers(): Promise<void> {
    const ports = await freePorts(this.#store.endpoints.length);
    for (const [index, endpoint] of this.#store.endpoints.entries()) {
      this.apiServers.push(this.#startApiServer(index, endpoint, ports[index]!));
    }
  }

  #startApiServer(index: number, endpoint: string, port: number): ApiServer {
    const name = `master-${index + 1}`;
    const advertisedAddress = `${advertisedBlock}${index + 11}`;
    const certificates = this.#path(`${name}-certificates`);
    mkdirSync(certificates);
    const tls = this.#store.tls;
    const process = spawnLogged(this.#path(`${name}-kube-apiserver.log`), this.#binaries["kube-apiserver"], [
      `--etcd-servers=${endpoint}`,
      ...(tls === undefined
        ? []
        : [`--etcd-cafile=${tls.cacert}`, `--etcd-certfile=${tls.cert}`, `--etcd-keyfile=${tls.key}`]),
      "--bind-address=127.0.0.1",
      `--secure-port=${port}`,
      `--advertise-address=${advertisedAddress}`,
      // It makes itself a certificate there.
      `--cert-dir=${certificates}`,
      "--authorization-mode=Node,RBAC",
      `--token-auth-file=${this.#path("tokens.csv")}`,
      "--service-cluster-ip-range=10.96.0.0/16",
      "--service-account-issuer=https://kubernetes.default.svc",
      `--service-account-key-file=${this.#path("service-account.pub")}`,
      `--service-account-signing-key-file=${this.#path("service-account.key")}`,
      "--v=1",
    ]);
    const kubeconfig = this.#path(`${name}.kubeconfig`);
    const authority = join(certificates, "apiserver.crt");
    this.#write(`${name}.kubeconfig`, kubeconfigText(`https://127.0.0.1:${port}`, authority, this.#token));
    return { name, advertisedAddress, kubeconfig, process };
  }

  /** Starts the controllers on the first master's apiserver and the scheduler on the second's. */
  async startControllers(): Promise<void> {
    const [controllerPort, schedulerPort] = await freePorts(2);
    const start = (
      program: "kube-controller-manager" | "kube-scheduler",
      server: ApiServer,
      port: number,
      own: string[],
    ): void => {
      const certificates = this.#path(`${program}-certificates`);
      mkdirSync(certificates);
      const child = spawnLogged(this.#path(`${program}.log`), this.#binaries[program], [
        `--kubeconfig=${server.kubeconfig}`,
        "--bind-address=127.0.0.1",
        `--secure-port=${port}`,
        `--cert-dir=${certificates}`,
        "--v=1",
        ...own,
      ]);
      this.#others.push(child);
    };
    const first = this.apiServers[0]!;
    start("kube-controller-manager", first, controllerPort!, [
      `--service-account-private-key-file=${this.#path("service-account.key")}`,
    ]);
    start("kube-scheduler", this.apiServers[1] ?? first, schedulerPort!, []);
  }

  /**
   * Runs kubectl against one master's apiserver.
   * @returns what it printed
   * @throws KubernetesError with what it printed as an error
   */
  kubectl(server: ApiServer, parameters: readonly string[], input?: string): Promise<string> {
    return new Promise((resolve, reject) => {
      const child = execFile(
        this.#binaries.kubectl,
        [`--kubeconfig=${server.kubeconfig}`, ...parameters],
        { timeout: kubectlTimeoutMs, env: this.#kubectlEnvironment(), maxBuffer: 64 * 1024 * 1024 },
        (error, stdout, stderr) => {
          if (error === null) resolve(stdout);
          else
            reject(new KubernetesError(`kubectl ${parameters.join(" ")} (${server.name}): ${stderr.trim()}`));
        },
      );
      child.stdin?.end(input ?? "");
    });
  }

  /** Starts a kubectl that goes on, such as a watch; what it prints comes line by line. */
  kubectlFollow(
    server: ApiServer,
    parameters: readonly string[],
    line: (text: string) => void,
  ): ChildProcess {
    const child = spawn(this.#binaries.kubectl, [`--kubeconfig=${server.kubeconfig}`, ...parameters], {
      stdio: ["ignore", "pipe", "ignore"],
      env: this.#kubectlEnvironment(),
    });
    let rest = "";
    child.stdout.on("data", (chunk: Buffer) => {
      const lines = (rest + chunk.toString()).split("\n");
      rest = lines.pop()!;
      for (const text of lines) line(text);
    });
    this.#others.push(child);
    return child;
  }

  /** kubectl keeps its cache of API groups below the home folder; not in the user's. */
  #kubectlEnvironment(): NodeJS.ProcessEnv {
    return { ...process.env, HOME: this.directory };
  }

  /** What the death of a master's host does: its kube-apiserver and its member of the store are gone at once. */
  async killMaster(server: ApiServer): Promise<void> {
    this.#store.kill(this.apiServers.indexOf(server));
    server.process.kill("SIGKILL");
    await new Promise((resolve) => server.process.once("exit", resolve));
  }

  /** Ends everything that was started. */
  async stop(): Promise<void> {
    await Promise.all(this.#others.map(stopProcess));
    // An apiserver waits for its clients when it is asked to end; its data is elsewhere, so it needs no asking.
    for (const { process: child } of this.apiServers) child.kill("SIGKILL");
    await Promise.all(this.apiServers.map(({ process: child }) => stopProcess(child)));
  }
}

function kubeconfigText(server: string, authority: string, token: string): string {
  // The certificate is made for the advertised address and the names of the service.
  const cluster = { server, "certificate-authority": authority, "tls-server-name": "kubernetes" };
  return JSON.stringify({
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: "test", cluster }],
    users: [{ name: "admin", user: { token } }],
    contexts: [{ name: "test", context: { cluster: "test", user: "admin" } }],
    "current-context": "test",
  });
}
