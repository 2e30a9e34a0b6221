/**
 * Commands from other terminals to the supervisor of a running demo: one line of JSON each way over a local
 * socket that only this user can reach.
 */
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { z } from "zod";
import { CommandError } from "./exit-code.ts";

/** Socket paths longer than this do not fit the system's address (108 bytes, with the end mark). */
const MAX_SOCKET_PATH = 100;
const ANSWER_TIMEOUT_MS = 90_000;
const MAX_LINE = 64 * 1024;

const requestSchema = z.object({ command: z.enum(["kill", "start"]), master: z.string() });
const answerSchema = z.object({ ok: z.boolean(), text: z.string(), pid: z.int().nullable() });

export type ControlRequest = z.infer<typeof requestSchema>;
/** `pid` is the master's process, null when it has none. */
export type ControlAnswer = z.infer<typeof answerSchema>;

/** Takes commands until closed. */
export class ControlServer {
  readonly path: string;
  readonly #ownFolder: string | undefined;
  readonly #server: Server;

  private constructor(path: string, ownFolder: string | undefined, server: Server) {
    this.path = path;
    this.#ownFolder = ownFolder;
    this.#server = server;
  }

  /** Listens on a socket in the folder, or in a folder of its own where that path is too long. */
  static async listen(
    folder: string,
    handle: (request: ControlRequest) => Promise<ControlAnswer>,
  ): Promise<ControlServer> {
    const wanted = join(folder, "control.sock");
    const fits = Buffer.byteLength(wanted) <= MAX_SOCKET_PATH;
    const path = fits ? wanted : join(mkdtempSync(join(tmpdir(), "kmmr-control-")), "control.sock");
    rmSync(path, { force: true });
    const server = createServer((socket) => {
      socket.on("error", () => socket.destroy());
      firstLine(socket, (line) => {
        answer(line, handle).then((text) => socket.end(`${JSON.stringify(text)}\n`));
      });
    });
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(path, resolve);
    });
    chmodSync(path, 0o600);
    return new ControlServer(path, fits ? undefined : dirname(path), server);
  }

  /** Stops listening and removes the socket. */
  close(): void {
    this.#server.close();
    rmSync(this.path, { force: true });
    if (this.#ownFolder !== undefined) rmSync(this.#ownFolder, { recursive: true, force: true });
  }
}

async function answer(
  line: string,
  handle: (request: ControlRequest) => Promise<ControlAnswer>,
): Promise<ControlAnswer> {
  try {
    return await handle(requestSchema.parse(JSON.parse(line)));
  } catch (error) {
    return { ok: false, text: error instanceof Error ? error.message : String(error), pid: null };
  }
}

/** Sends one command to a running demo. */
export function askDemo(path: string, request: ControlRequest): Promise<ControlAnswer> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    const fail = (text: string) => {
      socket.destroy();
      reject(new CommandError(text));
    };
    socket.setTimeout(ANSWER_TIMEOUT_MS, () => fail("the demo did not answer"));
    socket.once("error", (error) => fail(`the demo cannot be reached: ${error.message}`));
    socket.once("connect", () => socket.write(`${JSON.stringify(request)}\n`));
    socket.once("close", () => fail("the demo ended"));
    firstLine(socket, (line) => {
      const checked = answerSchema.safeParse(JSON.parse(line));
      if (checked.success) resolve(checked.data);
      else fail("the demo's answer is not understood: is it of another version?");
      socket.destroy();
    });
  });
}

/** Calls back with the first whole line that comes; more than fits a command ends the connection. */
function firstLine(socket: Socket, take: (line: string) => void): void {
  let text = "";
  socket.setEncoding("utf8");
  const read = (chunk: string) => {
    text += chunk;
    const end = text.indexOf("\n");
    if (end < 0 && text.length <= MAX_LINE) return;
    socket.off("data", read);
    if (end < 0) socket.destroy();
    else take(text.slice(0, end));
  };
  socket.on("data", read);
}
