/** The same question with the other setting and the same seed: two texts, side by side in time. */

import { sleep } from "./api.js";
import { make, setText } from "./dom.js";
import { Follow } from "./follow.js";
import { TokenText } from "./token_text.js";
import { whyUnfinished } from "./answer.js";
import { draftFor } from "./settings.js";
import { explainWait, figure } from "./words.js";
import { rateOf, write } from "./writer.js";

const WRITTEN = "written now";
const SHOWN_AGAIN = "shown again at its own pace";

class Lane {
  #text = new TokenText();
  #rate = make("p", { class: "lane-rate" }, "\u2013");
  #follow = new Follow(this.#text.element);

  constructor(name, note) {
    this.element = make("section", { class: "lane", "aria-label": name });
    const heading = make("h4", {}, name, " ", make("span", { class: "muted small" }, note));
    this.#text.element.tabIndex = 0; // it scrolls, so the keyboard must reach it
    this.#text.element.setAttribute("role", "group");
    this.#text.element.setAttribute("aria-label", `Text with ${name.toLowerCase()}`);
    this.element.append(heading, this.#rate, this.#text.element);
  }

  append(text, sources) {
    this.#text.append(text, sources);
    this.#follow.grown();
  }

  showRate(rate) {
    setText(this.#rate, `${figure(rate)} tokens per second`);
  }
}

export class Comparison {
  #first;
  #draft;
  #firstLane;
  #secondLane;
  #verdict = make("div", { class: "verdict" }, make("p", {}, "Writing."));

  /** `first` is the outcome of an answer that is whole. */
  constructor(first) {
    this.#first = first;
    const isFirstOn = first.body.draft !== "off";
    this.#draft = draftFor(!isFirstOn);
    const on = new Lane("Speculation on", isFirstOn ? SHOWN_AGAIN : WRITTEN);
    const off = new Lane("Speculation off", isFirstOn ? WRITTEN : SHOWN_AGAIN);
    [this.#firstLane, this.#secondLane] = isFirstOn ? [on, off] : [off, on];
    const lanes = make("div", { class: "lanes" }, on.element, off.element);
    const heading = make("h3", {}, "Comparison");
    this.element = make("section", { class: "comparison", "aria-busy": "true" });
    this.element.append(heading, lanes, this.#verdict);
  }

  /** Write it, and give what became of it. `onPiece` is called after each piece. */
  async run(api, { signal, tally, onPiece }) {
    const body = { ...this.#first.body, draft: this.#draft };
    const lane = this.#secondLane;
    const onWait = (seconds, message) => this.#say([explainWait(seconds, message)], "");
    const [second] = await Promise.all([
      write(api, body, {
        signal,
        tally,
        onWait,
        onPiece: (text, sources) => {
          lane.append(text, sources);
          onPiece();
        },
      }),
      this.#replay(signal, onPiece),
    ]);
    lane.showRate(rateOf(second));
    this.element.setAttribute("aria-busy", "false");
    this.#judge(second);
    return second;
  }

  /** The verdict as text. */
  get words() {
    return [...this.#verdict.children].map((line) => line.textContent).join(" ");
  }

  async #replay(signal, onPiece) {
    const lane = this.#firstLane;
    const start = performance.now();
    try {
      for (const { at, text, sources } of this.#first.pieces) {
        const left = at - (performance.now() - start);
        if (left > 0) await sleep(left, signal);
        lane.append(text, sources);
        onPiece();
      }
    } catch {
      // Stopped: what was shown stays.
    }
    lane.showRate(rateOf(this.#first));
  }

  #judge(second) {
    const lines = [];
    const common = commonLength(this.#first.text, second.text);
    const isShort = second.failure !== null;
    if (isShort) lines.push(whyUnfinished(second));
    else lines.push(speedInWords(this.#first, second));
    const isSame = isShort ? common === second.text.length : this.#first.text === second.text;
    lines.push(isSame ? sameInWords(second.text, isShort) : differsInWords(second.text.slice(0, common), second.body.seed));
    this.#say(lines, isSame ? "same" : "differs");
  }

  #say(lines, name) {
    this.#verdict.className = `verdict ${name}`.trim();
    this.#verdict.replaceChildren(...lines.map((line) => make("p", {}, line)));
  }
}

function commonLength(one, other) {
  let length = 0;
  while (length < one.length && length < other.length && one[length] === other[length]) length += 1;
  return length;
}

function speedInWords(first, second) {
  const [off, on] = first.body.draft === "off" ? [first, second] : [second, first];
  const [onRate, offRate] = [rateOf(on), rateOf(off)];
  const rates = `Speculation on: ${figure(onRate)} tokens per second; off: ${figure(offRate)}.`;
  return onRate && offRate ? `${rates} Ratio ${figure(onRate / offRate, 2)}.` : rates;
}

function sameInWords(text, isShort) {
  if (isShort) return `The ${numCharacters(text)} characters so far are the same.`;
  return `The texts are the same, character for character (${numCharacters(text)} characters).`;
}

// A string's own length counts some characters twice.
const numCharacters = (text) => [...text].length;

function differsInWords(common, seed) {
  return (
    `The texts differ from character ${numCharacters(common) + 1} on. This must not happen: ` +
    `please report it with the model, the question and seed ${seed}.`
  );
}
