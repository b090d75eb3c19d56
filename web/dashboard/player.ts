// Plays the past on this page: fetches what `Replay` wants, gives it the clock, and tells what is to be seen.
import type { Event } from "../client/wire.ts";
import { type Cut, cutAt, cutBehind } from "../time/cut.ts";
import { Replay } from "../time/replay.ts";
import type { Place } from "./address.ts";
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
  /** The newest event of the present; null where there is none. */
  readonly newest: () => Event | null;
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

  /** Where the replay stands still, and its speed; null while it does not. */
  get place(): Place | null {
    const { replay, speed } = this;
    return replay?.status === "paused" && replay.atMs !== null ? { atMs: replay.atMs, speed } : null;
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
      if (this.replay?.stepCycle(by) || (await this.#openCycle(by)) !== null) this.#on.onJump();
    });
  }

  /** To where the cycle that one stands in is over, so that the whole of it is there. */
  finishCycle(): Promise<void> {
    return this.#stepping(async () => {
      const start = this.replay?.startBeside(-1);
      if (start !== undefined && (await this.#openEnd(async () => start)) !== null) this.#on.onJump();
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
    return newest === null ? null : this.#open(cutBehind(idBefore(newest.id)), false);
  }

  /** The neighbouring cycle, where that is not loaded; null where there is none. */
  async #openCycle(by: 1 | -1): Promise<Replay | null> {
    const find = (): Promise<Event | null> => (by < 0 ? this.#startBefore() : this.#startBehind());
    return this.#openEnd(find, `The log has no cycle ${by < 0 ? "before" : "behind"} this one.`);
  }

  /** Where a cycle is over; that of the newest one is the present. Null where there is no such replay. */
  async #openEnd(find: () => Promise<Event | null>, ifNone = ""): Promise<Replay | null> {
    const wanted = this.#wanted;
    const ask = async (): Promise<{ readonly end: Cut | null } | null> => {
      const start = await find();
      return start === null ? null : { end: await this.#past.cycleEnd(start) };
    };
    const found = await this.#ask(ask, () => wanted === this.#wanted);
    if (found === null) this.#on.onSay(ifNone);
    else if (found?.end === null) this.#on.onEnd();
    return found?.end == null ? null : this.#open(found.end, false);
  }

  /** Where the last cycle before that which is shown begins. */
  async #startBefore(): Promise<Event | null> {
    const { replay } = this;
    if (replay !== null && !replay.goesFartherBack) return null;
    const edge = replay === null ? this.#on.newest() : (replay.startBeside(-1) ?? replay.ends.first ?? null);
    if (edge === null) return null;
    const own = edge.type === "cycle.start" ? edge : await this.#past.cycleStart(-1, edge);
    return own === null ? null : this.#past.cycleStart(-1, own);
  }

  /** Where the first cycle behind that which is shown begins. */
  async #startBehind(): Promise<Event | null> {
    const loaded = this.replay?.startBeside(1);
    const last = this.replay?.ends.last;
    return loaded ?? (last === undefined ? null : this.#past.cycleStart(1, last));
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
