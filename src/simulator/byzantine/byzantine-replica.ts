/**
 * A Byzantine member: one real replica, or two with the same key (Twins), whose messages pass through the
 * member's behaviours. Nothing that happens inside it, not even a broken invariant, is anyone's fault.
 */
import type { Prng } from "../../base/prng.ts";
import { decodeMessage, type Message } from "../../consensus/messages.ts";
import type { Now, ReplicaInput, ReplicaOutput } from "../../replica/contract.ts";
import type { SimulatedReplica } from "../host.ts";
import type { StoreView } from "../store-view.ts";
import { type Behaviour, type ByzantineMind, type Sending, toOutput } from "./behaviour.ts";
import { type BehaviourName, makeBehaviour } from "./catalogue.ts";
import { garbage } from "./noise.ts";

/** Messages that one input may make it send; more would only slow the simulation down. */
const SENDINGS_MAX = 400;

export class ByzantineReplica implements SimulatedReplica {
  readonly #mind: ByzantineMind;
  readonly #behaviours: readonly { readonly name: BehaviourName; readonly behaviour: Behaviour }[];
  readonly #garbage: boolean;
  readonly #acted: (name: BehaviourName) => void;
  readonly #faces: readonly SimulatedReplica[];
  readonly #prng: Prng;
  /** Which face each member sees. */
  #faceOf: number[];
  readonly #broken: boolean[];

  /**
   * @param faces the replica that keeps the member's disk, and for twins a second one that keeps none
   * @param acted called each time that a behaviour does something
   */
  constructor(
    mind: ByzantineMind,
    names: readonly BehaviourName[],
    faces: readonly SimulatedReplica[],
    acted: (name: BehaviourName) => void,
  ) {
    this.#mind = mind;
    this.#acted = acted;
    this.#behaviours = names.map((name) => ({ name, behaviour: makeBehaviour(name) }));
    this.#garbage = names.includes("garbage");
    this.#faces = faces;
    this.#broken = faces.map(() => false);
    this.#prng = mind.prng.fork();
    this.#faceOf = this.#drawFaces();
  }

  get store(): StoreView {
    return this.#faces[0]!.store;
  }

  get lastExecuted(): number {
    return this.#faces[0]!.lastExecuted;
  }

  get serving(): boolean {
    return this.#faces[0]!.serving;
  }

  #drawFaces(): number[] {
    return this.#mind.membership.members.map(() => this.#prng.below(this.#faces.length));
  }

  #changeFaces(): void {
    this.#faceOf = this.#drawFaces();
    this.#acted("twins");
  }

  step(input: ReplicaInput, now: Now, out: ReplicaOutput[]): void {
    const mind = this.#mind;
    mind.wallMs = now.wallMs;
    if (input.type === "message") this.#hear(input.from, input.bytes, out);
    if (input.type === "tick" && this.#faces.length > 1 && this.#prng.chance(0.005)) this.#changeFaces();
    for (const [face, replica] of this.#faces.entries()) {
      if (!this.#meets(face, input)) continue;
      const outputs: ReplicaOutput[] = [];
      this.#stepFace(face, replica, input, now, outputs);
      for (const output of outputs) this.#pass(face, output, out);
    }
    if (input.type === "tick") this.#act(out);
  }

  #meets(face: number, input: ReplicaInput): boolean {
    if (input.type === "message" || input.type === "linkUp" || input.type === "linkDown") {
      const peer = input.type === "message" ? input.from : input.peer;
      return input.type !== "message" || this.#faceOf[peer] === face;
    }
    // The second face has clients of its own imagination and a disk that is always ready.
    return face === 0 || input.type === "tick" || input.type === "work";
  }

  #stepFace(
    face: number,
    replica: SimulatedReplica,
    input: ReplicaInput,
    now: Now,
    out: ReplicaOutput[],
  ): void {
    if (this.#broken[face]) return;
    try {
      replica.step(input, now, out);
      if (face === 0) return;
      // Its appends are durable at once; what that lets it say comes out here, a bounded number of times.
      for (let i = 0, done = 0; i < out.length && done < 100; i++) {
        const output = out[i]!;
        if (output.type !== "append" || !output.sync) continue;
        done++;
        replica.step({ type: "durable", sequence: output.sequence }, now, out);
      }
    } catch {
      this.#broken[face] = true;
    }
  }

  #hear(from: number, bytes: Uint8Array, out: ReplicaOutput[]): void {
    try {
      const message = decodeMessage(bytes);
      this.#mind.hear(from, message);
      for (const { name, behaviour } of this.#behaviours) {
        const sendings = behaviour.hear?.(from, message, this.#mind) ?? [];
        if (sendings.length > 0) this.#acted(name);
        for (const sending of sendings) out.push(toOutput(sending));
      }
    } catch {
      // An accomplice's garbage is not worth remembering.
    }
  }

  /** Bends one output of a face. */
  #pass(face: number, output: ReplicaOutput, out: ReplicaOutput[]): void {
    if (output.type !== "send") {
      if (face === 0) out.push(output);
      return;
    }
    if (this.#faceOf[output.to] !== face) return;
    let message: Message;
    try {
      message = decodeMessage(output.bytes);
    } catch {
      return;
    }
    const sending: Sending = { to: output.to, lane: output.lane, message };
    this.#mind.say(sending);
    const bent = this.#bend(sending);
    if (bent === undefined) out.push(output);
    else for (const item of bent.slice(0, SENDINGS_MAX)) out.push(toOutput(item));
  }

  /** The first behaviour that wants to bend it does. */
  #bend(sending: Sending): readonly Sending[] | undefined {
    for (const { name, behaviour } of this.#behaviours) {
      const bent = behaviour.bend?.(sending, this.#mind);
      if (bent === undefined) continue;
      this.#acted(name);
      return bent;
    }
    return undefined;
  }

  #act(out: ReplicaOutput[]): void {
    for (const { name, behaviour } of this.#behaviours) {
      const sendings = behaviour.act?.(this.#mind) ?? [];
      if (sendings.length > 0) this.#acted(name);
      for (const sending of sendings.slice(0, SENDINGS_MAX)) out.push(toOutput(sending));
    }
    if (!this.#garbage) return;
    const bytes = garbage(this.#mind);
    if (bytes.length > 0) this.#acted("garbage");
    out.push(...bytes);
  }
}
