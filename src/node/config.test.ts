import assert from "node:assert/strict";
import { test } from "node:test";
import { ConfigError, parseConfig } from "./config.ts";
import { nearestName } from "./nearest-name.ts";

const GOOD = `
name: m1
dataDir: data
genesisFile: genesis.json
identityKeyFile: identity.key
client:
  listen: https://127.0.0.1:2379
  certFile: client.crt
  keyFile: client.key
  caFile: ca.crt
peer:
  listen: 127.0.0.1:2380
  certFile: peer.crt
  keyFile: /etc/kmmr/peer.key
`;

/** The problems of a config, without the file name in front. */
function problems(text: string): string[] {
  try {
    parseConfig(text, "/etc/kmmr/kmmr.yaml");
  } catch (error) {
    assert(error instanceof ConfigError, String(error));
    return error.problems.map((problem) => problem.replace("/etc/kmmr/kmmr.yaml:", ""));
  }
  return [];
}

test("a good config gets defaults and absolute file names", () => {
  const config = parseConfig(GOOD, "/etc/kmmr/kmmr.yaml");
  assert.equal(config.dataDir, "/etc/kmmr/data");
  assert.equal(config.client.certFile, "/etc/kmmr/client.crt");
  assert.equal(config.peer.keyFile, "/etc/kmmr/peer.key");
  assert.equal(config.client.listen, "https://127.0.0.1:2379");
  assert.equal(config.readMode, "fenced");
  assert.equal(config.limits.requestTimeoutMs, 7000);
  assert.equal(config.log.level, "info");
});

test("plain clients and a metrics listener are read", () => {
  const text = GOOD.replace(/client:[\s\S]*peer:/, "client:\n  listen: 'http://[::1]:2'\npeer:");
  const config = parseConfig(`${text}\nmetrics: { listen: 'http://127.0.0.1:2381' }`, "c");
  assert.equal(config.client.listen, "http://[::1]:2");
  assert.equal(config.metrics.listen, "http://127.0.0.1:2381");
});

/** What is written, and the lines that must come out. */
const TABLE: readonly (readonly [title: string, text: string, lines: readonly string[]])[] = [
  [
    "a mistyped key names the right one",
    GOOD.replace("dataDir", "datadir"),
    ["1: dataDir: is missing", '3: datadir: unknown key; did you mean "dataDir"?'],
  ],
  [
    "a key of another object is found there",
    `${GOOD}\nrequestTimeout: 5`,
    ['16: requestTimeout: unknown key; did you mean "limits.requestTimeoutMs"?'],
  ],
  [
    "a strange key lists what is known",
    `${GOOD}\nlog: { colour: red }`,
    ["16: log.colour: unknown key; known here: level"],
  ],
  [
    "an address without a scheme",
    GOOD.replace("https://127.0.0.1:2379", "127.0.0.1:2379"),
    ['7: client.listen: "127.0.0.1:2379" is not an address: write http://HOST:PORT or https://HOST:PORT'],
  ],
  [
    "a peer address with a scheme",
    GOOD.replace("127.0.0.1:2380", "https://127.0.0.1:2380"),
    [
      '12: peer.listen: "https://127.0.0.1:2380" is not an address: write HOST:PORT, for example 0.0.0.0:2380',
    ],
  ],
  [
    "a port out of range",
    GOOD.replace(":2380", ":66000"),
    ['12: peer.listen: "127.0.0.1:66000" is not an address: write HOST:PORT, for example 0.0.0.0:2380'],
  ],
  [
    "https without key and authority",
    GOOD.replace(/ {2}(keyFile: client.key|caFile: ca.crt)\n/g, ""),
    [
      "7: client.keyFile: is missing: https needs it",
      "7: client.caFile: is missing: clients must show certificates of it (or set client.requireClientCert: false)",
    ],
  ],
  [
    "http with a certificate",
    GOOD.replace("https:", "http:").replace(/ {2}(keyFile|caFile): c.*\n/g, ""),
    ["8: client.certFile: has no meaning with http: write client.listen: https://..."],
  ],
  [
    "a metrics address with TLS",
    `${GOOD}\nmetrics: { listen: https://127.0.0.1:2381 }`,
    ['16: metrics.listen: "https://127.0.0.1:2381" is not a plain address: write http://HOST:PORT'],
  ],
  [
    "listeners on one port",
    `${GOOD.replace("127.0.0.1:2380", "0.0.0.0:2379")}\nmetrics: { listen: 'http://[::]:2379' }`,
    [
      "12: peer.listen: is taken by client.listen: each needs a port of its own",
      "16: metrics.listen: is taken by client.listen: each needs a port of its own",
      "16: metrics.listen: is taken by peer.listen: each needs a port of its own",
    ],
  ],
  ["listeners on one port of different addresses", GOOD.replace("127.0.0.1:2380", "127.0.0.2:2379"), []],
  [
    "a number out of bounds",
    `${GOOD}\nlimits:\n  requestTimeoutMs: 5`,
    ["17: limits.requestTimeoutMs: Too small: expected number to be >=100"],
  ],
  [
    "a read mode that is none",
    `${GOOD}\nreadMode: quick`,
    ['16: readMode: expected one of "fenced"|"ordered"'],
  ],
  [
    "an empty file",
    "",
    [
      "1: must hold keys and values: name, dataDir, genesisFile, identityKeyFile, client, peer, readMode, limits, log, metrics",
    ],
  ],
  ["the same key twice", `${GOOD}\nname: m2`, ["16: Map keys must be unique at line 16, column 1:"]],
];

for (const [title, text, lines] of TABLE) {
  test(`config: ${title}`, () => {
    assert.deepEqual(problems(text), lines);
  });
}

test("a missing file is one clear line", async () => {
  const { loadConfig } = await import("./config.ts");
  assert.throws(() => loadConfig("/nowhere/kmmr.yaml"), { message: "/nowhere/kmmr.yaml: no such file" });
});

test("nearest name: near ones only", () => {
  assert.equal(nearestName("listn", ["listen", "certFile"]), "listen");
  assert.equal(nearestName("cert-file", ["listen", "certFile"]), "certFile");
  assert.equal(nearestName("banana", ["listen", "certFile"]), undefined);
});
