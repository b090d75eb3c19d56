// Plays the past on this page: fetches what `Replay` wants, gives it the clock, and tells what is to be seen.
import type { Event } from "../client/wire.ts";
import { type Cut, cutAt, cutBehind } from "../time/cut.ts";
import { Replay } from "../time/replay.ts";
import { idBefore } from "./links.ts";
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
  /** What hinders, as a sentence; empty where nothing does any more. */
  readonly onSay: (sentence: string) => void;
  /** The id of the newest event of the present; null where there is none. */
  readonly newest: () => string | null;
}

export class Player {
  /** Null while the present is shown. */
  replay: Replay | null = null;
  speed = 1;
  readonly #past: Past;
  readonly #on: PlayerEvents;
  /** Where one wants to be; null in the present. */
  #wanted: Cut | null = null;
  /** Where the replay was begun, and how far behind that it was fetched. */
  #begun: Cut = cutAt(0);
  #next: string | null = null;
  #isFetching = false;
  #isStepping = false;
  #timer: ReturnType<typeof setInterval> | undefined;

  constructor(past: Past, on: PlayerEvents) {
    this.#past = past;
    this.#on = on;
  }

  /** To the state of the mind at a time, in place of whatever is shown; goes on by itself if `plays`. */
  async goTo(atMs: number, plays: boolean): Promise<void> {
    this.#isStepping = false;
    if (this.replay?.seek(atMs)) {
      this.#wanted = this.#begun;
      if (plays) this.replay.play();
      else this.replay.pause();
      this.#jumped();
    } else if ((await this.#open(cutAt(atMs), plays)) !== null) this.#jumped();
  }

  /** Back to the present. */
  leave(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.replay = null;
    this.#wanted = null;
    this.#isStepping = false;
    this.#on.onSay("");
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

  /** By one event; back also from the present, and beyond what is loaded. */
  step(by: 1 | -1): Promise<void> {
    return this.#stepping(async () => {
      const { replay } = this;
      if (by > 0) {
        const event = replay?.stepForward() ?? null;
        if (event !== null) this.#on.onPlayed([event]);
      } else if (replay?.stepBack() || (await this.#openEarlier(replay))) this.#on.onJump();
    });
  }

  /** By one cycle, likewise. */
  stepCycle(by: 1 | -1): Promise<void> {
    return this.#stepping(async () => {
      const replay = this.replay ?? (by < 0 ? await this.#openEarlier(null) : null);
      if (replay?.stepCycle(by) || (replay !== null && (await this.#openCycle(replay, by)))) this.#on.onJump();
    });
  }

  /** One step at a time: the next is from where it leads. */
  async #stepping(step: () => Promise<void>): Promise<void> {
    if (this.#isStepping) return;
    this.#isStepping = true;
    try {
      await step();
    } finally {
      this.#isStepping = false;
    }
    this.#on.onChange();
  }

  /** Before all that is loaded, or before the newest event of the present; null where nothing is. */
  async #openEarlier(replay: Replay | null): Promise<Replay | null> {
    if (replay !== null) {
      const { first } = replay.ends;
      return first === undefined || !replay.goesFartherBack ? null : this.#open(cutBehind(idBefore(first.id)), false);
    }
    const newest = this.#on.newest();
    return newest === null ? null : this.#open(cutBehind(idBefore(newest)), false);
  }

  /** The nearest cycle that is not loaded; null where there is none. */
  async #openCycle(replay: Replay, by: 1 | -1): Promise<Replay | null> {
    const { first, last } = replay.ends;
    const from = by < 0 ? first : last;
    if (from === undefined || !(by < 0 ? replay.goesFartherBack : replay.goesFartherOn)) return null;
    const wanted = this.#wanted;
    const start = await this.#ask(() => this.#past.cycleStart(by, from), () => wanted === this.#wanted);
    if (start === null) this.#on.onSay(`The log has no cycle ${by < 0 ? "before" : "behind"} this one.`);
    return start == null ? null : this.#open(cutBehind(start.id), false);
  }

  /** Another replay, which stands at a cut; null where somebody has gone elsewhere meanwhile, or it is not to be had. */
  async #open(cut: Cut, plays: boolean): Promise<Replay | null> {
    this.#wanted = cut;
    const both = (): Promise<[Awaited<ReturnType<Past["before"]>>, Awaited<ReturnType<Past["behind"]>>]> =>
      Promise.all([this.#past.before(cut), this.#past.behind(cut, null)]);
    const found = await this.#ask(both, () => cut === this.#wanted);
    if (found === undefined) return null;
    const [{ events, begin, isFirst }, page] = found;
    const replay = new Replay(events, begin, { isFirst });
    replay.setSpeed(this.speed, performance.now());
    if (!plays) replay.pause();
    replay.load(page.events, page.next === null);
    [this.replay, this.#begun, this.#next, this.#isFetching] = [replay, cut, page.next, false];
    this.#timer ??= setInterval(() => this.#tick(), TICK_MS);
    return replay;
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
    if (replay.wantsMore && !this.#isFetching) void this.#fetch(replay);
    if (replay.status === "ended") this.#on.onEnd();
  }

  async #fetch(replay: Replay): Promise<void> {
    this.#isFetching = true;
    const page = await this.#ask(() => this.#past.behind(this.#begun, this.#next), () => replay === this.replay);
    // What is refused is not asked for again: then the replay stands where it is.
    if (page === undefined || replay !== this.replay) return;
    replay.load(page.events, page.next === null);
    this.#next = page.next;
    this.#isFetching = false;
  }

  /** Asks until it is answered, and says so; undefined where it is not wanted any more, or refused. */
  async #ask<T>(ask: () => Promise<T>, isWanted: () => boolean): Promise<T | undefined> {
    try {
      const onWait = (why: string): void => this.#on.onSay(`The past cannot be read now: ${why}. It is tried again.`);
      const answer = await this.#past.insist(ask, { isWanted, onWait });
      if (isWanted()) this.#on.onSay("");
      return isWanted() ? answer : undefined;
    } catch (error) {
      if (isWanted()) this.#on.onSay(`The past cannot be read: ${(error as Error).message}.`);
      return undefined;
    }
  }
}
