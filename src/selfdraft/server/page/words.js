/** Errors in words: what happened, and what to do. Numbers as people read them. */

import { ApiError } from "./api.js";

/** A sentence or two about why an answer was not finished. */
export function explain(error) {
  if (!(error instanceof ApiError)) return `This page failed: ${error.message}. Reload it.`;
  const said = sentence(error.message);
  switch (error.status) {
    case 0:
      return `${said} Check that the server still runs, then try again.`;
    case 400:
    case 422:
      return `The server refused the request. ${said} ${remedyFor(error.param)}`;
    case 401:
    case 403:
      return "The server wants its API key. Press Try again to enter it.";
    case 413:
      return "The conversation is too long for this server. Start a new conversation.";
    case 429:
      return `The server is busy: its queue is full. ${whenAgain(error.retryAfter)}`;
    default:
      return `The server failed. ${said} Try again; if it fails again, its log says why.`;
  }
}

/** Words while the server is not ready. */
export function explainWait(seconds, message) {
  return `The server is not ready. ${sentence(message)} Trying again in ${seconds} s. Escape stops.`;
}

/** A number with so many digits after the point, or a dash. */
export function figure(number, digits = 1) {
  return Number.isFinite(number) ? number.toFixed(digits) : "\u2013";
}

/** A share of one as a percentage, or a dash. */
export function percent(share) {
  return Number.isFinite(share) ? `${Math.round(share * 100)} %` : "\u2013";
}

const FIELDS = {
  temperature: "the temperature",
  max_tokens: "the number of max tokens",
  seed: "the seed",
  messages: "the message, or start a new conversation",
};

function remedyFor(param) {
  const name = param?.split(/[.[]/)[0];
  return `Change ${FIELDS[name] ?? name ?? "the settings"} and try again.`;
}

function whenAgain(seconds) {
  return seconds ? `Try again in ${Math.ceil(seconds)} s.` : "Try again in a moment.";
}

function sentence(message) {
  const text = message.trim();
  const start = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(start) ? start : `${start}.`;
}
