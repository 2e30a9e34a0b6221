import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { connect, createServer, type TLSSocket } from "node:tls";
import { certificateFingerprint } from "../transport/identity.ts";
import {
  createAuthority,
  createPeerCertificate,
  issueClientCertificate,
  issueServerCertificate,
  type KeyAndCertificate,
  writePrivateFile,
} from "./pki.ts";

interface Client extends Partial<KeyAndCertificate> {
  readonly ca: string;
}

/** Connects as `host`; gives the client's common name as the server saw it, or the error. */
async function tryConnect(
  server: KeyAndCertificate,
  ca: string,
  client: Client,
  host: string,
): Promise<string> {
  const listener = createServer({ ...server, ca, requestCert: true, rejectUnauthorized: true });
  const seen = new Promise<string>((resolve) => {
    listener.on("secureConnection", (socket) => resolve(String(socket.getPeerCertificate().subject.CN)));
    listener.on("tlsClientError", (error) => resolve(`server: ${error.message}`));
  });
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const { port } = listener.address() as { port: number };
  let socket: TLSSocket | undefined;
  const failed = new Promise<string>((resolve) => {
    socket = connect({ ...client, host: "127.0.0.1", port, servername: host });
    socket.on("error", (error: NodeJS.ErrnoException) => resolve(`client: ${error.code}`));
  });
  const result = await Promise.race([seen, failed]);
  socket?.destroy();
  listener.close();
  return result;
}

describe("certificates", () => {
  it("serve for mutual TLS under one authority, and under no other", async () => {
    const [authority, other] = await Promise.all([createAuthority("one"), createAuthority("other")]);
    const server = await issueServerCertificate(authority, {
      commonName: "m1",
      hosts: ["m1.example", "10.0.0.1"],
    });
    const client = await issueClientCertificate(authority, {
      commonName: "root",
      organization: "system:masters",
    });
    const stranger = await issueClientCertificate(other, { commonName: "root" });
    const ca = authority.cert;
    assert.equal(await tryConnect(server, ca, { ...client, ca }, "m1.example"), "root");
    assert.equal(await tryConnect(server, ca, { ...client, ca }, "localhost"), "root");
    assert.match(await tryConnect(server, ca, { ...client, ca }, "m2.example"), /ALTNAME_INVALID/);
    assert.match(await tryConnect(server, ca, { ...stranger, ca }, "m1.example"), /^server:|ALERT/);
    assert.match(await tryConnect(server, ca, { ...client, ca: other.cert }, "m1.example"), /^client:/);
    const names = new X509Certificate(server.cert).subjectAltName;
    assert.equal(
      names,
      "DNS:localhost, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1, DNS:m1.example, IP Address:10.0.0.1",
    );
    assert.match(new X509Certificate(client.cert).subject, /O=system:masters\nCN=root/);
  });

  it("of links have keys of their own", async () => {
    const [first, second] = await Promise.all([createPeerCertificate("m1"), createPeerCertificate("m1")]);
    assert.match(certificateFingerprint(first.cert), /^[0-9a-f]{64}$/);
    assert.notEqual(certificateFingerprint(first.cert), certificateFingerprint(second.cert));
    const certificate = new X509Certificate(first.cert);
    assert.ok(certificate.verify(certificate.publicKey));
  });

  it("leave private keys readable by the owner only, and never write over one", () => {
    const directory = mkdtempSync(join(tmpdir(), "kmmr-pki-"));
    try {
      const path = join(directory, "key.pem");
      writePrivateFile(path, "secret");
      assert.equal(statSync(path).mode & 0o777, 0o600);
      assert.throws(() => writePrivateFile(path, "other"), /EEXIST/);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
