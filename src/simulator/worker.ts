/** A thread that runs seeds for main.ts. */
import { parentPort } from "node:worker_threads";
import { runTask, type Task } from "./work.ts";

parentPort?.on("message", (task: Task) => {
  parentPort?.postMessage(runTask(task));
});
