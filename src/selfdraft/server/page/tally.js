/** What can be counted while tokens arrive: who named them, rounds, and the rate. */

import { SOURCES } from "./sources.js";

// A rate over less time than this is noise.
const SHORTEST_MS = 250;

export class Tally {
  constructor() {
    this.counts = new Map(SOURCES.map((source) => [source, 0]));
    this.numTokens = 0;
    this.firstAt = null;
    this.lastAt = null;
    this.numFirst = 0;
  }

  /** Count the tokens of one chunk, which arrived at a time in milliseconds. */
  add(sources, at) {
    if (sources.length === 0) return;
    for (const source of sources) this.counts.set(source, (this.counts.get(source) ?? 0) + 1);
    this.numTokens += sources.length;
    if (this.firstAt === null) {
      this.firstAt = at;
      this.numFirst = sources.length;
    }
    this.lastAt = at;
  }

  /** Rounds so far: each ends with exactly one token of the target. */
  get numRounds() {
    return this.counts.get("target");
  }

  /** Tokens per round, or null before the first round has ended. */
  get meanLength() {
    return this.numRounds ? this.numTokens / this.numRounds : null;
  }

  /** Tokens per second since the first tokens, which prefill paid for; null if not known. */
  get rate() {
    const milliseconds = this.lastAt - this.firstAt;
    if (this.firstAt === null || milliseconds < SHORTEST_MS) return null;
    return ((this.numTokens - this.numFirst) * 1000) / milliseconds;
  }
}
