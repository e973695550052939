/** The page: a conversation with the loaded model, and why its answers come fast. */

import { AnswerView, QuestionView, whyUnfinished } from "./answer.js";
import { Api } from "./api.js";
import { copyText } from "./clipboard.js";
import { Comparison } from "./comparison.js";
import { byId, setText } from "./dom.js";
import { DraftPoll } from "./draft_poll.js";
import { Follow } from "./follow.js";
import { KeyDialog } from "./key_dialog.js";
import { LayerMap } from "./layer_map.js";
import { areSettingsValid, messagesFor, requestFields, useDraft } from "./settings.js";
import { SpeedPanel } from "./speed_panel.js";
import { Tally } from "./tally.js";
import { explainWait } from "./words.js";
import { write } from "./writer.js";

// Numbers that change more often cannot be read.
const REFRESH_MS = 250;

class Page {
  #turns = [];
  #controller = null; // of the answer that is being written
  #keys = new KeyDialog();
  #api = new Api((wasWrong) => {
    setText(byId("server-state"), PROBLEMS[401]);
    return this.#keys.ask(wasWrong);
  });
  #speed = new SpeedPanel();
  #map = new LayerMap();
  #log = new Follow(byId("log"));
  #poll = new DraftPoll(this.#api, {
    onState: (state) => this.#showDraft(state),
    onProblem: (error) => showProblem(error),
  });
  #isFirstState = true;

  start() {
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    byId("question").addEventListener("keydown", sendOnEnter);
    byId("stop").addEventListener("click", () => this.#stop());
    byId("new").addEventListener("click", () => this.#startAgain());
    byId("compare").addEventListener("click", () => this.#compare());
    byId("enter-key").addEventListener("click", () => this.#poll.askForKey());
    byId("panel-toggle").addEventListener("click", () => openPanel(!isPanelOpen()));
    byId("hide-colours").addEventListener("change", (event) => {
      document.body.classList.toggle("plain", event.target.checked);
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !byId("key-dialog").open) this.#stop();
    });
    byId("question").focus();
    this.#poll.start();
  }

  #send() {
    const field = byId("question");
    if (this.#controller !== null || field.value.trim() === "") return;
    if (!areSettingsShownValid()) return;
    const view = new QuestionView(field.value);
    const turn = { question: field.value, view, answer: null, outcome: null };
    field.value = "";
    this.#turns.at(-1)?.answer.settle();
    this.#turns.push(turn);
    byId("welcome").hidden = true;
    byId("turns").append(view.element);
    this.#answer(turn);
  }

  async #answer(turn) {
    const earlier = this.#turns.slice(0, this.#turns.indexOf(turn));
    const body = { messages: messagesFor(earlier, turn.question), ...requestFields() };
    const answer = new AnswerView();
    turn.answer?.element.remove();
    turn.answer = answer;
    turn.outcome = null;
    turn.view.element.append(answer.element);
    this.#log.toEnd();
    await this.#whileWriting(answer, async (signal, tally) => {
      turn.outcome = await write(this.#api, body, {
        signal,
        tally,
        onPiece: (text, sources) => {
          answer.append(text, sources);
          this.#log.grown();
        },
        onWait: (seconds, message) => answer.wait(explainWait(seconds, message)),
      });
      answer.finish(turn.outcome, {
        onCopy: (button) => copyText(turn.outcome.text, button),
        onRetry: () => this.#retry(turn),
      });
      const end = turn.outcome.failure === null ? "Answer finished." : whyUnfinished(turn.outcome);
      return { outcome: turn.outcome, words: `${end} ${turn.outcome.text}` };
    });
  }

  #retry(turn) {
    if (this.#controller === null && areSettingsShownValid()) this.#answer(turn);
  }

  async #compare() {
    const turn = this.#turns.at(-1);
    if (this.#controller !== null || !isWhole(turn)) return;
    const comparison = new Comparison(turn.outcome);
    turn.view.element.querySelector(".comparison")?.remove();
    turn.view.element.append(comparison.element);
    this.#log.toEnd();
    await this.#whileWriting(null, async (signal, tally) => {
      const onPiece = () => this.#log.grown();
      const second = await comparison.run(this.#api, { signal, tally, onPiece });
      this.#speed.showFinal(second);
      // The panel goes on with the text that was drafted, now against vanilla as measured.
      const outcome = second.body.draft === "off" ? turn.outcome : second;
      return { outcome, words: comparison.words };
    });
  }

  /** Do `work`, which gives the outcome and the words for it, with all of the page in that state. */
  async #whileWriting(answer, work) {
    const controller = new AbortController();
    const tally = new Tally();
    const startedAt = performance.now();
    this.#controller = controller;
    this.#showBusy(true);
    this.#poll.begin();
    const refresh = () => {
      answer?.count(tally);
      this.#speed.showLive(tally, startedAt);
    };
    refresh();
    const timer = setInterval(refresh, REFRESH_MS);
    const { outcome, words } = await work(controller.signal, tally);
    clearInterval(timer);
    if (this.#controller !== controller) return; // a new conversation has begun meanwhile
    this.#controller = null;
    this.#speed.showFinal(outcome);
    this.#poll.end();
    this.#showBusy(false);
    this.#log.grown();
    setText(byId("announcer"), words);
  }

  #stop() {
    this.#controller?.abort();
  }

  #startAgain() {
    this.#stop();
    this.#controller = null;
    this.#turns = [];
    byId("turns").replaceChildren();
    byId("welcome").hidden = false;
    this.#poll.end();
    this.#showBusy(false);
    setText(byId("announcer"), "New conversation.");
    byId("question").focus();
  }

  #showBusy(isBusy) {
    const focused = document.activeElement;
    byId("stop").disabled = !isBusy;
    // A disabled button, or one that is gone, would keep the keyboard.
    if (isBusy && focused !== byId("question")) byId("stop").focus();
    if (!isBusy && focused === byId("stop")) byId("question").focus();
    byId("send").disabled = isBusy;
    byId("compare").disabled = isBusy || !isWhole(this.#turns.at(-1));
  }

  #showDraft(state) {
    if (this.#isFirstState) byId("speculation").checked = state.draft !== "off";
    this.#isFirstState = false;
    useDraft(state.draft);
    setText(byId("model"), state.model);
    setText(byId("server-state"), "ready");
    byId("enter-key").hidden = true;
    document.title = `${state.model} \u2013 selfdraft`;
    this.#speed.predict(state.vanilla_tokens_per_second);
    this.#map.show(state);
  }
}

const isWhole = (turn) => turn?.outcome?.failure === null && turn.outcome.text !== "";

function sendOnEnter(event) {
  // While a character is being composed, Enter chooses it.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  event.target.form.requestSubmit();
}

/** Whether the settings can be sent; what is wrong is shown, in the panel if need be. */
function areSettingsShownValid() {
  const isValid = areSettingsValid();
  if (!isValid) {
    openPanel(true);
    byId("settings").reportValidity();
  }
  return isValid;
}

const isPanelOpen = () => byId("panel").classList.contains("open");

/** On a narrow screen the panel is opened and closed; on a wide one it is always there. */
function openPanel(isOpen) {
  byId("panel").classList.toggle("open", isOpen);
  byId("panel-toggle").setAttribute("aria-expanded", String(isOpen));
  if (isOpen) byId("panel").scrollIntoView({ block: "nearest" });
}

const PROBLEMS = { 0: "not reachable", 401: "needs its API key", 503: "loading the model" };

function showProblem(error) {
  setText(byId("server-state"), PROBLEMS[error.status] ?? `failing (${error.message})`);
  byId("enter-key").hidden = error.status !== 401;
}

new Page().start();
