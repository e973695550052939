/** Asks for the API key. */

import { byId, setText } from "./dom.js";

const WANTED = "This server answers only with its key. It is kept until this tab is closed.";
const WRONG = "The server did not accept this key. Check it and enter it again.";

export class KeyDialog {
  #dialog = byId("key-dialog");
  #field = byId("key");
  #asked = null;

  constructor() {
    byId("key-cancel").addEventListener("click", () => this.#dialog.close(""));
    byId("key-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#dialog.close(this.#field.value.trim());
    });
  }

  /** The key, or null if the user has none. Who asks meanwhile gets the same answer. */
  ask(wasWrong) {
    this.#asked ??= this.#open(wasWrong).finally(() => {
      this.#asked = null;
    });
    return this.#asked;
  }

  #open(wasWrong) {
    setText(byId("key-words"), wasWrong ? WRONG : WANTED);
    this.#field.value = "";
    this.#dialog.returnValue = "";
    return new Promise((resolve) => {
      const closed = () => resolve(this.#dialog.returnValue || null);
      this.#dialog.addEventListener("close", closed, { once: true });
      this.#dialog.showModal();
    });
  }
}
