/** What the user has set, as fields of a request. */

import { byId } from "./dom.js";

const DRAFTS = ["auto", "swift", "suffix", "recycling"];

let draftOfServer = "auto";

/** Take the server's own draft for speculation; one that has no name in the API, or off, is auto. */
export function useDraft(draft) {
  draftOfServer = DRAFTS.includes(draft) ? draft : "auto";
}

/** The draft of a request with speculation, or without. */
export const draftFor = (isOn) => (isOn ? draftOfServer : "off");

/** Whether the settings can be sent; if not, the browser shows what is wrong. */
export function areSettingsValid() {
  return byId("settings").checkValidity();
}

/** The fields of a request. Without a seed one is drawn, so that the answer can be had again. */
export function requestFields() {
  const seed = byId("seed").value;
  return {
    temperature: Number(byId("temperature").value),
    max_tokens: Number(byId("max-tokens").value),
    seed: seed === "" ? drawSeed() : Number(seed),
    draft: draftFor(byId("speculation").checked),
    stream: true,
    stream_options: { include_usage: true, include_sources: true },
  };
}

/** The messages: what was said so far, and the question. A question without an answer is left out. */
export function messagesFor(turns, question) {
  const system = byId("system").value.trim();
  const messages = system === "" ? [] : [{ role: "system", content: system }];
  for (const turn of turns) {
    if (!turn.outcome?.text) continue;
    messages.push({ role: "user", content: turn.question });
    messages.push({ role: "assistant", content: turn.outcome.text });
  }
  return [...messages, { role: "user", content: question }];
}

function drawSeed() {
  return crypto.getRandomValues(new Uint32Array(1))[0] >>> 1;
}
