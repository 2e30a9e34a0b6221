import type { ErrorCode } from "./constants.ts";

/** A breach of the protocol that ends the connection with this code. */
export class ConnectionError extends Error {
  override name = "ConnectionError";
  readonly code: ErrorCode;
  constructor(code: ErrorCode, reason: string) {
    super(reason);
    this.code = code;
  }
}
