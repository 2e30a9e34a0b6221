/**
 * A further listener without TLS for /metrics and health checks only: what etcd has --listen-metrics-urls for.
 */
import { createServer, type Server } from "node:http";
import type { Registry } from "prom-client";
import type { Backend } from "../gateway/backend.ts";
import { HttpEndpoints } from "../gateway/http-endpoints.ts";
import { DEFAULT_LIMITS } from "../gateway/limits.ts";
import { ServiceContext } from "../gateway/services/context.ts";
import type { Address } from "./address.ts";

const MAX_CONNECTIONS = 100;
const REQUEST_TIMEOUT_MS = 10_000;

/** Serves until closed. */
export class MetricsListener {
  readonly #server: Server;

  constructor(backend: Backend, registry: Registry) {
    const endpoints = new HttpEndpoints(new ServiceContext(backend, DEFAULT_LIMITS), registry);
    this.#server = createServer((request, response) => {
      endpoints.handle({ method: request.method ?? "GET", target: request.url ?? "/" }).then((answer) => {
        if (answer.allow !== undefined) response.setHeader("allow", answer.allow);
        response.writeHead(answer.status, { "content-type": answer.contentType });
        response.end(request.method === "HEAD" ? undefined : answer.body);
      });
    });
    this.#server.maxConnections = MAX_CONNECTIONS;
    this.#server.requestTimeout = REQUEST_TIMEOUT_MS;
  }

  /** Rejects when the address cannot be listened on. */
  listen(address: Address): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(address.port, address.host, resolve);
    });
  }

  close(): Promise<void> {
    this.#server.closeAllConnections();
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }
}
