/** The view of one question and its answer: text, legend, numbers, and what went wrong. */

import { make, setText } from "./dom.js";
import { explanationOf, nameOf } from "./sources.js";
import { TokenText } from "./token_text.js";
import { explain, figure, percent } from "./words.js";
import { rateOf } from "./writer.js";

export class QuestionView {
  constructor(question) {
    const article = make("article", { class: "question" });
    article.append(make("h3", {}, "You"), make("p", { class: "text" }, question));
    this.element = make("li", { class: "turn" }, article);
  }
}

export class AnswerView {
  #text = new TokenText();
  #notice = make("p", { class: "notice", hidden: "" });
  #legend = make("ul", { class: "legend", "aria-label": "Who named the tokens" });
  #numbers = make("p", { class: "muted small numbers-line" });
  #actions = make("div", { class: "row" });

  constructor() {
    this.element = make("article", { class: "answer", "aria-busy": "true" });
    const parts = [this.#notice, this.#legend, this.#numbers, this.#actions];
    this.element.append(make("h3", {}, "Model"), this.#text.element, ...parts);
  }

  /** Add a piece of text. */
  append(text, sources) {
    this.#notice.hidden = true;
    this.#text.append(text, sources);
  }

  /** Say why there is no text yet. */
  wait(words) {
    this.#notice.hidden = false;
    setText(this.#notice, words);
  }

  /** Bring the legend up to date. */
  count(tally) {
    showLegend(this.#legend, tally);
  }

  /** The answer is whole, or will not be: show what is known, and what can be done. */
  finish(outcome, { onCopy, onRetry }) {
    this.element.setAttribute("aria-busy", "false");
    this.count(outcome.tally);
    setText(this.#numbers, numbersLine(outcome));
    this.#notice.hidden = outcome.failure === null;
    this.#notice.classList.toggle("problem", outcome.failure !== null && !outcome.isStopped);
    if (outcome.failure !== null) setText(this.#notice, whyUnfinished(outcome));
    if (outcome.text !== "") this.#act("copy", "Copy", onCopy);
    if (outcome.failure !== null) this.#act("retry", "Try again", onRetry);
  }

  /** A later question was asked: this one cannot be tried again. */
  settle() {
    this.#actions.querySelector(".retry")?.remove();
  }

  #act(name, label, action) {
    const button = make("button", { type: "button", class: `${name} quiet` }, label);
    button.addEventListener("click", () => action(button));
    this.#actions.append(button);
  }
}

/** Why an answer has no end, in words. */
export function whyUnfinished(outcome) {
  return outcome.isStopped ? "Stopped." : explain(outcome.failure);
}

function showLegend(list, tally) {
  for (const [source, count] of tally.counts) {
    let item = list.querySelector(`[data-source="${CSS.escape(source)}"]`);
    if (item === null) {
      if (count === 0) continue;
      item = make("li", { "data-source": source, title: explanationOf(source) });
      item.append(make("span", { class: `token from-${source}` }, nameOf(source)), make("span"));
      list.append(item);
    }
    setText(item.lastChild, ` ${count} (${percent(count / tally.numTokens)})`);
  }
}

function numbersLine(outcome) {
  const { tally, body, metrics } = outcome;
  const parts = [`speculation ${body.draft === "off" ? "off" : "on"}`, `seed ${body.seed}`];
  const rate = rateOf(outcome);
  if (tally.numTokens > 0) parts.unshift(`${tally.numTokens} tokens`);
  if (rate) parts.unshift(`${figure(rate)} tokens per second${metrics ? "" : " (by this page)"}`);
  return parts.join(" \u00b7 ");
}
