/**
 * Time: heartbeats, sending again, and when a leader has had long enough (silent, idle with requests waiting,
 * or slow between batches).
 */
import type { Core } from "./core.ts";
import { sendStop, sendStopData } from "./leader-change.ts";

/** Batches after which the average turnaround of a leader means something. */
const TURNAROUND_SAMPLES_MIN = 16;
/** Weight of the newest batch in the moving average. */
const TURNAROUND_WEIGHT = 1 / 8;
/** A quiet second halves the back-off. */
const RELAX_INTERVAL_MS = 1000;
/** Longest pause between two sendings of an own bundle. */
const BUNDLE_WAIT_MAX_MS = 2000;

export function tick(core: Core): void {
  heartbeat(core);
  resend(core);
  watchLeader(core);
}

function heartbeat(core: Core): void {
  if (core.monotonicMs - core.heartbeatAtMs < core.options.heartbeatIntervalMs) return;
  core.heartbeatAtMs = core.monotonicMs;
  core.broadcast({ type: "heartbeat", regency: core.regency, decided: core.lastDecided });
}

/** Links lose what was queued when they break, and receivers drop what they cannot keep (W18). */
function resend(core: Core): void {
  const { monotonicMs: now, options } = core;
  for (const bundle of core.outbox.values()) {
    if (now - bundle.sentAtMs < bundle.waitMs) continue;
    bundle.sentAtMs = now;
    bundle.waitMs = Math.min(2 * bundle.waitMs, BUNDLE_WAIT_MAX_MS);
    core.broadcastBytes(bundle.message, "bulk");
  }
  const quietSince = Math.max(core.lastDecidedAtMs, core.instance.proposalSeenAtMs, core.resentAtMs);
  if (now - quietSince >= options.resendIntervalMs) {
    core.resentAtMs = now;
    resendVotes(core);
  }
  if (now - core.stopSentAtMs >= options.resendIntervalMs && core.stopTarget > core.regency) sendStop(core);
  if (core.phase === "syncing" && now - core.installedAtMs >= options.resendIntervalMs) {
    const turn = Math.floor((now - core.installedAtMs) / options.resendIntervalMs);
    const target = (core.leader + turn) % core.membership.n;
    if (core.mayAnswer("resync", core.self)) {
      sendStopData(core);
      if (target !== core.self)
        core.send(target, { type: "authorityRequest", regency: core.regency, wantSync: true });
    }
  }
}

/** Sends the own messages (`Core.ownVotes`) again, to all or to one member. */
export function resendVotes(core: Core, to?: number): void {
  const { propose, write, accept } = core.ownVotes;
  const behind = core.peerDecided.some((cid, member) => member !== core.self && cid < core.lastDecided);
  const again = behind ? (core.ownVotes.again ?? []) : [];
  for (const bytes of [...again, propose, write, accept]) {
    if (bytes === undefined) continue;
    if (to === undefined) core.broadcastBytes(bytes);
    else core.sendBytes(to, bytes);
  }
}

/** A link came up: the peer may have missed everything that was on its way. */
export function linkUp(core: Core, peer: number): void {
  core.linked[peer] = true;
  core.send(peer, { type: "heartbeat", regency: core.regency, decided: core.lastDecided });
  for (const bundle of core.outbox.values()) core.sendBytes(peer, bundle.message, "bulk");
  resendVotes(core, peer);
}

export function linkDown(core: Core, peer: number): void {
  core.linked[peer] = false;
  core.unlinkedAtMs[peer] = core.monotonicMs;
}

export function onHeartbeat(core: Core, from: number, regency: number, decided: number): void {
  core.peerDecided[from] = decided;
  core.peerHeardAtMs[from] = core.monotonicMs;
  if (from === core.leader && regency === core.regency) core.leaderHeardAtMs = core.monotonicMs;
}

// ---- the leader's performance

/** Notes how long the leader took from when it could propose until its PROPOSE came (W17). */
export function measureTurnaround(core: Core): void {
  const waiting = core.pool.oldestProposable();
  if (waiting === undefined || core.isLeader) return;
  const couldSince = Math.max(core.lastDecidedAtMs, waiting.arrivedAtMs, core.readyAtMs);
  const sampleMs = core.monotonicMs - couldSince;
  core.turnaroundMs += (sampleMs - core.turnaroundMs) * TURNAROUND_WEIGHT;
  core.turnaroundSamples += 1;
}

function watchLeader(core: Core): void {
  const { monotonicMs: now, options } = core;
  const factor = core.timeoutFactor;
  if (core.phase === "syncing") {
    if (now - core.installedAtMs > options.syncTimeoutMs * factor) core.accuse("no SYNC in time");
    return;
  }
  accuseWaiting(core, now, factor);
  relax(core, now);
  if (core.isLeader) return;
  const unlinked = !core.linked[core.leader];
  const silentMs = now - core.leaderHeardAtMs;
  if (silentMs > options.leaderTimeoutMs * factor) core.accuse("the leader is silent");
  else if (
    unlinked &&
    silentMs > options.leaderUnlinkedTimeoutMs * factor &&
    now - core.unlinkedAtMs[core.leader]! > options.leaderUnlinkedTimeoutMs * factor
  ) {
    core.accuse("the link to the leader is down");
  }
  if (
    core.turnaroundSamples >= TURNAROUND_SAMPLES_MIN &&
    core.turnaroundMs > options.turnaroundLimitMs * factor
  ) {
    core.accuse("the leader is slow");
  }
}

/** Timeouts come down, too, while a leader is heard of and nothing waits. */
function relax(core: Core, now: number): void {
  if (core.timeoutFactor === 1 || now - core.relaxedAtMs < RELAX_INTERVAL_MS) return;
  if (now - core.readyAtMs < RELAX_INTERVAL_MS || core.pool.hasProposable()) return;
  core.relaxedAtMs = now;
  core.timeoutFactor = Math.max(1, core.timeoutFactor / 2);
}

/** A request, or a value that a leader change bound, waits too long. */
function accuseWaiting(core: Core, now: number, factor: number): void {
  const limitMs = core.options.requestTimeoutMs * factor;
  const oldest = core.pool.oldestProposable();
  if (oldest !== undefined) {
    const waitedMs = now - Math.max(oldest.arrivedAtMs, core.readyAtMs);
    if (waitedMs > limitMs) core.accuse("a request waits for its decision");
    else if (
      waitedMs > limitMs / 2 &&
      !core.isLeader &&
      core.mayAnswer("forward", core.leader, limitMs / 2)
    ) {
      // The origin may have kept it from the leader: before blaming, hand it over.
      if (core.validBundle(oldest.bundle)) {
        core.send(core.leader, { type: "bundle", bundle: oldest.bundle.encoded }, "bulk");
      } else if (core.direct.has(oldest.bundle)) {
        core.suspect(oldest.bundle.origin, "bad signature on a bundle");
      }
    }
  }
  // Agreed time that stands still is a request of all members that waits: leases must expire.
  if (!core.application.timeIsDue(core.wallMs)) core.timeDueSinceMs = now;
  if (now - Math.max(core.timeDueSinceMs, core.readyAtMs) > limitMs)
    core.accuse("a lease waits for its expiry");
  const bound = core.sync?.bindings.has(core.instance.cid) ?? false;
  if (bound && now - Math.max(core.readyAtMs, core.lastDecidedAtMs) > limitMs) {
    core.accuse("a bound value waits for its decision");
  }
}
