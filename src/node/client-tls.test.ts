import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { GatewayTls } from "../gateway/listener.ts";
import { ClientTlsWatch, readClientTls } from "./client-tls.ts";
import { ConfigError } from "./config.ts";
import { createLogger } from "./logger.ts";
import { createAuthority, issueServerCertificate } from "./pki.ts";

test("certificates are read again when their files change, and kept when the new ones cannot be used", async (context) => {
  const authority = await createAuthority("test");
  const pair = () => issueServerCertificate(authority, { commonName: "m1", hosts: [] });
  const [first, second] = [await pair(), await pair()];

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
  writeFileSync(file("server.crt"), first.cert);
  writeFileSync(file("server.key"), first.key);
  writeFileSync(file("ca.crt"), authority.cert);
  assert.equal(String(readClientTls(client)?.cert), first.cert);
  assert.equal(readClientTls(client)?.requireClientCert, true);
  const renewed: GatewayTls[] = [];
  const lines: string[] = [];
  const renew = (settings: GatewayTls) => {
    if (String(settings.cert) === first.cert) throw new Error("not this one again");
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
  // Half of a renewal: the old pair stays in use.
  writeFileSync(file("server.crt"), second.cert);
  watch.check();
  assert.match(lines[0]!, /server\.key: this is not the key of the certificate.*cannot be used/);
  writeFileSync(file("server.key"), second.key);
  watch.check();
  assert.equal(String(renewed[0]?.cert), second.cert);
  watch.check();
  assert.equal(renewed.length, 1);
  writeFileSync(file("server.crt"), first.cert);
  writeFileSync(file("server.key"), first.key);
  watch.check();
  assert.equal(renewed.length, 1);
  assert.match(lines.at(-1)!, /not this one again.*cannot be used/);
});

test("files that are not what they should be are told with key and name", async (context) => {
  const folder = mkdtempSync(join(tmpdir(), "kmmr-client-tls-"));
  context.after(() => rmSync(folder, { recursive: true }));
  const authority = await createAuthority("test");
  const { cert, key } = await issueServerCertificate(authority, { commonName: "m1", hosts: [] });
  const other = await createAuthority("other");
  /** The problems with these contents. */
  const problems = (files: { certFile: string; keyFile: string; caFile: string }) => {
    for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
    const path = (name: string) => join(folder, name);
    const client = { listen: "https://127.0.0.1:2379", certFile: path("certFile"), keyFile: path("keyFile") };
    try {
      readClientTls({ ...client, caFile: path("caFile") });
      return "";
    } catch (error) {
      assert(error instanceof ConfigError, String(error));
      return error.message.replaceAll(`${folder}/`, "");
    }
  };
  const caFile = authority.cert;
  assert.equal(problems({ certFile: cert + other.cert, keyFile: key, caFile: caFile + other.cert }), "");
  assert.equal(
    problems({ certFile: cert, keyFile: other.key, caFile }),
    "client.keyFile: keyFile: this is not the key of the certificate",
  );
  assert.equal(
    problems({ certFile: "x", keyFile: "y", caFile: "z" }),
    "client.certFile: certFile: this is no certificate in PEM\n" +
      "client.keyFile: keyFile: this is no private key in PEM without a password\n" +
      "client.caFile: caFile: this holds no certificate in PEM",
  );
  const damaged = other.cert.replace(/\n..../, "\nAAAA");
  assert.equal(
    problems({ certFile: cert, keyFile: key, caFile: caFile + damaged }),
    "client.caFile: caFile: certificate 2 of 2 is damaged",
  );
});

test("plain HTTP needs no certificates", () => {
  assert.equal(readClientTls({ listen: "http://127.0.0.1:2379" }), undefined);
});
