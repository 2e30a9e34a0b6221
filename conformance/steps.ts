/**
 * The steps of the first contact. Every one writes through one master's kube-apiserver and reads through others.
 */

import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { stopProcess } from "../src/compare/store.ts";
import { type ApiServer, type ControlPlane, KubernetesError } from "./control-plane.ts";

/** Kubernetes objects as kubectl prints them, as far as the steps look. */
interface KubernetesObject {
  readonly metadata: { readonly name: string; readonly resourceVersion: string };
  readonly data?: { readonly [key: string]: string };
  readonly spec?: { readonly [key: string]: unknown };
  readonly status?: {
    readonly phase?: string;
    readonly conditions?: readonly {
      readonly type: string;
      readonly status: string;
      readonly reason?: string;
    }[];
  };
  readonly endpoints?: readonly { readonly addresses: readonly string[] }[];
}

interface KubernetesList {
  readonly items: readonly KubernetesObject[];
}

const namespace = "first-contact";
const pollMs = 500;

/** What the steps share. */
export class Scenario {
  readonly plane: ControlPlane;
  constructor(plane: ControlPlane) {
    this.plane = plane;
  }

  /** The apiserver of master 1 to n; with fewer masters they are taken in turn. */
  server(number: number): ApiServer {
    const alive = this.plane.apiServers.filter(
      ({ process: { exitCode, signalCode } }) => exitCode === null && signalCode === null,
    );
    return alive[(number - 1) % alive.length]!;
  }

  kubectl(number: number, parameters: readonly string[], input?: string): Promise<string> {
    return this.plane.kubectl(this.server(number), parameters, input);
  }

  async list(number: number, parameters: readonly string[]): Promise<readonly KubernetesObject[]> {
    const text = await this.kubectl(number, ["-n", namespace, "get", ...parameters, "-o", "json"]);
    return (JSON.parse(text) as KubernetesList).items;
  }

  apply(number: number, objects: readonly object[]): Promise<string> {
    const list = { apiVersion: "v1", kind: "List", items: objects };
    return this.kubectl(number, ["create", "-f", "-"], JSON.stringify(list));
  }
}

/** Asks until the answer is not undefined. @throws KubernetesError with the last reason when time is up */
async function eventually<T>(what: string, seconds: number, ask: () => Promise<T | undefined>): Promise<T> {
  const deadline = Date.now() + seconds * 1000;
  let last = "not yet";
  for (;;) {
    try {
      const answer = await ask();
      if (answer !== undefined) return answer;
    } catch (error) {
      last = error instanceof Error ? error.message : String(error);
    }
    if (Date.now() > deadline) throw new KubernetesError(`${what}: not within ${seconds} s; ${last}`);
    await new Promise((resolve) => setTimeout(resolve, pollMs));
  }
}

export interface Step {
  readonly name: string;
  readonly run: (scenario: Scenario) => Promise<void>;
  /** Whether the following steps make no sense without it. */
  readonly needed?: boolean;
}

const step = (name: string, run: Step["run"], needed = false): Step => ({ name, run, needed });

function configMap(name: string, value: string): object {
  return { apiVersion: "v1", kind: "ConfigMap", metadata: { name, namespace }, data: { value } };
}

const widgetGroup = "example.kmmr.dev";
const widgetDefinition = {
  apiVersion: "apiextensions.k8s.io/v1",
  kind: "CustomResourceDefinition",
  metadata: { name: `widgets.${widgetGroup}` },
  spec: {
    group: widgetGroup,
    scope: "Namespaced",
    names: { plural: "widgets", singular: "widget", kind: "Widget", listKind: "WidgetList" },
    versions: [
      {
        name: "v1",
        served: true,
        storage: true,
        schema: {
          openAPIV3Schema: {
            type: "object",
            properties: { spec: { type: "object", properties: { size: { type: "integer" } } } },
          },
        },
      },
    ],
  },
};

const deployment = {
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: { name: "web", namespace },
  spec: {
    replicas: 3,
    selector: { matchLabels: { app: "web" } },
    template: {
      metadata: { labels: { app: "web" } },
      spec: { containers: [{ name: "web", image: "example.invalid/web:1" }] },
    },
  },
};

async function controllersLead(scenario: Scenario): Promise<void> {
  await scenario.plane.startControllers();
  for (const name of ["kube-controller-manager", "kube-scheduler"]) {
    await eventually(`the lease of ${name}`, 90, async () => {
      const text = await scenario.kubectl(1, ["-n", "kube-system", "get", "lease", name, "-o", "json"]);
      const holder = (JSON.parse(text) as KubernetesObject).spec?.holderIdentity;
      return typeof holder === "string" && holder !== "" ? true : undefined;
    });
  }
}

async function configMapsAcrossMasters(scenario: Scenario): Promise<void> {
  const names = Array.from({ length: 20 }, (_, i) => `config-${String(i).padStart(2, "0")}`);
  await scenario.apply(
    2,
    names.map((name) => configMap(name, name)),
  );
  const seen = await scenario.list(3, ["configmaps", "--field-selector", "metadata.name!=kube-root-ca.crt"]);
  assert.deepEqual(
    seen.map(({ metadata }) => metadata.name),
    names,
  );
  assert.ok(seen.every(({ metadata, data }) => data?.value === metadata.name));
  // Pages of five, so that list continuation at a fixed revision is used.
  const paged = await scenario.kubectl(4, [
    "-n",
    namespace,
    "get",
    "configmaps",
    "--chunk-size=5",
    "-o",
    "name",
  ]);
  assert.equal(
    paged
      .trim()
      .split("\n")
      .filter((line) => line.includes("config-")).length,
    names.length,
  );
}

/** Two masters update one object in turn: each must have the other's change, or it is a conflict. */
async function updatesInTurn(scenario: Scenario): Promise<void> {
  for (let round = 1; round <= 8; round++) {
    const patch = JSON.stringify({ data: { value: `round-${round}` } });
    await scenario.kubectl(round, ["-n", namespace, "patch", "configmap", "config-00", "-p", patch]);
    const text = await scenario.kubectl(round + 1, [
      "-n",
      namespace,
      "get",
      "configmap",
      "config-00",
      "-o",
      "json",
    ]);
    assert.equal((JSON.parse(text) as KubernetesObject).data?.value, `round-${round}`);
  }
}

async function staleUpdateRefused(scenario: Scenario): Promise<void> {
  const text = await scenario.kubectl(1, ["-n", namespace, "get", "configmap", "config-01", "-o", "json"]);
  const patch = JSON.stringify({ data: { value: "newer" } });
  await scenario.kubectl(2, ["-n", namespace, "patch", "configmap", "config-01", "-p", patch]);
  await assert.rejects(scenario.kubectl(3, ["replace", "-f", "-"], text), /Conflict/);
}

/** A watch through one master sees what others create, change and delete. */
async function watchAcrossMasters(scenario: Scenario): Promise<void> {
  const lines: string[] = [];
  const follower: ChildProcess = scenario.plane.kubectlFollow(
    scenario.server(3),
    ["-n", namespace, "get", "configmaps", "-w", "--output-watch-events", "--no-headers"],
    (text) => lines.push(text.replaceAll(/\s+/g, " ").trim()),
  );
  const sees = (pattern: RegExp): Promise<boolean> =>
    eventually(
      `the watch shows ${pattern}`,
      20,
      async () => lines.some((line) => pattern.test(line)) || undefined,
    );
  await sees(/^ADDED config-19/);
  await scenario.apply(1, [configMap("watched", "1")]);
  await sees(/^ADDED watched/);
  await scenario.kubectl(2, [
    "-n",
    namespace,
    "patch",
    "configmap",
    "watched",
    "-p",
    '{"data":{"value":"2"}}',
  ]);
  await sees(/^MODIFIED watched/);
  await scenario.kubectl(4, ["-n", namespace, "delete", "configmap", "watched"]);
  await sees(/^DELETED watched/);
  await stopProcess(follower);
}

async function customResources(scenario: Scenario): Promise<void> {
  await scenario.apply(1, [widgetDefinition]);
  const established = ["wait", "--for=condition=Established", `crd/widgets.${widgetGroup}`, "--timeout=30s"];
  await scenario.kubectl(2, established);
  const widgets = Array.from({ length: 5 }, (_, size) => ({
    apiVersion: `${widgetGroup}/v1`,
    kind: "Widget",
    metadata: { name: `widget-${size}`, namespace },
    spec: { size },
  }));
  // Another master learns of the new kind a moment later.
  await eventually("widgets are accepted by another master", 30, () => scenario.apply(2, widgets));
  const seen = await eventually("widgets are read through a third master", 30, () =>
    scenario.list(4, ["widgets"]),
  );
  assert.deepEqual(
    seen.map(({ spec }) => spec?.size),
    [0, 1, 2, 3, 4],
  );
}

function podsPending(scenario: Scenario, number: number, count: number): Promise<boolean> {
  return eventually(`${count} pods that wait for a node`, 60, async () => {
    const pods = await scenario.list(number, ["pods", "-l", "app=web"]);
    // The scheduler has looked at a pod once it says that no node fits.
    const judged = pods.filter(
      ({ status }) =>
        status?.phase === "Pending" && status.conditions?.some(({ reason }) => reason === "Unschedulable"),
    );
    return judged.length === count && pods.length === count ? true : undefined;
  });
}

async function deploymentMakesPods(scenario: Scenario): Promise<void> {
  await scenario.apply(1, [deployment]);
  await eventually("its replica set", 30, async () => {
    const sets = await scenario.list(2, ["replicasets", "-l", "app=web"]);
    return sets.length === 1 && sets[0]!.spec?.replicas === 3 ? true : undefined;
  });
  await podsPending(scenario, 3, 3);
}

async function deploymentScales(scenario: Scenario): Promise<void> {
  await scenario.kubectl(4, ["-n", namespace, "scale", "deployment/web", "--replicas=6"]);
  await podsPending(scenario, 1, 6);
}

async function endpointAddresses(scenario: Scenario, number: number): Promise<readonly string[]> {
  const parameters = ["-n", "default", "get", "endpointslice", "kubernetes", "-o", "json"];
  const slice = JSON.parse(await scenario.kubectl(number, parameters)) as KubernetesObject;
  return (slice.endpoints ?? []).flatMap(({ addresses }) => addresses).toSorted();
}

function endpointsAre(scenario: Scenario, seconds: number): Promise<boolean> {
  const alive = scenario.plane.apiServers.filter(({ process: child }) => child.signalCode === null);
  const expected = alive.map(({ advertisedAddress }) => advertisedAddress).toSorted();
  return eventually(`the addresses ${expected.join(", ")}`, seconds, async () => {
    const found = await endpointAddresses(scenario, 1);
    if (found.join() === expected.join()) return true;
    throw new KubernetesError(`found ${found.join(", ")}`);
  });
}

/** The last master's host dies, store member and kube-apiserver; the others go on at once. */
async function masterDies(scenario: Scenario): Promise<void> {
  await scenario.plane.killMaster(scenario.plane.apiServers.at(-1)!);
  const patch = JSON.stringify({ data: { value: "after" } });
  await eventually("a write through another master", 20, () =>
    scenario.kubectl(1, ["-n", namespace, "patch", "configmap", "config-00", "-p", patch]),
  );
  const text = await scenario.kubectl(2, ["-n", namespace, "get", "configmap", "config-00", "-o", "json"]);
  assert.equal((JSON.parse(text) as KubernetesObject).data?.value, "after");
}

async function deadMasterLeaves(scenario: Scenario): Promise<void> {
  // Its lease runs 15 s, and the others look every 10 s.
  await endpointsAre(scenario, 60);
}

async function eventsHaveLeases(scenario: Scenario): Promise<void> {
  await eventually("events of the scheduler", 30, async () => {
    const events = await scenario.list(2, ["events", "--field-selector", "reason=FailedScheduling"]);
    return events.length > 0 ? true : undefined;
  });
}

async function everythingGoes(scenario: Scenario): Promise<void> {
  await scenario.kubectl(1, ["-n", namespace, "delete", "deployment", "web"]);
  await eventually("the pods are collected", 60, async () => {
    const pods = await scenario.list(2, ["pods"]);
    return pods.length === 0 ? true : undefined;
  });
  await scenario.kubectl(2, ["delete", "crd", `widgets.${widgetGroup}`, "--timeout=60s"]);
  await scenario.kubectl(3, ["delete", "namespace", namespace, "--timeout=60s"]);
  await assert.rejects(scenario.kubectl(1, ["get", "namespace", namespace]), /NotFound/);
}

/** In this order. */
export const steps: readonly Step[] = [
  step(
    "every kube-apiserver is ready",
    async (scenario) => {
      await scenario.plane.startApiServers();
      for (const server of scenario.plane.apiServers) {
        await eventually(`${server.name} is ready`, 180, () =>
          scenario.plane.kubectl(server, ["get", "--raw", "/readyz"]),
        );
      }
    },
    true,
  ),
  step("controller-manager and scheduler lead", controllersLead, true),
  step(
    "a namespace made through master 1 is there through master 2",
    async (scenario) => {
      await scenario.kubectl(1, ["create", "namespace", namespace]);
      await scenario.kubectl(2, ["get", "namespace", namespace]);
    },
    true,
  ),
  step(
    "config maps made through master 2 are listed, also in pages, through 3 and 4",
    configMapsAcrossMasters,
  ),
  step("masters update one object in turn and read each other's change", updatesInTurn),
  step("an update of an old version is refused with Conflict", staleUpdateRefused),
  step("a watch through master 3 shows what 1, 2 and 4 do", watchAcrossMasters),
  step("a new kind and its objects", customResources),
  step("a deployment gets its replica set and pods, judged by the scheduler", deploymentMakesPods),
  step("the deployment is scaled through master 4", deploymentScales),
  step("events (each with a lease) are there", eventsHaveLeases),
  step("the `kubernetes` endpoint slice lists every kube-apiserver", (scenario) =>
    endpointsAre(scenario, 60).then(() => {}),
  ),
  step("the last master's host dies, the others write and read on", masterDies),
  step("the dead master leaves the `kubernetes` endpoint slice", deadMasterLeaves),
  step("deleting: pods are collected, kind and namespace go", everythingGoes),
];
