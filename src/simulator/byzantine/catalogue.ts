/** All ways to misbehave, by name. A Byzantine member follows one or several of them. */
import type { Behaviour } from "./behaviour.ts";
import { corruptBodies, forgeBundles, withholdBodies, wrongAnswers } from "./bodies.ts";
import {
  forgedCertificates,
  ghostClaim,
  ghostLogged,
  lateLogged,
  replayBundles,
  secondProposal,
  splitClaim,
  staleSync,
} from "./conspiracy.ts";
import { farFence, unstableCheckpoints } from "./false-positions.ts";
import {
  borrowedClaim,
  falseCertificate,
  falseFence,
  falseLogged,
  falseProgress,
  hideHistory,
  oldStopData,
  weakClaim,
} from "./history-lies.ts";
import { laggard, relay, replayOld } from "./noise.ts";
import {
  equivocate,
  mixedOffers,
  proposeAgain,
  proposeToFew,
  proposeToOne,
  slowLeader,
  wrongContent,
  wrongSync,
  wrongTimestamp,
} from "./proposing.ts";
import { hiddenBundles, oversizedBundle, oversizedValue } from "./sizes.ts";
import { falseChunks, falseDecisionClaim, forgedCheckpoint, shortCertificate } from "./state-lies.ts";
import {
  badSignature,
  doubleVote,
  eagerVote,
  falseExecution,
  falseLogging,
  silent,
  stopSpam,
} from "./voting.ts";

const MAKERS = {
  equivocate,
  proposeToOne,
  proposeToFew,
  wrongTimestamp,
  wrongContent,
  proposeAgain,
  slowLeader,
  wrongSync,
  doubleVote,
  eagerVote,
  badSignature,
  falseExecution,
  stopSpam,
  silent: () => silent(undefined),
  silentVotes: () => silent(["write", "accept"]),
  silentLeader: () => silent(["propose", "sync"]),
  silentHelp: () => silent(["bundle", "value", "decisions", "stateReply", "fenceReply", "authority"]),
  hideHistory,
  weakClaim,
  borrowedClaim,
  oldStopData,
  falseCertificate,
  falseFence,
  farFence,
  falseProgress,
  unstableCheckpoints,
  withholdBodies,
  corruptBodies,
  forgeBundles,
  wrongAnswers,
  replayOld,
  relay,
  laggard,
  ghostClaim,
  ghostLogged,
  lateLogged,
  splitClaim,
  secondProposal,
  staleSync,
  forgedCertificates,
  forgedCheckpoint,
  falseChunks,
  falseDecisionClaim,
  shortCertificate,
  replayBundles,
  falseLogged,
  falseLogging,
  oversizedValue,
  oversizedBundle,
  hiddenBundles,
  mixedOffers,
  /** Sends bytes that are no messages; done by the wrapper, for it needs no message. */
  garbage: (): Behaviour => ({}),
  /** Two real replicas with one key, each in touch with some of the members; done by the wrapper. */
  twins: (): Behaviour => ({}),
} satisfies Record<string, () => Behaviour>;

export type BehaviourName = keyof typeof MAKERS;

export const BEHAVIOURS = Object.keys(MAKERS) as readonly BehaviourName[];

/** A fresh instance of the behaviour: it may remember things. */
export function makeBehaviour(name: BehaviourName): Behaviour {
  return MAKERS[name]();
}
