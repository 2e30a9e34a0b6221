/** Links over real sockets on loopback. */
import assert from "node:assert/strict";
import { connect as connectPlain, createServer, type Socket } from "node:net";
import { after, before, describe, it } from "node:test";
import { connect, type TLSSocket } from "node:tls";
import { equalBytes } from "../base/bytes.ts";
import type { Lane } from "../replica/contract.ts";
import { makeLinkCredentials } from "./credentials.fixture.ts";
import { encodeFrameHeader, encodeFrames } from "./frame.ts";
import { certificateFingerprint, encodeHello } from "./identity.ts";
import { LINK_LIMITS, LinkConfigError, type LinkLimits, type LinkPeer, Links } from "./links.ts";
import { type LinkCredentials, tlsOptions } from "./tls.ts";

let credentials: LinkCredentials[];
const running = new Set<Links>();
const sockets = new Set<Socket | TLSSocket>();

/** A member under test and what it was told. */
interface TestMember {
  readonly links: Links;
  readonly received: { from: number; bytes: Uint8Array }[];
  readonly events: string[];
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

function peersOf(self: number, ports: readonly number[], keys = credentials): LinkPeer[] {
  return ports
    .map((port, index) => ({
      index,
      host: "127.0.0.1",
      port,
      tlsKeyFingerprint: certificateFingerprint(keys[index]!.cert),
    }))
    .filter((peer) => peer.index !== self);
}

async function start(
  self: number,
  ports: readonly number[],
  options: { tls?: LinkCredentials; peers?: LinkPeer[]; limits?: Partial<LinkLimits> } = {},
): Promise<TestMember> {
  const received: TestMember["received"] = [];
  const events: string[] = [];
  const quiet = (): void => {};
  const links = new Links({
    self,
    listen: { host: "127.0.0.1", port: ports[self]! },
    peers: options.peers ?? peersOf(self, ports),
    tls: options.tls ?? credentials[self]!,
    logger: { info: quiet, warn: quiet, error: quiet },
    onMessage: (from, bytes) => received.push({ from, bytes: Uint8Array.from(bytes) }),
    onUp: (peer) => events.push(`up ${peer}`),
    onDown: (peer) => events.push(`down ${peer}`),
    limits: options.limits ?? {},
  });
  running.add(links);
  await links.listen();
  return { links, received, events };
}

async function stop(member: TestMember): Promise<void> {
  running.delete(member.links);
  await member.links.close();
}

async function until(condition: () => boolean, what: string, timeoutMs = 5000): Promise<void> {
  for (const end = performance.now() + timeoutMs; !condition(); ) {
    assert.ok(performance.now() < end, `timed out: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

async function pair(limits?: Partial<LinkLimits>): Promise<[TestMember, TestMember, number[]]> {
  const ports = [await freePort(), await freePort()];
  const options = limits ? { limits } : {};
  const [a, b] = await Promise.all([start(0, ports, options), start(1, ports, options)]);
  await until(() => a.links.isUp(1) && b.links.isUp(0), "both up");
  return [a, b, ports];
}

/** A raw TLS client of the peer port. */
function dial(port: number, tls?: LinkCredentials): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const options = tls ? tlsOptions(tls) : {};
    const socket = connect({ ...options, host: "127.0.0.1", port, rejectUnauthorized: false });
    sockets.add(socket);
    socket.once("secureConnect", () => resolve(socket));
    socket.on("error", reject);
    socket.on("data", () => {});
  });
}

function hello(lane: Lane): Buffer {
  const bytes = encodeHello(lane);
  return encodeFrames([bytes], bytes.length + 4);
}

function closed(socket: Socket | TLSSocket): Promise<void> {
  return new Promise((resolve) => {
    if (socket.destroyed) resolve();
    else socket.once("close", () => resolve());
  });
}

describe("links", { concurrency: false }, () => {
  before(async () => {
    credentials = await Promise.all(Array.from({ length: 5 }, () => makeLinkCredentials()));
  });
  after(async () => {
    for (const socket of sockets) socket.destroy();
    await Promise.all([...running].map((links) => links.close()));
  });

  it("join four members, and messages of any size arrive in order on each lane", async () => {
    const ports = await Promise.all([freePort(), freePort(), freePort(), freePort()]);
    const members = await Promise.all(ports.map((_, self) => start(self, ports)));
    await until(
      () => members.every((m, i) => m.events.length === 3 && !m.events.includes(`up ${i}`)),
      "all up",
    );
    const sizes = [1, 100, 65_530, 65_532, 65_540, 300_000, 4 * 1024 * 1024];
    for (const [self, member] of members.entries()) {
      for (const to of [0, 1, 2, 3]) {
        if (to === self) continue;
        for (const size of sizes) member.links.send(to, "bulk", new Uint8Array(size).fill(size % 251));
        for (let i = 0; i < 500; i++) member.links.send(to, "vote", new Uint8Array([self, i & 255, i >> 8]));
      }
    }
    await until(() => members.every((m) => m.received.length === 3 * 507), "all received");
    for (const [self, member] of members.entries()) {
      for (const from of [0, 1, 2, 3].filter((index) => index !== self)) {
        const all = member.received.filter((item) => item.from === from).map((item) => item.bytes);
        const votes = all.filter((bytes) => bytes.length === 3);
        assert.deepEqual(
          votes.map((bytes) => bytes[1]! + (bytes[2]! << 8)),
          Array.from({ length: 500 }, (_, i) => i),
        );
        const bulk = all.filter((bytes) => bytes.length !== 3);
        assert.deepEqual(
          bulk.map((bytes) => bytes.length),
          sizes,
        );
        assert.ok(
          bulk.every((bytes) => equalBytes(bytes, new Uint8Array(bytes.length).fill(bytes.length % 251))),
        );
      }
    }
    const stats = members[0]!.links.stats();
    assert.equal(stats.peers[0]!.vote.sentMessages, 500);
    assert.equal(stats.peers[0]!.bulk.receivedMessages, sizes.length);
    assert.equal(stats.peers[0]!.vote.droppedMessages, 0);
    await Promise.all(members.map(stop));
  });

  it("find a restarted peer within 200 ms, whichever side dials", async () => {
    const [first, second, ports] = await pair();
    const members = [first, second];
    for (const restarted of [1, 0, 1]) {
      const other = members[1 - restarted]!;
      await stop(members[restarted]!);
      await until(() => other.events.at(-1) === `down ${restarted}`, "down seen");
      await new Promise((resolve) => setTimeout(resolve, 300));
      const again = await start(restarted, ports);
      members[restarted] = again;
      const startedMs = performance.now();
      await until(() => other.links.isUp(restarted) && again.links.isUp(1 - restarted), "up again");
      const tookMs = performance.now() - startedMs;
      assert.ok(tookMs < 400, `took ${tookMs} ms (200 and what a busy machine adds)`);
      assert.equal(other.events.at(-1), `up ${restarted}`);
    }
    await Promise.all(members.map(stop));
  });

  it("take nobody without a pinned key, nor one whose turn it is not to dial", async () => {
    const [a, b, ports] = await pair();
    await closed(await dial(ports[1]!, credentials[4]!));
    assert.equal(b.links.stats().unknownKeys, 1);
    await closed(await dial(ports[1]!));
    assert.equal(b.links.stats().unknownKeys, 2);
    // Member 1 must not dial member 0.
    await closed(await dial(ports[0]!, credentials[1]!));
    assert.equal(a.links.stats().unknownKeys, 1);
    await until(() => b.links.stats().unprovenConnections === 0, "budget given back");
    assert.ok(a.links.isUp(1));
    await Promise.all([stop(a), stop(b)]);
  });

  it("do not talk to an impostor at a peer's address", async () => {
    const ports = [await freePort(), await freePort()];
    const impostor = await start(1, ports, { tls: credentials[4]! });
    const a = await start(0, ports);
    await until(() => a.links.stats().unknownKeys >= 2, "wrong key seen");
    assert.ok(!a.links.isUp(1) && !impostor.links.isUp(0));
    assert.deepEqual(impostor.received, []);
    await Promise.all([stop(a), stop(impostor)]);
  });

  it("end a connection with malformed frames, and count it", async () => {
    const ports = [await freePort(), await freePort()];
    const b = await start(1, ports);
    const tooLarge = await dial(ports[1]!, credentials[0]!);
    tooLarge.write(Buffer.concat([hello("vote"), encodeFrameHeader(LINK_LIMITS.vote.maxFrameBytes + 1)]));
    await closed(tooLarge);
    const longHello = await dial(ports[1]!, credentials[0]!);
    longHello.write(encodeFrames([new Uint8Array(100)], 104));
    await closed(longHello);
    const wrongHello = await dial(ports[1]!, credentials[0]!);
    wrongHello.write(encodeFrames([new Uint8Array(6)], 10));
    await closed(wrongHello);
    await until(
      () => b.links.stats().malformedFrames === 1 && b.links.stats().unprovenConnections === 0,
      "counted",
    );
    assert.deepEqual(b.received, []);
    await stop(b);
  });

  it("replace a connection by a newer one of the same peer", async () => {
    const ports = [await freePort(), await freePort()];
    const b = await start(1, ports);
    const connectBoth = async (): Promise<TLSSocket[]> => {
      const both = await Promise.all([dial(ports[1]!, credentials[0]!), dial(ports[1]!, credentials[0]!)]);
      both[0]!.write(hello("vote"));
      both[1]!.write(hello("bulk"));
      return both;
    };
    const [oldVote] = await connectBoth();
    await until(() => b.links.isUp(0), "up");
    const [vote] = await connectBoth();
    await closed(oldVote!);
    await until(() => b.links.isUp(0), "up again");
    assert.ok(!vote!.destroyed);
    assert.ok(b.events.includes("down 0"));
    assert.equal(b.links.stats().peers[0]!.vote.connects, 2);
    await stop(b);
  });

  it("give up strangers that say nothing, and let in only so many", async () => {
    const ports = [await freePort(), await freePort()];
    const admission = { maxUnproven: 3, maxUnprovenPerSource: 3, burstPerSource: 50, ratePerSource: 50 };
    const b = await start(1, ports, { limits: { handshakeTimeoutMs: 150, admission } });
    const strangers = Array.from({ length: 8 }, () => {
      const socket = connectPlain(ports[1]!, "127.0.0.1");
      socket.on("error", () => {});
      sockets.add(socket);
      return socket;
    });
    await until(() => b.links.stats().refusedConnections === 5, "five refused");
    assert.equal(b.links.stats().unprovenConnections, 3);
    await Promise.all(strangers.map(closed));
    await until(() => b.links.stats().unprovenConnections === 0, "budget given back");
    const garbage = connectPlain(ports[1]!, "127.0.0.1");
    garbage.on("error", () => {});
    garbage.write("GET / HTTP/1.1\r\n\r\n");
    await closed(garbage);
    await until(() => b.links.stats().failedHandshakes >= 1, "bad handshake counted");
    await stop(b);
  });

  it("stay up while idle, and go down when the peer falls silent", async () => {
    const limits = { lifeSignMs: 200, silenceMs: 1000 };
    const [a, b, ports] = await pair(limits);
    await new Promise((resolve) => setTimeout(resolve, 1600));
    assert.deepEqual(a.events, ["up 1"]);
    await stop(a);
    await until(() => !b.links.isUp(0), "down");
    // A peer that holds its connections open and says nothing.
    const both = await Promise.all([dial(ports[1]!, credentials[0]!), dial(ports[1]!, credentials[0]!)]);
    both[0]!.write(hello("vote"));
    both[1]!.write(hello("bulk"));
    await until(() => b.links.isUp(0), "up");
    await until(() => !b.links.isUp(0), "silent peer dropped", 3000);
    await stop(b);
  });

  it("hold no more than the bound for a peer that does not read, and drop the oldest", async () => {
    const ports = [await freePort(), await freePort()];
    const bulk = { ...LINK_LIMITS.bulk, maxFrameBytes: 100_000, maxQueueBytes: 1_000_000 };
    const b = await start(1, ports, { limits: { bulk } });
    const both = await Promise.all([dial(ports[1]!, credentials[0]!), dial(ports[1]!, credentials[0]!)]);
    both[0]!.write(hello("vote"));
    both[1]!.write(hello("bulk"));
    await until(() => b.links.isUp(0), "up");
    both[1]!.removeAllListeners("data");
    both[1]!.pause();
    for (let i = 0; i < 600; i++) {
      for (let k = 0; k < 4; k++) b.links.send(0, "bulk", new Uint8Array(20_000));
      if (i % 20 === 0) await new Promise((resolve) => setImmediate(resolve));
      const { queuedBytes } = b.links.stats().peers[0]!.bulk;
      assert.ok(queuedBytes < 1_000_000 + 300_000, `${queuedBytes} bytes wait`);
    }
    assert.ok(b.links.stats().peers[0]!.bulk.droppedMessages > 500);
    b.links.send(0, "bulk", new Uint8Array(100_001));
    assert.equal(b.links.stats().oversizedMessages, 1);
    await stop(b);
  });

  it("read no more from a flooding peer than its quota, and lose nothing of it", async () => {
    const vote = { ...LINK_LIMITS.vote, maxReceivedBytesPerSecond: 400_000 };
    const ports = [await freePort(), await freePort()];
    const [a, b] = await Promise.all([start(0, ports), start(1, ports, { limits: { vote } })]);
    await until(() => a.links.isUp(1) && b.links.isUp(0), "both up");
    const startMs = performance.now();
    for (let i = 0; i < 600; i++) a.links.send(1, "vote", new Uint8Array(1000));
    await until(() => b.received.length === 600, "all received");
    // 660,000 bytes as they are counted: 400,000 at once, the rest at 400,000 a second, in steps of 250 ms.
    assert.ok(performance.now() - startMs > 250, "the flood was slowed down");
    assert.ok(b.links.stats().peers[0]!.vote.throttled > 0);
    assert.deepEqual(b.events, ["up 0"]);
    await Promise.all([stop(a), stop(b)]);
  });

  it("count what cannot be sent to a peer that is away", async () => {
    const ports = [await freePort(), await freePort()];
    const a = await start(0, ports);
    a.links.send(1, "vote", new Uint8Array(5));
    assert.equal(a.links.stats().peers[0]!.vote.droppedMessages, 1);
    assert.throws(() => a.links.send(7, "vote", new Uint8Array(5)), LinkConfigError);
    await stop(a);
  });

  it("refuse a list of peers that cannot be right", async () => {
    const ports = [await freePort(), await freePort(), await freePort()];
    const peers = peersOf(0, ports);
    const bad = (change: Partial<LinkPeer>): LinkPeer[] => [peers[0]!, { ...peers[1]!, ...change }];
    await assert.rejects(
      start(0, ports, { peers: bad({ tlsKeyFingerprint: "12" }) }),
      /64 hexadecimal digits/,
    );
    await assert.rejects(start(0, ports, { peers: bad({ index: 1 }) }), /listed twice/);
    const { tlsKeyFingerprint } = peers[0]!;
    await assert.rejects(start(0, ports, { peers: bad({ tlsKeyFingerprint }) }), /pinned for another member/);
  });
});
