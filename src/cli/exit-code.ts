/**
 * Exit codes of the command; every `--help` names those that apply.
 */
export const ExitCode = {
  ok: 0,
  /** What was asked for did not work; of `kmmr status`: some master is not healthy. */
  failure: 1,
  /** Wrong use or a bad config: nothing was started or changed. */
  usage: 2,
  /** `kmmr status`: no quorum. `kmmr node`: the log is damaged where it must not be. */
  severe: 3,
  /** `kmmr status`: none of the given endpoints answered, so that nothing is known of the cluster. */
  unknown: 4,
} as const;
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

/** Ends a command with a message on standard error and an exit code. */
export class CommandError extends Error {
  override name = "CommandError";
  readonly exitCode: ExitCode;
  constructor(message: string, exitCode: ExitCode = ExitCode.failure) {
    super(message);
    this.exitCode = exitCode;
  }
}
