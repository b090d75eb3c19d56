// Plays the past on this page: fetches what `Replay` wants, gives it the clock, and tells what is to be seen.
import type { Event } from "../client/wire.ts";
import { Replay } from "../time/replay.ts";
import type { Past } from "./past.ts";

const TICK_MS = 33;

export interface PlayerEvents {
  /** These have been played, in order. */
  readonly onPlayed: (events: readonly Event[]) => void;
  /** Another place: nothing of what was shown is to be kept. */
  readonly onJump: () => void;
  readonly onChange: () => void;
  /** The present has been reached. */
  readonly onEnd: () => void;
  readonly onProblem: (message: string) => void;
}

export class Player {
  /** Null while the present is shown. */
  replay: Replay | null = null;
  speed = 1;
  readonly #past: Past;
  readonly #on: PlayerEvents;
  #next: string | null = null;
  #fromMs = 0;
  #isFetching = false;
  #timer: ReturnType<typeof setInterval> | undefined;

  constructor(past: Past, on: PlayerEvents) {
    this.#past = past;
    this.#on = on;
  }

  /** To the state of the mind at a time, in place of whatever is shown; goes on by itself if `plays`. */
  async goTo(atMs: number, plays: boolean): Promise<void> {
    if (this.replay?.seek(atMs)) {
      if (plays) this.replay.play();
      else this.replay.pause();
      this.#jumped();
      return;
    }
    const asked = (this.#fromMs = atMs);
    try {
      const { events, begin } = await this.#past.before(atMs);
      // Somebody has gone elsewhere meanwhile.
      if (asked !== this.#fromMs) return;
      this.replay = new Replay(events, begin);
      this.replay.setSpeed(this.speed, performance.now());
      if (!plays) this.replay.pause();
      this.#next = null;
      this.#isFetching = false;
      await this.#fetch();
    } catch (error) {
      this.#on.onProblem(error instanceof Error ? error.message : String(error));
      return;
    }
    this.#timer ??= setInterval(() => this.#tick(), TICK_MS);
    this.#jumped();
  }

  /** Back to the present. */
  leave(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.replay = null;
    this.#fromMs = Number.NaN;
    this.#on.onChange();
  }

  toggle(): void {
    if (this.replay?.status === "paused") this.replay.play();
    else this.replay?.pause();
    this.#on.onChange();
  }

  setSpeed(speed: number): void {
    this.speed = speed;
    this.replay?.setSpeed(speed, performance.now());
    this.#on.onChange();
  }

  step(by: 1 | -1): void {
    if (this.replay === null) return;
    if (by > 0) {
      const event = this.replay.stepForward();
      if (event !== null) this.#on.onPlayed([event]);
    } else if (this.replay.stepBack()) this.#on.onJump();
    this.#on.onChange();
  }

  stepCycle(by: 1 | -1): void {
    if (this.replay?.stepCycle(by)) this.#on.onJump();
    this.#on.onChange();
  }

  #jumped(): void {
    this.#on.onJump();
    this.#on.onChange();
  }

  #tick(): void {
    const { replay } = this;
    if (replay === null || document.hidden) return;
    const due = replay.tick(performance.now());
    if (due.length > 0) this.#on.onPlayed(due);
    if (replay.wantsMore) void this.#fetch().catch((error: unknown) => this.#on.onProblem(String(error)));
    if (replay.status === "ended") this.#on.onEnd();
  }

  async #fetch(): Promise<void> {
    const { replay } = this;
    if (replay === null || this.#isFetching) return;
    this.#isFetching = true;
    try {
      const { events, next } = await this.#past.from(this.#fromMs, this.#next);
      if (replay !== this.replay) return;
      replay.load(events, next === null);
      this.#next = next;
    } finally {
      if (replay === this.replay) this.#isFetching = false;
    }
  }
}
