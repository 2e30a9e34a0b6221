/**
 * Counts what a run has reached: kinds of request, options, errors, events. A kind that a long run never reached
 * is a hole in the generator.
 */
import type { Answer } from "./client.ts";
import type { Operation } from "./operation.ts";
import type { Message, Value } from "./wire.ts";

const compareTargets = ["version", "create", "mod", "value", "lease"];
const compareResults = ["=", ">", "<", "!="];
const sortTargets = ["key", "version", "create", "mod", "value"];
const sortOrders = ["none", "ascend", "descend"];

export class Coverage {
  readonly counts = new Map<string, number>();

  count(what: string): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1);
  }

  /** An operation with the request as the left store got it, and that store's answer. */
  call(operation: Extract<Operation, { kind: "call" }>, request: Message, answer: Answer): void {
    const { rpc } = operation;
    this.count(`${rpc}: ${answer.ok ? "ok" : `${answer.code} ${answer.text.replaceAll(/\d+/g, "N")}`}`);
    switch (rpc) {
      case "range":
        this.#range("range", request, answer.ok);
        if (answer.ok && answer.message.more === true) this.count("range answer: more");
        break;
      case "txn":
        if (answer.ok) this.#txn(request, answer.message.succeeded === true, 0);
        break;
      default:
        this.#fields(rpc, request);
    }
  }

  watch(request: Message, created: Message): void {
    this.count(`watch: ${created.canceled === true ? `refused ${created.cancel_reason}` : "created"}`);
    this.#fields("watch", request);
  }

  #fields(prefix: string, request: Message): void {
    for (const [field, value] of Object.entries(request)) {
      if (isSet(value) && field !== "key" && field !== "value") this.count(`${prefix} with ${field}`);
    }
  }

  #range(prefix: string, request: Message, ok: boolean): void {
    if (!ok) return;
    this.#fields(prefix, request);
    if (isSet(request.sort_order) || isSet(request.sort_target)) {
      const order = sortOrders[Number(request.sort_order ?? 0)];
      this.count(`${prefix} sorted by ${sortTargets[Number(request.sort_target ?? 0)]} ${order}`);
    }
  }

  #txn(request: Message, succeeded: boolean, depth: number): void {
    this.count(`txn depth ${depth} ${succeeded ? "success" : "failure"}`);
    for (const item of (request.compare ?? []) as Message[]) {
      const result = compareResults[Number(item.result ?? 0)];
      const target = compareTargets[Number(item.target ?? 0)];
      this.count(`compare ${target} ${result}${isSet(item.range_end) ? " over a range" : ""}`);
    }
    for (const operation of (request[succeeded ? "success" : "failure"] ?? []) as Message[]) {
      for (const [name, inner] of Object.entries(operation)) {
        this.count(`txn operation ${name}`);
        if (name === "request_range") this.#range("txn range", inner as Message, true);
        else if (name === "request_txn") this.#txn(inner as Message, true, depth + 1);
        else this.#fields(`txn ${name.replace("request_", "")}`, inner as Message);
      }
    }
  }

  /** A table of counts, one line each, sorted by name. */
  table(): string {
    const rows = [...this.counts].toSorted(([a], [b]) => (a < b ? -1 : 1));
    const width = Math.max(...rows.map(([, count]) => String(count).length));
    return rows.map(([what, count]) => `${String(count).padStart(width)}  ${what}`).join("\n");
  }
}

function isSet(value: Value | undefined): boolean {
  return value !== undefined && value !== 0 && value !== 0n && value !== "" && value !== false;
}
