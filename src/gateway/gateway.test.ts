/** The port itself: protocols, TLS, HTTP paths, and clients that behave badly. */
import assert from "node:assert/strict";
import http2 from "node:http2";
import https from "node:https";
import net from "node:net";
import test from "node:test";
import { credentials } from "@grpc/grpc-js";
import { createCertificates } from "./testing/certificates.ts";
import { EtcdClient, encodeMessage } from "./testing/client.ts";
import { KV, startGateway, until, WATCH } from "./testing/fixture.ts";

async function get(port: number, path: string, method = "GET"): Promise<[number, string]> {
  const response = await fetch(`http://127.0.0.1:${port}${path}`, { method });
  return [response.status, await response.text()];
}

/** One HTTP/2 request, by prior knowledge. */
function getHttp2(port: number, path: string): Promise<[number, string]> {
  return new Promise((resolve, reject) => {
    const session = http2.connect(`http://127.0.0.1:${port}`);
    session.on("error", reject);
    const request = session.request({ ":path": path });
    let status = 0;
    let body = "";
    request.on("response", (headers) => {
      status = headers[":status"]!;
    });
    request.on("data", (chunk) => {
      body += chunk;
    });
    request.on("end", () => {
      session.close();
      resolve([status, body]);
    });
  });
}

test("the HTTP paths answer on the port of gRPC, over HTTP/1.1 and HTTP/2", async (context) => {
  const { port, backend, client } = await startGateway(context);
  assert.deepEqual(await get(port, "/health"), [200, '{"health":"true","reason":""}']);
  assert.deepEqual(await getHttp2(port, "/health"), [200, '{"health":"true","reason":""}']);
  const version = '{"etcdserver":"3.6.16","etcdcluster":"3.6.0","storage":"3.6.0"}';
  assert.deepEqual(await get(port, "/version"), [200, version]);
  assert.deepEqual(await get(port, "/livez"), [200, "ok\n"]);
  assert.deepEqual(await get(port, "/livez/serializable_read?verbose"), [
    200,
    "[+]serializable_read ok\nok\n",
  ]);
  assert.deepEqual(await getHttp2(port, "/readyz?verbose"), [
    200,
    "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n",
  ]);
  assert.deepEqual(await get(port, "/readyz/unknown"), [404, "404 page not found\n"]);
  assert.deepEqual(await get(port, "/health", "POST"), [405, "Method Not Allowed\n"]);
  assert.deepEqual((await get(port, "/version", "HEAD"))[0], 405);
  for (const method of ["HEAD", "POST", "PUT", "DELETE"]) {
    assert.equal((await get(port, "/metrics", method))[0], 200, method);
  }
  backend.failWith = "timeout";
  assert.deepEqual(await get(port, "/health"), [
    503,
    '{"health":"false","reason":"RANGE ERROR:etcdserver: request timed out"}\n',
  ]);
  assert.deepEqual(await get(port, "/health?serializable=true"), [200, '{"health":"true","reason":""}']);
  assert.deepEqual(await get(port, "/readyz"), [
    503,
    "[+]data_corruption ok\n[+]serializable_read ok\n[-]linearizable_read failed: etcdserver: request timed out\n" +
      "[+]non_learner ok\n\n",
  ]);
  assert.deepEqual(await get(port, "/readyz?exclude=linearizable_read"), [200, "ok\n"]);
  backend.leader = false;
  assert.deepEqual(await get(port, "/health"), [503, '{"health":"false","reason":"RAFT NO LEADER"}\n']);
  backend.leader = true;
  backend.failWith = undefined;
  await client.unary(`${KV}/Put`, { key: "a" });
  const [status, metrics] = await get(port, "/metrics");
  assert.equal(status, 200);
  const handled = 'grpc_type="unary",grpc_service="etcdserverpb.KV",grpc_method="Put",grpc_code="OK"} 1';
  assert.ok(metrics.includes(`grpc_server_handled_total{${handled}`));
  for (const name of [
    "etcd_server_has_leader 1",
    "etcd_mvcc_db_total_size_in_bytes 20480",
    "etcd_debugging_mvcc_keys_total 1",
    'etcd_cluster_version{cluster_version="3.6"} 1',
    "handling_seconds_bucket",
    "etcd_network_client_grpc_received_bytes_total 8",
  ]) {
    assert.ok(metrics.includes(name), name);
  }
});

test("a slow talker is told apart by its first bytes, and one that says nothing is cut off", async (context) => {
  const { port } = await startGateway(context, { limits: { handshakeTimeoutMs: 200 } });
  const slow = net.connect(port, "127.0.0.1");
  let answer = "";
  slow.on("data", (chunk) => {
    answer += chunk;
  });
  for (const part of ["G", "ET /ver", "sion HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"]) {
    slow.write(part);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  await until(() => answer.includes("3.6.16"));
  const mute = net.connect(port, "127.0.0.1");
  let closed = false;
  mute.on("close", () => {
    closed = true;
  });
  await until(() => closed);
  const garbage = net.connect(port, "127.0.0.1");
  garbage.on("error", () => {});
  garbage.resume();
  garbage.write(Buffer.alloc(2_000, 0x80));
  let cut = false;
  garbage.on("close", () => {
    cut = true;
  });
  await until(() => cut);
  assert.deepEqual((await get(port, "/livez"))[0], 200);
});

test("TLS with required client certificates serves both protocols, and renews certificates", async (context) => {
  const certificates = await createCertificates();
  const { ca, serverCert, serverKey, clientCert, clientKey } = certificates;
  const tls = { cert: serverCert, key: serverKey, ca, requireClientCert: true };
  const { port, gateway } = await startGateway(context, { tls });
  const channel = credentials.createSsl(Buffer.from(ca), Buffer.from(clientKey), Buffer.from(clientCert));
  const client = new EtcdClient(port, { channel });
  context.after(() => client.close());
  const { header } = await client.unary(`${KV}/Put`, { key: "a" });
  assert.equal(header.revision, "2");
  const version = await new Promise<string>((resolve, reject) => {
    const request = https.get(
      { port, host: "127.0.0.1", path: "/version", ca, cert: clientCert, key: clientKey },
      (response) => {
        response.setEncoding("utf8");
        response.on("data", resolve);
      },
    );
    request.on("error", reject);
  });
  assert.match(version, /3\.6\.16/);
  const stranger = new EtcdClient(port, { channel: credentials.createSsl(Buffer.from(ca)) });
  context.after(() => stranger.close());
  assert.equal((await stranger.failure(`${KV}/Range`, { key: "a" })).code, 14);
  const renewed = await createCertificates();
  gateway.renewTls({ ...tls, cert: renewed.serverCert, key: renewed.serverKey, ca: renewed.ca });
  const later = new EtcdClient(port, {
    channel: credentials.createSsl(
      Buffer.from(renewed.ca),
      Buffer.from(renewed.clientKey),
      Buffer.from(renewed.clientCert),
    ),
  });
  context.after(() => later.close());
  assert.equal((await later.unary(`${KV}/Range`, { key: "a" })).count, "1");
  // Connections from before go on.
  assert.equal((await client.unary(`${KV}/Range`, { key: "a" })).count, "1");
});

const frame = (type: string, message: object): Buffer => {
  const bytes = encodeMessage(type, message);
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([prefix, bytes]);
};

const grpcHeaders = (path: string) => ({
  ":method": "POST",
  ":path": path,
  "content-type": "application/grpc",
  te: "trailers",
});

test("thousands of reset streams on one connection do no harm to it or to others", async (context) => {
  const { port, client, gateway } = await startGateway(context);
  const session = http2.connect(`http://127.0.0.1:${port}`);
  context.after(() => session.destroy());
  const failures: Error[] = [];
  session.on("error", (error) => failures.push(error));
  const watch = frame("etcdserverpb.WatchRequest", { create_request: { key: "a", range_end: "b" } });
  for (let round = 0; round < 50; round++) {
    const streams = Array.from({ length: 100 }, () => session.request(grpcHeaders(WATCH)));
    for (const stream of streams) {
      stream.on("error", () => {});
      stream.write(watch);
      stream.close(http2.constants.NGHTTP2_CANCEL);
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.deepEqual(failures, []);
  assert.equal(session.destroyed, false);
  const answer = await new Promise<number>((resolve) => {
    const stream = session.request(grpcHeaders(`${KV}/Put`));
    stream.on("response", (headers) => resolve(headers[":status"]!));
    stream.end(frame("etcdserverpb.PutRequest", { key: "a" }));
    stream.resume();
  });
  assert.equal(answer, 200);
  await client.unary(`${KV}/Put`, { key: "a" });
  const count = async (): Promise<string> =>
    gateway.registry.getSingleMetricAsString("etcd_debugging_mvcc_watcher_total");
  for (let tries = 0; !/total 0/.test(await count()); tries++) {
    assert.ok(tries < 200, "watchers of reset streams are gone");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
});

test("calls that were reset before they were answered are counted and forgotten", async (context) => {
  const { port, client, backend, gateway } = await startGateway(context);
  backend.held = true;
  const session = http2.connect(`http://127.0.0.1:${port}`);
  context.after(() => session.destroy());
  for (let i = 0; i < 500; i++) {
    const stream = session.request(grpcHeaders(`${KV}/Put`));
    stream.on("error", () => {});
    stream.end(frame("etcdserverpb.PutRequest", { key: `k${i}` }));
    setImmediate(() => stream.close(http2.constants.NGHTTP2_CANCEL));
  }
  const canceled = /grpc_method="Put",grpc_code="Canceled"} 500/;
  for (let tries = 0; ; tries++) {
    const metrics = await gateway.registry.getSingleMetricAsString("grpc_server_handled_total");
    if (canceled.test(metrics)) break;
    assert.ok(tries < 200, metrics);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  backend.release();
  await client.unary(`${KV}/Range`, { key: "a" });
});

test("a message in tiny pieces and two messages in one piece are read right", async (context) => {
  const { port, client } = await startGateway(context);
  const session = http2.connect(`http://127.0.0.1:${port}`);
  context.after(() => session.destroy());
  const stream = session.request(grpcHeaders(`${KV}/Put`));
  for (const byte of frame("etcdserverpb.PutRequest", { key: "pieces", value: "v".repeat(40) })) {
    stream.write(Buffer.from([byte]));
    await new Promise((resolve) => setImmediate(resolve));
  }
  stream.end();
  const status = await new Promise((resolve) => {
    stream.on("trailers", (trailers) => resolve(trailers["grpc-status"]));
    stream.resume();
  });
  assert.equal(status, "0");
  assert.equal((await client.unary(`${KV}/Range`, { key: "pieces" })).count, "1");
  const two = session.request(grpcHeaders(WATCH));
  const request = frame("etcdserverpb.WatchRequest", { create_request: { key: "a" } });
  two.write(Buffer.concat([request, request.subarray(0, 7)]));
  setTimeout(() => two.write(request.subarray(7)), 20);
  let received = Buffer.alloc(0);
  two.on("data", (chunk: Buffer) => {
    received = Buffer.concat([received, chunk]);
  });
  const responses = (): number => {
    let count = 0;
    for (let at = 0; at + 5 <= received.length; at += 5 + received.readUInt32BE(at + 1)) count++;
    return count;
  };
  await until(() => responses() === 2);
});

test("two hundred connections with watches and puts are served", async (context) => {
  const { port, client, gateway } = await startGateway(context);
  const clients = Array.from({ length: 200 }, () => new EtcdClient(port));
  context.after(() => {
    for (const one of clients) one.close();
  });
  const watches = clients.map((one, i) => {
    const watch = one.duplex(WATCH);
    watch.send({ create_request: { key: `/registry/r${i}/`, range_end: `/registry/r${i}0`, prev_kv: true } });
    return watch;
  });
  for (const watch of watches) assert.equal((await watch.next(15_000)).created, true);
  const metrics = await gateway.registry.getSingleMetricAsString("kmmr_gateway_connections");
  assert.match(metrics, /kmmr_gateway_connections 20[01]/);
  await Promise.all(
    clients.map((one, i) => one.unary(`${KV}/Put`, { key: `/registry/r${i}/x`, value: "v" })),
  );
  for (const [i, watch] of watches.entries()) {
    assert.equal((await watch.next()).events[0].kv.key, `/registry/r${i}/x`);
  }
  assert.equal(
    (await client.unary(`${KV}/Range`, { key: "/", range_end: "0", count_only: true })).count,
    "200",
  );
});

test("unfinished requests are bounded over all connections", async (context) => {
  const { port, client } = await startGateway(context, {
    limits: { partialRequestsSizeBytesMax: 3_000_000 },
  });
  const session = http2.connect(`http://127.0.0.1:${port}`);
  context.after(() => session.destroy());
  const half = Buffer.alloc(1_000_000);
  half.writeUInt32BE(1_500_000, 1);
  const ends: Promise<string>[] = [];
  for (let i = 0; i < 6; i++) {
    const stream = session.request(grpcHeaders(`${KV}/Put`));
    stream.on("error", () => {});
    ends.push(new Promise((resolve) => stream.on("response", (got) => resolve(String(got["grpc-status"])))));
    stream.write(half);
  }
  assert.equal(await Promise.race(ends), "8");
  await client.unary(`${KV}/Put`, { key: "a" });
});

test("closing ends watches with Unavailable and leaves nothing open", async (context) => {
  const { client, gateway } = await startGateway(context);
  const watch = client.duplex(WATCH);
  watch.send({ create_request: { key: "a" } });
  await watch.next();
  const [failure] = await Promise.all([
    watch.next().then(
      () => undefined,
      (error) => error,
    ),
    gateway.close(),
  ]);
  assert.equal(failure.code, 14);
});
