/** For tests: a peer that writes HTTP/2 frames by hand, and so can break any rule. */
import net from "node:net";
import { type ConnectionLimits, Http2Connection } from "./connection.ts";
import { Flag, FrameType, PREFACE } from "./constants.ts";
import { encodeHeaders, type RequestHead } from "./hpack.ts";
import { encodeSettings, type SettingValue } from "./settings.ts";
import type { Http2Stream } from "./stream.ts";

export const TEST_LIMITS: ConnectionLimits = {
  streamsMax: 4096,
  headerListSizeBytesMax: 65_536,
  streamWindowBytes: 1024 * 1024,
  connectionWindowBytes: 8 * 1024 * 1024,
  resetBurst: 1_000,
  resetRatePerSecond: 100,
  handshakeTimeoutMs: 5_000,
};

export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly payload: Buffer;
}

export function frameBytes(
  type: number,
  flags: number,
  streamId: number,
  payload: Buffer = Buffer.alloc(0),
): Buffer {
  const header = Buffer.alloc(9);
  header.writeUIntBE(payload.length, 0, 3);
  header[3] = type;
  header[4] = flags;
  header.writeUInt32BE(streamId, 5);
  return Buffer.concat([header, payload]);
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value, 0);
  return bytes;
}

export function settingsFrame(...values: readonly SettingValue[]): Buffer {
  return frameBytes(FrameType.settings, 0, 0, encodeSettings(values));
}

const REQUEST = encodeHeaders([
  [":method", "POST"],
  [":path", "/x"],
  [":scheme", "http"],
]);

export function requestFrame(streamId: number, endStream: boolean, block: Buffer = REQUEST): Buffer {
  return frameBytes(FrameType.headers, Flag.endHeaders | (endStream ? Flag.endStream : 0), streamId, block);
}

export class RawClient {
  readonly frames: Frame[] = [];
  closed = false;
  readonly socket: net.Socket;
  #rest: Buffer = Buffer.alloc(0);

  constructor(port: number) {
    this.socket = net.connect(port, "127.0.0.1");
    this.socket.on("error", () => {});
    this.socket.on("close", () => {
      this.closed = true;
    });
    this.socket.on("data", (chunk: Buffer) => {
      this.#rest = Buffer.concat([this.#rest, chunk]);
      for (;;) {
        if (this.#rest.length < 9) return;
        const size = this.#rest.readUIntBE(0, 3);
        if (this.#rest.length < 9 + size) return;
        this.frames.push({
          type: this.#rest[3]!,
          flags: this.#rest[4]!,
          streamId: this.#rest.readUInt32BE(5),
          payload: this.#rest.subarray(9, 9 + size),
        });
        this.#rest = this.#rest.subarray(9 + size);
      }
    });
  }

  send(...parts: readonly Buffer[]): void {
    this.socket.write(Buffer.concat(parts));
  }

  /** Preface and settings, and what follows. */
  begin(...parts: readonly Buffer[]): void {
    this.send(PREFACE, settingsFrame(), ...parts);
  }

  /** The first frame that fits, waited for. */
  async find(matches: (frame: Frame) => boolean, timeoutMs = 5_000): Promise<Frame> {
    const end = performance.now() + timeoutMs;
    for (;;) {
      const frame = this.frames.find(matches);
      if (frame !== undefined) return frame;
      if (performance.now() > end || this.closed) throw new Error("the frame waited for did not come");
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  }

  /** The error code of the GOAWAY that ends the connection. */
  async goAwayCode(): Promise<number> {
    return (await this.find(({ type }) => type === FrameType.goAway)).payload.readUInt32BE(4);
  }

  /** Payload of all data frames of a stream so far. */
  received(streamId: number): Buffer {
    const isData = (frame: Frame): boolean => frame.type === FrameType.data && frame.streamId === streamId;
    return Buffer.concat(this.frames.filter(isData).map(({ payload }) => payload));
  }
}

export interface RawServer {
  readonly port: number;
  readonly connections: Http2Connection[];
  readonly faults: unknown[];
  close(): void;
}

/** A server with nothing but connections of this folder. */
export async function startRawServer(
  request: (stream: Http2Stream, head: RequestHead, connection: Http2Connection) => void,
  limits: Partial<ConnectionLimits> = {},
): Promise<RawServer> {
  const connections: Http2Connection[] = [];
  const faults: unknown[] = [];
  const server = net.createServer((socket) => {
    socket.on("error", () => {});
    const connection: Http2Connection = new Http2Connection(
      socket,
      { ...TEST_LIMITS, ...limits },
      {
        request: (stream, head) => request(stream, head, connection),
        fault: (error) => faults.push(error),
        closed() {},
      },
    );
    connections.push(connection);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const close = (): void => {
    for (const connection of connections) connection.destroy();
    server.close();
  };
  return { port: (server.address() as net.AddressInfo).port, connections, faults, close };
}
