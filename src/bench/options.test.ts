import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "../base/prng.ts";
import { Keyspace, namespaceKeys } from "./keyspace.ts";
import { helpText, parseOptions, UsageError } from "./options.ts";
import { defaultWorkloads, parseWorkload, WorkloadNameError } from "./workload.ts";

test("the defaults are the workloads of the goals on four members, both clusters", () => {
  const options = parseOptions([]);
  assert.equal(options.members, 4);
  assert.deepEqual(options.clusters, ["etcd", "kmmr"]);
  assert.deepEqual(
    options.workloads.map((workload) => workload.name),
    defaultWorkloads,
  );
  assert.equal(options.keys, 100_000);
  assert.equal(options.valueBytes, 256);
});

test("options are read", () => {
  const given = "--masters 7 --duration 0.5 --rounds 1 --workloads put@250,mix-8 --only kmmr --client-tls on";
  const options = parseOptions(given.split(" "));
  assert.equal(options.members, 7);
  assert.equal(options.durationMs, 500);
  assert.deepEqual(options.clusters, ["kmmr"]);
  assert.equal(options.clientTls, true);
  assert.deepEqual(options.workloads[0]!.shape, { ratePerSecond: 250 });
  assert.deepEqual(options.workloads[1]!.shape, { inFlight: 8 });
  assert.ok(options.workloads[1]!.watchersPerMember > 0);
});

test("wrong use is refused with what was given", () => {
  const wrong: [string, RegExp][] = [
    ["--masters 3", /--masters: "3"/],
    ["--masters 11", /"11"/],
    ["--duration x", /"x"/],
    ["--workloads put", /unknown workload "put"/],
    ["--workloads put-0", /unknown workload/],
    ["--workloads get-99999", /unknown workload/],
    ["--only zookeeper", /--only: "zookeeper"/],
    ["--keys 750", /multiple of 500/],
    ["--rate 5", /--rate/],
  ];
  for (const [given, message] of wrong)
    assert.throws(
      () => parseOptions(given.split(" ")),
      (error) => error instanceof UsageError && message.test(error.message),
      given,
    );
});

test("the help names every option", () => {
  for (const name of [
    "masters",
    "duration",
    "warmup",
    "rounds",
    "workloads",
    "only",
    "keys",
    "value-size",
    "seed",
  ])
    assert.ok(helpText.includes(`--${name}`), name);
});

test("names of workloads say what they are", () => {
  assert.deepEqual(parseWorkload("serializable-get-64").shape, { inFlight: 64 });
  assert.throws(() => parseWorkload("delete-1"), WorkloadNameError);
});

test("a key has one write in flight, and a lost write makes it unknown", () => {
  const keyspace = new Keyspace(namespaceKeys, 32, new Prng(1));
  const taken = new Set<number>();
  for (let index = 0; index < 100; index++) taken.add(keyspace.pickForWrite());
  assert.equal(taken.size, 100);
  const [acknowledged, lost] = [...taken] as [number, number];
  assert.equal(keyspace.isCertain(acknowledged), false);
  keyspace.acknowledge(acknowledged, 7);
  keyspace.lose(lost);
  assert.equal(keyspace.isCertain(acknowledged), true);
  assert.equal(keyspace.isCertain(lost), false);
});

test("values differ from write to write and from key to key", () => {
  const keyspace = new Keyspace(namespaceKeys, 32, new Prng(1));
  const values = new Set<string>();
  for (let write = 0; write < 10; write++)
    for (const index of [0, 1, 2]) {
      keyspace.startWrite(index);
      values.add(keyspace.valueOf(index).toString("hex"));
      keyspace.acknowledge(index, write + 1);
    }
  assert.equal(values.size, 30);
});
