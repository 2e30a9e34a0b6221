/** Runs tasks on several threads, in order of their planning, with results in the order in which they come. */
import { Worker } from "node:worker_threads";
import { runTask, type Task, type TaskResult } from "./work.ts";

/**
 * @param next the next task, or undefined when there is none any more
 * @param done called with each result; false ends the whole
 */
export async function runTasks(
  workers: number,
  next: () => Task | undefined,
  done: (result: TaskResult) => boolean,
): Promise<void> {
  if (workers <= 1) {
    for (let task = next(); task !== undefined; task = next()) if (!done(runTask(task))) return;
    return;
  }
  let going = true;
  const threads = Array.from({ length: workers }, () => new Worker(new URL("./worker.ts", import.meta.url)));
  try {
    await Promise.all(
      threads.map(
        (thread) =>
          new Promise<void>((resolve, reject) => {
            const give = () => {
              const task = going ? next() : undefined;
              if (task === undefined) resolve();
              else thread.postMessage(task);
            };
            thread.on("error", reject);
            thread.on("message", (result: TaskResult) => {
              if (going && !done(result)) going = false;
              give();
            });
            give();
          }),
      ),
    );
  } finally {
    await Promise.all(threads.map((thread) => thread.terminate()));
  }
}
