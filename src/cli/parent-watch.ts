/**
 * The end of npm, for a command that runs until it is told to end.
 */

const INTERVAL_MS = 500;

/**
 * Calls back when the process that started this one is gone, if npm did: npm starts commands through a shell,
 * which dies at SIGTERM without passing it on. Others may well end before a command that they left running.
 */
export function onNpmEnded(callBack: () => void): void {
  if (process.env.npm_command === undefined && process.env.npm_lifecycle_event === undefined) return;
  const parent = process.ppid;
  const timer = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(timer);
    callBack();
  }, INTERVAL_MS).unref();
}
