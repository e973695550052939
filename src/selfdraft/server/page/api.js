/** The server's API: keys, errors, retries while it loads, and the stream of an answer. */

import { readEvents } from "./sse.js";

const KEY_NAME = "selfdraft-api-key";
const USUAL_WAIT_SECONDS = 2;
const LONGEST_WAIT_SECONDS = 15;

/** What the server, or the way to it, answered instead of what was asked for. */
export class ApiError extends Error {
  /** `status` is 0 if there was no whole answer; `param` names the field that is wrong. */
  constructor(message, { status = 0, param = null, retryAfter = null } = {}) {
    super(message);
    this.status = status;
    this.param = param;
    this.retryAfter = retryAfter;
  }
}

export class Api {
  #askForKey;
  #model = null;

  /** `askForKey(wasWrong)` gives a key, or null if the user has none. */
  constructor(askForKey) {
    this.#askForKey = askForKey;
  }

  /** GET as JSON. Asks for a key only if it may: what runs by itself must not interrupt. */
  async get(path, { signal, mayAsk = false } = {}) {
    const response = await this.#send(path, { signal }, { mayAsk });
    if (!response.ok) throw await errorOf(response);
    return response.json();
  }

  /**
   * Yield the chunks of a chat completion. While the server loads, waits and says so with `onWait`;
   * `onSend` is called whenever the request goes out.
   */
  async *chat(body, { signal, onWait, onSend }) {
    const response = await this.#patiently(signal, onWait, async () => {
      this.#model ??= (await this.get("v1/models", { signal, mayAsk: true })).data[0].id;
      return this.#post("v1/chat/completions", { model: this.#model, ...body }, { signal, onSend });
    });
    let isFinished = false;
    try {
      for await (const data of readEvents(response.body)) {
        if (data === "[DONE]") return;
        const chunk = JSON.parse(data);
        if (chunk.error) throw new ApiError(chunk.error.message, { status: chunk.error.status ?? 500 });
        isFinished ||= Boolean(chunk.choices?.[0]?.finish_reason);
        yield chunk;
      }
    } catch (error) {
      if (error instanceof ApiError || signal.aborted) throw error;
      throw new ApiError("the connection was lost");
    }
    if (!isFinished) throw new ApiError("the connection was lost");
  }

  /** Try again for as long as the server says that it is not ready. */
  async #patiently(signal, onWait, attempt) {
    for (;;) {
      try {
        return await attempt();
      } catch (error) {
        if (error.status !== 503) throw error;
        const seconds = Math.min(error.retryAfter ?? USUAL_WAIT_SECONDS, LONGEST_WAIT_SECONDS);
        onWait(seconds, error.message);
        await sleep(seconds * 1000, signal);
      }
    }
  }

  async #post(path, body, { signal, onSend }) {
    const init = {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
      signal,
    };
    const response = await this.#send(path, init, { mayAsk: true, onSend });
    if (!response.ok) throw await errorOf(response);
    return response;
  }

  async #send(path, init, { mayAsk, onSend }) {
    for (;;) {
      onSend?.();
      const key = sessionStorage.getItem(KEY_NAME);
      const response = await reach(path, init, key);
      if (response.status !== 401) return response;
      if (sessionStorage.getItem(KEY_NAME) !== key) continue; // given meanwhile, to another request
      const given = mayAsk ? await this.#askForKey(key !== null) : null;
      if (given === null) throw await errorOf(response);
      sessionStorage.setItem(KEY_NAME, given);
    }
  }
}

async function reach(path, init, key) {
  const headers = { ...init.headers };
  if (key !== null) headers.Authorization = `Bearer ${key}`;
  try {
    return await fetch(path, { ...init, headers });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new ApiError("the server cannot be reached");
  }
}

/** The error that a response tells, in OpenAI's shape or not. */
async function errorOf(response) {
  const retryAfter = Number.parseFloat(response.headers.get("Retry-After"));
  const details = {
    status: response.status,
    retryAfter: Number.isFinite(retryAfter) ? retryAfter : null,
  };
  try {
    const { error } = await response.json();
    return new ApiError(error.message, { ...details, param: error.param ?? null });
  } catch {
    return new ApiError(response.statusText || `status ${response.status}`, details);
  }
}

/** Wait, or fail at once when the signal says stop. */
export function sleep(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve();
    }, milliseconds);
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop, { once: true });
  });
}
