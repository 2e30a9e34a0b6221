/** What can be wrong with a log. Every message says what was found, where, and what to do next. */

/** Base of all errors of the log. */
export class LogError extends Error {
  override name = "LogError";
}

/**
 * Bytes that were durable are damaged or missing. Nothing was cut and nothing was written, so the files can
 * be looked at; the member must be repaired from its peers.
 */
export class LogDamagedError extends LogError {
  override name = "LogDamagedError";
  readonly file: string;
  /** Where in the file the first damaged byte range starts. */
  readonly offset: number;
  /** First sequence that cannot be read. */
  readonly fromSequence: number;

  constructor(file: string, offset: number, fromSequence: number, finding: string) {
    super(
      `log damaged: ${finding} (file ${file}, offset ${offset}, records from sequence ${fromSequence} on). ` +
        "It was durable before, so nothing was cut. Move this member's data directory away and start it " +
        "with an empty one: it then repairs itself from its peers before it votes again.",
    );
    this.file = file;
    this.offset = offset;
    this.fromSequence = fromSequence;
  }
}

/** The log was written by another member or cluster, or by another version of the program. */
export class LogForeignError extends LogError {
  override name = "LogForeignError";
}

/**
 * The disk refused a write (full, broken, gone). What was not acknowledged is not durable, and nothing can be
 * any more: the process must stop, and may be started again once the disk is in order.
 */
export class LogWriteError extends LogError {
  override name = "LogWriteError";
  /** Error code of the operating system, e.g. ENOSPC. */
  readonly code: string;

  constructor(file: string, cause: NodeJS.ErrnoException) {
    const code = cause.code ?? "unknown";
    const advice =
      code === "ENOSPC"
        ? "The disk is full: free space on it"
        : "Check the disk and the permissions of the data directory";
    super(`cannot write the log ${file}: ${cause.message}. ${advice}, then start this member again.`, {
      cause,
    });
    this.code = code;
  }
}

/** A caller's record is larger than one batch may be, or more is buffered than the log may hold. */
export class LogLimitError extends LogError {
  override name = "LogLimitError";
}
