/** etcd's plain HTTP paths on the client port: health, version and metrics. */
import type { Registry } from "prom-client";
import { BACKEND_STATUS } from "./errors.ts";
import { CLUSTER_VERSION, SERVER_VERSION, type ServiceContext, STORAGE_VERSION } from "./services/context.ts";

export interface HttpRequest {
  readonly method: string;
  /** Path and query. */
  readonly target: string;
}

export interface HttpResponse {
  readonly status: number;
  readonly contentType: string;
  readonly body: string;
  /** Value of an Allow header, for 405. */
  readonly allow?: string;
}

const PLAIN = "text/plain; charset=utf-8";

const plain = (status: number, body: string): HttpResponse => ({ status, contentType: PLAIN, body });

/** Go's http.Error puts a line end behind every text. */
const failure = (status: number, text: string): HttpResponse => plain(status, `${text}\n`);

/** Finds out whether something holds: undefined if it does, else why not. */
type Check = () => Promise<string | undefined>;

export class HttpEndpoints {
  readonly #context: ServiceContext;
  readonly #registry: Registry;
  readonly #livez: ReadonlyMap<string, Check>;
  readonly #readyz: ReadonlyMap<string, Check>;

  constructor(context: ServiceContext, registry: Registry) {
    this.#context = context;
    this.#registry = registry;
    const serializable: Check = () => this.#checkRead(true);
    this.#livez = new Map([["serializable_read", serializable]]);
    this.#readyz = new Map([
      ["data_corruption", async () => this.#checkState()],
      ["serializable_read", serializable],
      ["linearizable_read", () => this.#checkRead(false)],
      ["non_learner", async () => undefined],
    ]);
  }

  /** Answers a request; never rejects. */
  async handle(request: HttpRequest): Promise<HttpResponse> {
    const url = URL.parse(request.target, "http://door");
    if (url === null) return failure(400, "400 Bad Request");
    const { pathname: path, searchParams: query } = url;
    const handler = this.#handler(path, query);
    if (handler === undefined) return failure(404, "404 page not found");
    // Prometheus' handler takes every method.
    if (request.method !== "GET" && path !== "/metrics") {
      return { ...failure(405, "Method Not Allowed"), allow: "GET" };
    }
    try {
      return await handler();
    } catch (error) {
      return failure(500, error instanceof Error ? error.message : String(error));
    }
  }

  #handler(path: string, query: URLSearchParams): (() => Promise<HttpResponse>) | undefined {
    if (path === "/health") return () => this.#health(query);
    if (path === "/version") return async () => VERSION;
    if (path === "/metrics") return () => this.#metrics();
    for (const [root, checks] of [
      ["/livez", this.#livez],
      ["/readyz", this.#readyz],
    ] as const) {
      if (path === root) return () => this.#run(checks, query, query.getAll("exclude"));
      const check = path.startsWith(`${root}/`) ? checks.get(path.slice(root.length + 1)) : undefined;
      if (check !== undefined)
        return () => this.#run(new Map([[path.slice(root.length + 1), check]]), query, []);
    }
    return undefined;
  }

  async #run(
    checks: ReadonlyMap<string, Check>,
    query: URLSearchParams,
    excluded: readonly string[],
  ): Promise<HttpResponse> {
    const names = [...checks.keys()].filter((name) => !excluded.includes(name));
    const reasons = await Promise.all(names.map((name) => checks.get(name)!()));
    const lines = names.map((name, i) =>
      reasons[i] === undefined ? `[+]${name} ok\n` : `[-]${name} failed: ${reasons[i]}\n`,
    );
    if (reasons.some((reason) => reason !== undefined)) return failure(503, lines.join(""));
    return plain(200, `${query.has("verbose") ? lines.join("") : ""}ok\n`);
  }

  async #health(query: URLSearchParams): Promise<HttpResponse> {
    const reason = await this.#healthReason(query);
    const body = JSON.stringify({ health: reason === "" ? "true" : "false", reason });
    return reason === "" ? plain(200, body) : failure(503, body);
  }

  async #healthReason(query: URLSearchParams): Promise<string> {
    const { backend } = this.#context;
    const serializable = query.get("serializable") === "true";
    if (backend.store.alarms().length > 0 && !query.getAll("exclude").includes("NOSPACE"))
      return "ALARM NOSPACE";
    if (!serializable && !backend.hasLeader()) return "RAFT NO LEADER";
    const error = await this.#checkRead(serializable);
    return error === undefined ? "" : `RANGE ERROR:${error}`;
  }

  /** Why a read can not be served now. */
  #checkRead(serializable: boolean): Promise<string | undefined> {
    const { backend } = this.#context;
    const reason = backend.unavailable();
    if (reason !== undefined) return Promise.resolve(BACKEND_STATUS[reason].message);
    if (serializable) return Promise.resolve(undefined);
    return new Promise((resolve) => {
      backend.fence((error) => resolve(error === undefined ? undefined : BACKEND_STATUS[error].message));
    });
  }

  /** A process that found its state to differ from the quorum's does not answer until it is repaired. */
  #checkState(): string | undefined {
    const { errors } = this.#context.backend.status();
    return errors.find((error) => error.includes("CORRUPT"));
  }

  async #metrics(): Promise<HttpResponse> {
    const body = await this.#registry.metrics();
    return { status: 200, contentType: this.#registry.contentType, body };
  }
}

const VERSION: HttpResponse = {
  status: 200,
  contentType: "application/json",
  body: JSON.stringify({
    etcdserver: SERVER_VERSION,
    etcdcluster: CLUSTER_VERSION,
    storage: STORAGE_VERSION,
  }),
};
