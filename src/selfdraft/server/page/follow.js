/** A box that stays at its end while it grows, unless its reader has scrolled up. */

const AT_END_PX = 32;

export class Follow {
  #box;
  #isAtEnd = true;
  #isPlanned = false;

  constructor(box) {
    this.#box = box;
    box.addEventListener("scroll", () => {
      this.#isAtEnd = box.scrollHeight - box.scrollTop - box.clientHeight < AT_END_PX;
    });
  }

  /** The box has grown. */
  grown() {
    if (this.#isAtEnd) this.toEnd();
  }

  /** Go to the end, at most once a frame, and stay there. */
  toEnd() {
    this.#isAtEnd = true;
    if (this.#isPlanned) return;
    this.#isPlanned = true;
    requestAnimationFrame(() => {
      this.#isPlanned = false;
      if (this.#isAtEnd) this.#box.scrollTop = this.#box.scrollHeight;
    });
  }
}
