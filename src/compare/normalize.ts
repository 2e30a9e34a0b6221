/**
 * Brings the answers of two stores into a form in which equal means equal: ids that each store chooses are
 * replaced by what they stand for, revisions count from where the comparison began, and lists whose order etcd
 * leaves open are put into one order.
 */
import { compareByteStrings } from "./order.ts";
import type { Message, Value } from "./wire.ts";

/** What an answer of one store is measured against. */
export interface Perspective {
  /** The store's revision when the comparison began; other revisions are counted from it. */
  readonly baseRevision: number;
  /** Names of the leases whose ids the store chose. */
  readonly leaseNames: ReadonlyMap<bigint, string>;
}

const revisionFields = new Set(["revision", "create_revision", "mod_revision", "compact_revision"]);
const leaseFields = new Set(["lease", "ID"]);
const ownFields = new Set(["cluster_id", "member_id", "raft_term"]);
const unorderedFields = new Set(["leases", "keys", "alarms"]);

/** A copy of the response for comparison. `request` is the request as it was sent; it names the sort order. */
export function normalizeResponse(perspective: Perspective, request: Message, response: Message): Message {
  return normalizeMessage(perspective, orderTies(request, response));
}

export function normalizeMessage(perspective: Perspective, message: Message): Message {
  const result: Message = {};
  for (const [field, value] of Object.entries(message)) {
    if (value === undefined) continue;
    if (ownFields.has(field)) result[field] = "(set)";
    else if (revisionFields.has(field)) result[field] = (value as number) - perspective.baseRevision;
    else if (leaseFields.has(field)) result[field] = leaseName(perspective, value as bigint);
    else result[field] = normalizeValue(perspective, value, unorderedFields.has(field));
  }
  return result;
}

function leaseName(perspective: Perspective, id: bigint): string {
  return perspective.leaseNames.get(id) ?? id.toString();
}

function normalizeValue(perspective: Perspective, value: Value, unordered: boolean): Value {
  if (Array.isArray(value)) {
    const items = value.map((item) => normalizeValue(perspective, item, false));
    return unordered ? sortValues(items) : items;
  }
  return typeof value === "object" ? normalizeMessage(perspective, value) : value;
}

function sortValues(items: Value[]): Value[] {
  const keyed = items.map((item): [string, Value] => [describe(item), item]);
  keyed.sort((a, b) => compareByteStrings(a[0], b[0]));
  return keyed.map(([, item]) => item);
}

/** The response with every list that was sorted by something else than the key in a fixed order within ties. */
function orderTies(request: Message, response: Message): Message {
  if (Array.isArray(response.responses)) {
    const branch = request[response.succeeded === true ? "success" : "failure"];
    const operations = (branch ?? []) as Message[];
    const responses = (response.responses as Message[]).map((item, index) =>
      orderOperationTies(operations[index] ?? {}, item),
    );
    return { ...response, responses };
  }
  return Array.isArray(response.kvs) ? orderRangeTies(request, response) : response;
}

function orderOperationTies(request: Message, response: Message): Message {
  for (const name of ["range", "txn"]) {
    const inner = response[`response_${name}`];
    const asked = request[`request_${name}`];
    if (inner !== undefined && asked !== undefined) {
      return { ...response, [`response_${name}`]: orderTies(asked as Message, inner as Message) };
    }
  }
  return response;
}

const sortFields = ["key", "version", "create_revision", "mod_revision", "value"] as const;

/**
 * etcd's sort is unstable: keys that tie come in any order, and when the limit cuts through a tie, any of them
 * come. So ties are put in key order, and of a tie that may be cut only the size and what they tie on is kept.
 */
function orderRangeTies(request: Message, response: Message): Message {
  const field = sortFields[Number(request.sort_target ?? 0)];
  if (field === undefined || field === "key") return response;
  const groups: Message[][] = [];
  for (const kv of response.kvs as Message[]) {
    const group = groups.at(-1);
    // Values are left out of an answer of keys only, and versions are never zero: both are compared as sent.
    if (group !== undefined && group[0]![field] === kv[field]) group.push(kv);
    else groups.push([kv]);
  }
  if (request.keys_only === true && field === "value") {
    // What they were sorted by is not in the answer.
    return { ...response, kvs: response.more === true ? [] : sortKeyValues(response.kvs as Message[]) };
  }
  const kvs: Value[] = [];
  for (const [index, group] of groups.entries()) {
    const cut = response.more === true && index === groups.length - 1;
    if (cut) kvs.push({ cut_tie: group.length, [field]: group[0]![field] });
    else kvs.push(...sortKeyValues(group));
  }
  return { ...response, kvs };
}

function sortKeyValues(kvs: readonly Message[]): Message[] {
  return kvs.toSorted((a, b) => compareByteStrings(String(a.key ?? ""), String(b.key ?? "")));
}

/** Where two values first differ, with both sides' values there; undefined when they are equal. */
export interface Divergence {
  readonly path: string;
  readonly left: string;
  readonly right: string;
}

export function firstDivergence(
  left: Value | undefined,
  right: Value | undefined,
  path = "",
): Divergence | undefined {
  if (left === right) return undefined;
  if (typeof left === "object" && typeof right === "object" && Array.isArray(left) === Array.isArray(right)) {
    const leftItems = left as { [key: string]: Value | undefined };
    const rightItems = right as { [key: string]: Value | undefined };
    for (const key of new Set([...Object.keys(leftItems), ...Object.keys(rightItems)])) {
      const found = firstDivergence(leftItems[key], rightItems[key], path === "" ? key : `${path}.${key}`);
      if (found !== undefined) return found;
    }
    return undefined;
  }
  return { path, left: describe(left), right: describe(right) };
}

/** The value in one line; long strings cut. */
export function describe(value: Value | undefined): string {
  if (value === undefined) return "(absent)";
  return JSON.stringify(value, (_key, item: unknown) => {
    if (typeof item === "bigint") return `${item}`;
    if (typeof item === "string" && item.length > 200) return `${item.slice(0, 60)}...(${item.length} bytes)`;
    return item;
  });
}
