/**
 * Mistakes made on purpose in what one store answers, to show that the comparison finds each of them.
 */
import type { Answer } from "./client.ts";
import type { RpcName } from "./etcd-schema.ts";
import type { Message } from "./wire.ts";

/** Changes some answers; both functions may change the message they are given. */
export interface Plant {
  readonly answer?: (rpc: RpcName, answer: Answer) => Answer;
  readonly watch?: (response: Message) => Message | undefined;
}

/** A change of a response; returns whether there was something to change. */
type Spoiler = (message: Message) => boolean;

/** Spoils every nth answer of the RPC that can be spoiled: rare, as real mistakes are. */
function everyNth(rpcs: readonly RpcName[], n: number, spoil: Spoiler): Plant {
  let seen = 0;
  return {
    answer(rpc, answer) {
      if (!answer.ok || !rpcs.includes(rpc)) return answer;
      const copy = structuredClone(answer.message);
      if (!spoil(copy)) return answer;
      seen += 1;
      return seen % n === 0 ? { ok: true, message: copy } : answer;
    },
  };
}

function everyNthWatch(n: number, spoil: (message: Message) => boolean | "drop"): Plant {
  let seen = 0;
  return {
    watch(response) {
      const copy = structuredClone(response);
      const spoiled = spoil(copy);
      if (spoiled === false) return response;
      seen += 1;
      if (seen % n !== 0) return response;
      return spoiled === "drop" ? undefined : copy;
    },
  };
}

function events(message: Message): Message[] {
  return (message.events ?? []) as Message[];
}

function remove(message: Message | undefined, field: string): boolean {
  if (message?.[field] === undefined) return false;
  delete message[field];
  return true;
}

function add(message: Message, field: string): boolean {
  message[field] = Number(message[field] ?? 0) + 1;
  return true;
}

function firstKv(message: Message): Message | undefined {
  return ((message.kvs ?? []) as Message[])[0];
}

/** All planted mistakes by name. Each call makes a fresh one. */
export const plants: { readonly [name: string]: () => Plant } = {
  "put without prev_kv": () => everyNth(["put"], 20, (m) => remove(m, "prev_kv")),
  "wrong count": () => everyNth(["range"], 40, (m) => add(m, "count")),
  "wrong more": () => everyNth(["range"], 10, (m) => remove(m, "more")),
  "wrong version": () => everyNth(["range"], 40, (m) => remove(firstKv(m), "version")),
  "lease lost": () => everyNth(["range"], 5, (m) => remove(firstKv(m), "lease")),
  "key missing": () => everyNth(["range"], 40, (m) => ((m.kvs ?? []) as Message[]).pop() !== undefined),
  "order of keys": () =>
    everyNth(["range"], 40, (m) => {
      const kvs = (m.kvs ?? []) as Message[];
      if (kvs.length < 3) return false;
      kvs.reverse();
      return true;
    }),
  "header absent in a transaction": () =>
    everyNth(["txn"], 40, (m) => {
      const first = ((m.responses ?? []) as Message[])[0]?.response_put as Message | undefined;
      return remove(first, "header");
    }),
  "wrong branch": () => everyNth(["txn"], 40, (m) => remove(m, "succeeded")),
  "wrong deleted": () => everyNth(["deleteRange"], 20, (m) => remove(m, "deleted")),
  "header revision": () =>
    everyNth(["put", "txn", "deleteRange"], 100, (m) => add(m.header as Message, "revision")),
  "lease keys": () => everyNth(["leaseTimeToLive"], 3, (m) => remove(m, "keys")),
  "keep-alive of a lost lease": () => everyNth(["leaseKeepAlive"], 3, (m) => add(m, "TTL")),
  "error text": () => ({
    answer: (_rpc, answer) =>
      answer.ok ? answer : { ...answer, text: answer.text.replace("key given", "key") },
  }),
  "error code": () => ({
    answer: (rpc, answer) =>
      answer.ok || rpc !== "compact" ? answer : { ...answer, code: "INVALID_ARGUMENT" },
  }),
  "event lost": () => everyNthWatch(30, (m) => (events(m).length > 0 ? "drop" : false)),
  "event without prev_kv": () => everyNthWatch(10, (m) => remove(events(m)[0], "prev_kv")),
  "event type": () => everyNthWatch(10, (m) => remove(events(m)[0], "type")),
  "events out of order": () =>
    everyNthWatch(3, (m) => {
      if (events(m).length < 2) return false;
      events(m).reverse();
      return true;
    }),
  "cancel reason": () => everyNthWatch(1, (m) => remove(m, "cancel_reason")),
  "compact revision of a watch": () => everyNthWatch(1, (m) => remove(m, "compact_revision")),
};
