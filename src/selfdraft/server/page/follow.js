/** A box that stays at its end while it grows, unless its reader has scrolled up. */

const AT_END_PX = 32;

export class Follow {
  #box;
  #isAtEnd = true;
  #isPlanned = false;
  #lastTop = 0;

  constructor(box) {
    this.#box = box;
    box.addEventListener("scroll", () => {
      // The box may have grown since it was sent to its end: only who goes up wants to stay there.
      if (box.scrollHeight - box.scrollTop - box.clientHeight < AT_END_PX) this.#isAtEnd = true;
      else if (box.scrollTop < this.#lastTop) this.#isAtEnd = false;
      this.#lastTop = box.scrollTop;
    });
    new ResizeObserver(() => this.grown()).observe(box); // as when the panel opens below it
  }

  /** The box has grown, or shows less than before. */
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
