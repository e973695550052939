/** The numbers of the answer that is being written, or was written last, against vanilla. */

import { byId, setText } from "./dom.js";
import { figure, percent } from "./words.js";
import { rateOf } from "./writer.js";

// The rate of a shorter answer is no measurement of vanilla decoding.
const FEWEST_TOKENS = 8;

const LIVE = "live, counted by this page";

export class SpeedPanel {
  #vanilla = { rate: null, kind: "" };
  #numbers = null;

  /** What the server predicts for vanilla decoding from measured costs, or null. */
  predict(rate) {
    if (this.#vanilla.kind === "measured") return;
    this.#vanilla = { rate, kind: "predicted" };
    this.#render();
  }

  /** Show an answer while it is written, as counted here. */
  showLive(tally, startedAt) {
    const firstToken = tally.firstAt === null ? null : (tally.firstAt - startedAt) / 1000;
    this.#numbers = {
      rate: tally.rate,
      kind: LIVE,
      isVanilla: false,
      meanLength: tally.meanLength,
      acceptance: null,
      firstToken,
      tally,
    };
    this.#render();
  }

  /** Show an answer that has ended: the server's own numbers where it gave them. */
  showFinal(outcome) {
    const { metrics, tally } = outcome;
    const drafts = metrics?.speculative_decoding;
    const rate = rateOf(outcome);
    const isVanilla = outcome.body.draft === "off";
    this.#numbers = {
      rate,
      kind: metrics ? "by the server, decoding only" : "counted by this page",
      isVanilla,
      meanLength: drafts?.num_drafts ? drafts.mean_acceptance_length : tally.meanLength,
      acceptance: drafts?.num_draft_tokens ? drafts : null,
      firstToken: metrics?.time_to_first_token_seconds ?? outcome.firstTokenSeconds,
      tally,
    };
    const isWhole = outcome.failure === null && tally.numTokens >= FEWEST_TOKENS;
    if (isVanilla && isWhole && rate) this.#vanilla = { rate, kind: "measured" };
    this.#render();
  }

  /** The same in one line. */
  get line() {
    if (this.#numbers === null) return "No answer yet.";
    const { rate, kind, meanLength, tally } = this.#numbers;
    if (tally.numTokens === 0) return withoutTokens(kind);
    const parts = [`${figure(rate)} tokens per second`];
    if (this.#ratio) parts.push(`${figure(this.#ratio, 2)} times vanilla (${this.#vanilla.kind})`);
    if (meanLength) parts.push(`M ${figure(meanLength, 2)}`);
    return parts.join(" \u00b7 ");
  }

  get #ratio() {
    if (this.#numbers?.isVanilla) return null; // a ratio of vanilla to itself says nothing
    return this.#numbers?.rate && this.#vanilla.rate ? this.#numbers.rate / this.#vanilla.rate : null;
  }

  #render() {
    const { rate: vanilla, kind } = this.#vanilla;
    setText(byId("vanilla"), vanilla ? `${figure(vanilla)} tokens per second, ${kind}` : "not known yet");
    setText(byId("ratio"), this.#ratio ? `${figure(this.#ratio, 2)} times vanilla` : "\u2013");
    setText(byId("live-line"), this.line);
    this.#showBars(this.#numbers?.rate ?? 0, vanilla ?? 0);
    if (this.#numbers !== null) this.#showNumbers(this.#numbers);
  }

  #showNumbers({ rate, kind, meanLength, acceptance, firstToken, tally }) {
    setText(byId("rate"), figure(rate));
    setText(byId("rate-kind"), tally.numTokens ? kind : withoutTokens(kind));
    setText(byId("mean-length"), figure(meanLength, 2));
    setText(byId("rounds"), String(tally.numRounds));
    setText(byId("tokens"), tokensInWords(tally));
    setText(byId("acceptance"), acceptance ? acceptanceInWords(acceptance) : noAcceptance(kind, tally));
    setText(byId("first-token"), firstToken === null ? "\u2013" : `${figure(firstToken, 2)} s`);
  }

  #showBars(rate, vanilla) {
    const longest = Math.max(rate, vanilla, Number.EPSILON);
    byId("bar-answer").style.inlineSize = `${(100 * rate) / longest}%`;
    byId("bar-vanilla").style.inlineSize = `${(100 * vanilla) / longest}%`;
  }
}

const withoutTokens = (kind) => (kind === LIVE ? "Waiting for the first token." : "Nothing was written.");

function tokensInWords(tally) {
  const drafted = tally.numTokens - tally.numRounds;
  const share = tally.numTokens ? `, ${percent(drafted / tally.numTokens)} from drafts` : "";
  return `${tally.numTokens}${share}`;
}

function acceptanceInWords(drafts) {
  const { num_accepted_tokens: accepted, num_draft_tokens: drafted } = drafts;
  return `${percent(drafts.draft_acceptance_rate)} (${accepted} of ${drafted} drafted)`;
}

// How much was drafted in vain is not in the stream; the server tells it at the end.
function noAcceptance(kind, tally) {
  if (kind === LIVE) return "after the answer";
  return tally.numTokens ? "nothing drafted" : "\u2013";
}
