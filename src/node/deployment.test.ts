import assert from "node:assert/strict";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { ConfigError, loadConfig } from "./config.ts";
import { configText, type Deployment, withAddresses, writeDeployment } from "./deployment.ts";
import { GenesisError, parseGenesis } from "./genesis.ts";
import { checkFiles, makeDataDir } from "./member-files.ts";

function deploymentOf(n: number): Deployment {
  const masters = Array.from({ length: n }, (_, i) => ({
    name: `cp${i + 1}`,
    host: `10.0.0.${i + 1}`,
    peerPort: 2380,
    clientPort: 2379,
    listenHost: "0.0.0.0",
    dataDir: "/var/lib/kmmr",
  }));
  return { masters, clientTls: true, quotaBytes: 4 * 2 ** 30 };
}

describe("a written deployment", () => {
  const folder = mkdtempSync(join(tmpdir(), "kmmr-deployment-"));
  const file = (name: string) => join(folder, name);
  before(() => writeDeployment(folder, deploymentOf(4)));
  after(() => rmSync(folder, { recursive: true }));

  /** The problems of a master's config and files, without the folder's name. */
  function problems(master: string): string {
    try {
      checkFiles(loadConfig(file(`${master}/kmmr.yaml`)));
      return "";
    } catch (error) {
      assert(error instanceof ConfigError, String(error));
      return error.message.replaceAll(folder, "");
    }
  }

  /** Runs with one file changed, and puts it back. */
  function withChanged(name: string, change: (path: string) => void, then: () => void): void {
    const text = readFileSync(file(name));
    change(file(name));
    then();
    writeFileSync(file(name), text);
  }

  test("passes the check of every master, and its private keys are private", () => {
    for (const master of ["cp1", "cp2", "cp3", "cp4"]) {
      assert.equal(problems(master), "");
      for (const key of ["identity.key", "peer.key", "server.key", "apiserver-client.key"]) {
        assert.equal(statSync(file(`${master}/${key}`)).mode & 0o777, 0o600, key);
      }
    }
    const genesis = parseGenesis(readFileSync(file("cp3/genesis.json"), "utf8"));
    assert.equal(genesis.quotaBytes, 4 * 2 ** 30);
    assert.deepEqual(genesis.members[2]!.clientUrls, ["https://10.0.0.3:2379"]);
  });

  test("files of another master are told", () => {
    withChanged(
      "cp1/identity.key",
      (path) => copyFileSync(file("cp2/identity.key"), path),
      () =>
        assert.match(
          problems("cp1"),
          /^identityKeyFile: .*: this is not the key that the genesis names for cp1$/,
        ),
    );
    withChanged(
      "cp1/peer.crt",
      (path) => copyFileSync(file("cp2/peer.crt"), path),
      () =>
        assert.match(problems("cp1"), /^peer.certFile: .*: its key is not the one that the genesis names/),
    );
  });

  test("keys that do not fit their certificates, and a data directory that is a file, are told", () => {
    withChanged(
      "cp1/peer.key",
      (path) => copyFileSync(file("cp2/peer.key"), path),
      () =>
        assert.equal(problems("cp1"), "peer.keyFile: /cp1/peer.key: this is not the key of the certificate"),
    );
    withChanged(
      "cp1/server.key",
      (path) => copyFileSync(file("cp2/server.key"), path),
      () =>
        assert.equal(
          problems("cp1"),
          "client.keyFile: /cp1/server.key: this is not the key of the certificate",
        ),
    );
    withChanged(
      "cp1/kmmr.yaml",
      (path) => writeFileSync(path, readFileSync(path, "utf8").replace("/var/lib/kmmr", "ca.crt/data")),
      () => assert.match(problems("cp1"), /^dataDir: \/cp1\/ca.crt.*: is a file/),
    );
    if (process.platform === "linux") {
      const config = loadConfig(file("cp1/kmmr.yaml"));
      assert.throws(
        () => makeDataDir({ ...config, dataDir: "/proc/kmmr/data" }),
        new ConfigError(["dataDir: /proc/kmmr: no folder can be made there"]),
      );
    }
  });

  test("missing, damaged and foreign files are one line each", () => {
    withChanged(
      "cp1/server.key",
      (path) => rmSync(path),
      () => assert.equal(problems("cp1"), "client.keyFile: /cp1/server.key: no such file"),
    );
    withChanged(
      "cp1/peer.crt",
      (path) => writeFileSync(path, "nothing"),
      () => assert.equal(problems("cp1"), "peer.certFile: /cp1/peer.crt: this is no certificate in PEM"),
    );
    withChanged(
      "cp1/genesis.json",
      (path) => writeFileSync(path, readFileSync(path, "utf8").replace("kmmr-genesis/1", "kmmr-genesis/9")),
      () => assert.match(problems("cp1"), /^\/cp1\/genesis.json: format: must be "kmmr-genesis\/1"/),
    );
    withChanged(
      "cp1/kmmr.yaml",
      (path) => writeFileSync(path, readFileSync(path, "utf8").replace("name: cp1", "name: pc1")),
      () => assert.equal(problems("cp1"), 'name: the genesis knows no member "pc1"; did you mean "cp1"?'),
    );
    assert.equal(problems("cp1"), "");
  });

  test("new addresses change no key and no id", () => {
    const old = parseGenesis(readFileSync(file("cp1/genesis.json"), "utf8"));
    const deployment = deploymentOf(4);
    const moved = deployment.masters.map((master, i) => ({ ...master, peerPort: 7000 + i }));
    const genesis = withAddresses(old, { ...deployment, masters: moved, clientTls: false });
    assert.deepEqual(
      genesis.members.map((member) => [member.peerPort, member.clientUrls[0]]),
      [0, 1, 2, 3].map((i) => [7000 + i, `http://10.0.0.${i + 1}:2379`]),
    );
    const fixed = ({ members }: typeof old) =>
      members.map(({ name, id, publicKey }) => [name, id, publicKey]);
    assert.deepEqual(fixed(genesis), fixed(old));
  });
});

test("three masters are refused with the reason, and nothing is written", async (context) => {
  const folder = mkdtempSync(join(tmpdir(), "kmmr-deployment-"));
  context.after(() => rmSync(folder, { recursive: true }));
  await assert.rejects(writeDeployment(join(folder, "none"), deploymentOf(3)), (error: Error) => {
    assert(error instanceof GenesisError);
    assert.match(error.message, /3 members tolerate no Byzantine one: 3f\+1 with f=1 needs 4/);
    return true;
  });
  assert.equal(statSync(join(folder, "none"), { throwIfNoEntry: false }), undefined);
});

test("a config without client TLS names no certificates", () => {
  const { masters } = deploymentOf(4);
  const text = configText(masters[0]!, { masters, clientTls: false });
  assert.match(text, /listen: http:\/\/0\.0\.0\.0:2379/);
  assert.doesNotMatch(text, /certFile: server/);
});
