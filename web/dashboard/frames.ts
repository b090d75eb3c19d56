// When the page is drawn: by the very next frame for what the reader does, at most thirty times a second for what
// arrives, and never while nobody sees it.

// Nobody reads more than thirty new lists a second.
const PACE_MS = 33;

export class Frames {
  readonly #draw: (nowMs: number) => void;
  #isScheduled = false;
  #isPaced = false;
  #drawnMs = 0;

  constructor(draw: (nowMs: number) => void) {
    this.#draw = draw;
  }

  next(): void {
    // When it is seen again, everything is drawn, once.
    if (this.#isScheduled || document.hidden) return;
    this.#isScheduled = true;
    requestAnimationFrame(() => {
      this.#isScheduled = false;
      this.#drawnMs = Date.now();
      this.#draw(this.#drawnMs);
    });
  }

  soon(): void {
    if (this.#isScheduled || this.#isPaced) return;
    const waitMs = this.#drawnMs + PACE_MS - Date.now();
    if (waitMs <= 0) {
      this.next();
      return;
    }
    this.#isPaced = true;
    setTimeout(() => {
      this.#isPaced = false;
      this.next();
    }, waitMs);
  }
}
