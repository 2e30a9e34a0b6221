import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { GatewayTls } from "../gateway/listener.ts";
import { ClientTlsWatch, readClientTls } from "./client-tls.ts";
import { ConfigError } from "./config.ts";
import { createLogger } from "./logger.ts";

test("certificates are read again when their files change, and kept when the new ones cannot be used", (context) => {
  const folder = mkdtempSync(join(tmpdir(), "kmmr-client-tls-"));
  context.after(() => rmSync(folder, { recursive: true }));
  const file = (name: string) => join(folder, name);
  const client = {
    listen: "https://127.0.0.1:2379",
    certFile: file("server.crt"),
    keyFile: file("server.key"),
    caFile: file("ca.crt"),
  };
  assert.throws(() => readClientTls(client), ConfigError);
  for (const name of ["server.crt", "server.key", "ca.crt"]) writeFileSync(file(name), `${name} 1`);
  assert.equal(String(readClientTls(client)?.cert), "server.crt 1");
  assert.equal(readClientTls(client)?.requireClientCert, true);
  const renewed: GatewayTls[] = [];
  const lines: string[] = [];
  const renew = (settings: GatewayTls) => {
    if (String(settings.cert).includes("bad")) throw new Error("no certificate");
    renewed.push(settings);
  };
  const watch = new ClientTlsWatch(
    client,
    renew,
    createLogger("info", { write: (line) => lines.push(line) }),
  );
  context.after(() => watch.stop());
  watch.check();
  assert.equal(renewed.length, 0);
  writeFileSync(file("server.crt"), "a bad one");
  watch.check();
  assert.equal(renewed.length, 0);
  assert.match(lines[0]!, /cannot be used.*|no certificate/);
  writeFileSync(file("server.crt"), "server.crt second");
  watch.check();
  assert.equal(String(renewed[0]?.cert), "server.crt second");
  watch.check();
  assert.equal(renewed.length, 1);
});

test("plain HTTP needs no certificates", () => {
  assert.equal(readClientTls({ listen: "http://127.0.0.1:2379" }), undefined);
});
