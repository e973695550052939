/** Asks the server again and again how its draft stands: often while an answer is written. */

const BUSY_MS = 500;
const IDLE_MS = 5000;
const LINGER_MS = 3000;

export class DraftPoll {
  #api;
  #onState;
  #onProblem;
  #mayAsk = true;
  #busyUntil = 0;
  #wake = () => {};

  /** `onState` gets what GET /v1/draft answers, `onProblem` the error if it does not. */
  constructor(api, { onState, onProblem }) {
    this.#api = api;
    this.#onState = onState;
    this.#onProblem = onProblem;
  }

  /** Ask from now on. Only the first time a missing key is asked for. */
  async start() {
    for (;;) {
      if (!document.hidden) await this.#look();
      await this.#pause();
    }
  }

  /** An answer is being written. */
  begin() {
    this.#busyUntil = Infinity;
    this.#wake();
  }

  /** No answer is being written any more. */
  end() {
    this.#busyUntil = performance.now() + LINGER_MS;
  }

  /** The user wants to enter a key. */
  askForKey() {
    this.#mayAsk = true;
    this.#wake();
  }

  async #look() {
    const mayAsk = this.#mayAsk;
    this.#mayAsk = false;
    try {
      this.#onState(await this.#api.get("v1/draft", { mayAsk }));
    } catch (error) {
      if (error.status === 503 || error.status === 0) this.#mayAsk = mayAsk;
      if (error.status === 503) this.#busyUntil = Math.max(this.#busyUntil, performance.now() + LINGER_MS);
      this.#onProblem(error);
    }
  }

  #pause() {
    const milliseconds = performance.now() < this.#busyUntil ? BUSY_MS : IDLE_MS;
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
