/** What tests of watches share. */
import type { Conversation, EtcdClient, Message } from "./client.ts";
import { WATCH } from "./fixture.ts";
import type { LocalBackend } from "./local-backend.ts";

const NO_BYTES = new Uint8Array(0);

/** A put in a batch of its own. */
export function put(backend: LocalBackend, key: string, value = "v"): void {
  const put = { key, lease: 0n, prevKv: false, ignoreValue: false, ignoreLease: false };
  backend.execute({ type: "put", put: { ...put, value: Buffer.from(value, "latin1") } });
}

/** One revision with these puts. */
export function putAll(backend: LocalBackend, keys: readonly string[], value = NO_BYTES): void {
  const success = keys.map((key) => ({
    type: "put" as const,
    put: { key, value, lease: 0n, prevKv: false, ignoreValue: false, ignoreLease: false },
  }));
  backend.execute({ type: "txn", txn: { compare: [], success, failure: [] } });
}

/** A delete in a batch of its own. */
export function remove(backend: LocalBackend, key: string): void {
  backend.execute({ type: "deleteRange", deleteRange: { key, rangeEnd: "", prevKv: false } });
}

/** Type, key and revision of the events of a response. */
export const brief = (response: Message): string[] =>
  response.events.map((event: Message) => `${event.type} ${event.kv.key} ${event.kv.mod_revision}`);

/** A watch stream with one watcher. */
export function create(client: EtcdClient, request: Message): Conversation {
  const stream = client.duplex(WATCH);
  stream.send({ create_request: request });
  return stream;
}
