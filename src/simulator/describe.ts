/** Inputs in a few words, for traces. */
import { describeBytes } from "../consensus/describe.ts";
import type { ReplicaInput, TraceEvent } from "../replica/contract.ts";

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

/** What was thrown and where, without the simulator's own frames. */
export function shortStack(error: Error): string {
  const lines = (error.stack ?? error.message).split("\n").map((line) => line.trim());
  return lines
    .slice(0, 6)
    .filter((line) => !line.includes("/simulator/"))
    .map((line) => line.replace(/\(?file:\/\/.*\/src\//, "(src/"))
    .join(" ");
}

/** What a replica traces, in one line. */
export function describeTrace(event: TraceEvent): string {
  const fields = Object.entries(event).filter(([name]) => name !== "kind");
  const shown = fields.map(([name, value]) =>
    value instanceof Uint8Array ? `${name} ${hexStart(value)}` : `${name} ${String(value)}`,
  );
  return `** ${event.kind} ${shown.join(", ")}`;
}

function hexStart(bytes: Uint8Array): string {
  return Array.from(bytes.subarray(0, 4), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
