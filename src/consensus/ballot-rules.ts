/** The rules of the ballot model (ballot-model.ts), each to be switched off. */

/** What the members of a model keep to. */
export interface BallotRules {
  /** How many ballots are explored: 2 or 3. */
  readonly ballots: number;
  /** WRITEs are logged in this ballot and lower ones at most. */
  readonly fastBallots: number;
  /** Votes that make a quorum, and reports that a leader needs: 3 of 4. */
  readonly quorum: number;
  /** Logged WRITEs of all members decide, and not those of a quorum. */
  readonly allMustLog: boolean;
  /** A member that restarts sends no WRITE in the ballot in which it may have forgotten one. */
  readonly restartBurnsBallot: boolean;
  /** An ACCEPT is on disk before it leaves. */
  readonly acceptIsDurable: boolean;
  /** A logged WRITE is on disk before it leaves. */
  readonly loggedIsDurable: boolean;
  /** The ballot joined is on disk before anything is sent in it. */
  readonly ballotIsDurable: boolean;
  /** A claim counts only with WRITE signatures of f+1 = 2 distinct members for it. */
  readonly claimsNeedWrites: boolean;
  /** A report counts only for the ballot it was made for. */
  readonly reportsAreBound: boolean;
  /** A member accepts nothing in ballots lower than one it has joined. */
  readonly joinIsPromise: boolean;
  /** A member logs no WRITE in ballots lower than one it has joined: its report would not tell of it. */
  readonly joinEndsLogging: boolean;
  /** Members run the selection on the leader's reports again, and WRITE only what it allows. */
  readonly selectionIsRechecked: boolean;
}

/** The protocol as it is. */
export const ALL_RULES: BallotRules = {
  ballots: 2,
  fastBallots: 3,
  quorum: 3,
  allMustLog: true,
  restartBurnsBallot: true,
  acceptIsDurable: true,
  loggedIsDurable: true,
  ballotIsDurable: true,
  claimsNeedWrites: true,
  reportsAreBound: true,
  joinIsPromise: true,
  joinEndsLogging: true,
  selectionIsRechecked: true,
};
