/** Inputs in a few words, for traces. */
import { describeBytes } from "../consensus/describe.ts";
import type { ReplicaInput } from "../replica/contract.ts";

export function describeInput(input: ReplicaInput): string {
  switch (input.type) {
    case "message":
      return `<- ${input.from} ${describeBytes(input.bytes)}`;
    case "durable":
      return `durable ${input.sequence}`;
    case "submit":
      return `submit ${input.id} ${input.operation.type}`;
    case "fence":
      return `fence ${input.id}`;
    case "linkUp":
    case "linkDown":
      return `${input.type} ${input.peer}`;
    default:
      return input.type;
  }
}
