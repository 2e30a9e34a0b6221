/**
 * One of the two stores under comparison: its clients, and what is needed to say the same thing to it as to the
 * other one.
 */
import { type Answer, MemberClient, type StoreAddress } from "./client.ts";
import type { RpcName } from "./etcd-schema.ts";
import type { Perspective } from "./normalize.ts";
import type { LeaseReference, RevisionReference, SymbolicMessage, SymbolicValue } from "./operation.ts";
import type { Plant } from "./plant.ts";
import type { Message, Value } from "./wire.ts";

/** What both sides agree on so far, in revisions counted from where the comparison began. */
export interface Progress {
  head: number;
  compacted: number;
  /** Revision of the last change seen, by key. */
  readonly keyRevisions: Map<string, number>;
}

export class Side implements Perspective {
  readonly name: string;
  readonly members: readonly MemberClient[];
  /** A mistake to make on purpose, to show that the comparison finds it. */
  readonly plant: Plant | undefined;
  baseRevision = 0;
  readonly leaseNames = new Map<bigint, string>();
  /** Ids that the store chose, in the order of the grants. */
  readonly chosenLeases: bigint[] = [];

  constructor(name: string, address: StoreAddress, plant: Plant | undefined) {
    this.name = name;
    this.members = address.endpoints.map((endpoint) => new MemberClient(endpoint, address));
    this.plant = plant;
  }

  member(index: number): MemberClient {
    return this.members[index % this.members.length]!;
  }

  async call(member: number, rpc: RpcName, request: Message): Promise<Answer> {
    const answer = await this.member(member).call(rpc, request);
    return this.plant?.answer === undefined ? answer : this.plant.answer(rpc, answer);
  }

  /** Remembers an id that the store chose, under a name that is the same on both sides. */
  addChosenLease(id: bigint): void {
    this.leaseNames.set(id, `chosen#${this.chosenLeases.length}`);
    this.chosenLeases.push(id);
  }

  /** The request as this store must get it. */
  resolve(progress: Progress, request: SymbolicMessage): Message {
    const message: Message = {};
    for (const [field, value] of Object.entries(request)) {
      if (value !== undefined) message[field] = this.#resolveValue(progress, value);
    }
    return message;
  }

  #resolveValue(progress: Progress, value: SymbolicValue): Value {
    if (typeof value !== "object") return value;
    if (Array.isArray(value)) return value.map((item: SymbolicValue) => this.#resolveValue(progress, item));
    if ("$revision" in value) return this.#resolveRevision(progress, value as RevisionReference);
    if ("$lease" in value) return this.#resolveLease(value as LeaseReference);
    if ("$fill" in value) return (value.$fill as string).repeat(value.sizeBytes as number);
    return this.resolve(progress, value as SymbolicMessage);
  }

  #resolveRevision(progress: Progress, reference: RevisionReference): number {
    switch (reference.$revision) {
      case "absolute":
        return reference.delta;
      case "head":
        return this.baseRevision + progress.head + reference.delta;
      case "compact":
        return this.baseRevision + progress.compacted + reference.delta;
      case "key": {
        const revision = progress.keyRevisions.get(reference.key ?? "");
        return revision === undefined ? 0 : this.baseRevision + revision + reference.delta;
      }
    }
  }

  #resolveLease(reference: LeaseReference): bigint {
    if (reference.$lease === "id") return BigInt(reference.number);
    // No lease has this id; it fits what servers choose.
    if (this.chosenLeases.length === 0) return 999_999n;
    return this.chosenLeases[reference.number % this.chosenLeases.length]!;
  }

  /** The store's revision now. */
  async revision(): Promise<number> {
    const answer = await this.call(0, "range", { key: "\0", count_only: true });
    if (!answer.ok) throw new Error(`${this.name} does not answer: ${answer.code} ${answer.text}`);
    return Number((answer.message.header as Message).revision);
  }

  /**
   * Empties the store: no key, no lease, no history; and counts revisions from here on.
   */
  async reset(): Promise<void> {
    const must = async (rpc: RpcName, request: Message): Promise<Message> => {
      const answer = await this.call(0, rpc, request);
      if (!answer.ok)
        throw new Error(`${this.name} cannot be emptied: ${rpc}: ${answer.code} ${answer.text}`);
      return answer.message;
    };
    await must("put", { key: "reset" });
    const leases = ((await must("leaseLeases", {})).leases ?? []) as Message[];
    for (const lease of leases) await must("leaseRevoke", { ID: lease.ID });
    await must("deleteRange", { key: "\0", range_end: "\0" });
    await must("put", { key: "reset" });
    await must("deleteRange", { key: "reset" });
    const revision = await this.revision();
    await must("compact", { revision, physical: true });
    this.baseRevision = revision;
    this.leaseNames.clear();
    this.chosenLeases.length = 0;
  }

  close(): void {
    for (const member of this.members) member.close();
  }
}
