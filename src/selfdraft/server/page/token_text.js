/** Text that grows token by token, each piece marked with who named it. */

import { make } from "./dom.js";
import { titleOf } from "./sources.js";

// The browser lays a whole block out again when it grows: a long text is several blocks.
const PIECES_PER_BLOCK = 200;

export class TokenText {
  #block = null;
  #numPieces = 0;
  #last = "target";

  constructor() {
    this.text = "";
    this.element = make("div", { class: "text" });
  }

  /**
   * Add a piece of text and who named its tokens, which may be none.
   *
   * A piece is nearly always one token. The borders inside a longer one are not known, so it is
   * marked by its last token, the one that completed it, and its title names them all.
   */
  append(text, sources) {
    this.#last = sources.at(-1) ?? this.#last; // text without a token was held back by the last one
    if (text === "") return;
    const title = titleOf(sources.length > 0 ? sources : [this.#last]);
    const span = make("span", { class: `token from-${this.#last}`, title }, text);
    this.#blockToGrow().append(span);
    this.text += text;
  }

  #blockToGrow() {
    if (this.#block === null || (this.#numPieces >= PIECES_PER_BLOCK && this.text.endsWith("\n"))) {
      this.#block = make("div", { class: "block" });
      this.#numPieces = 0;
      this.element.append(this.#block);
    }
    this.#numPieces += 1;
    return this.#block;
  }
}
