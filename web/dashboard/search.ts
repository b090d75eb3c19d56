// Looks for an event that the page does not hold, and says what becomes of it.
import type { Event } from "../client/wire.ts";
import { byId, setText } from "./element.ts";
import type { Past } from "./past.ts";

const LOOKING = "Looking for that event…";

export class Search {
  readonly #past: Past;
  /** Which event is looked for: what somebody has asked for since is another. */
  #sought = {};

  constructor(past: Past) {
    this.#past = past;
  }

  /** Nothing is wanted any more; what there is to say instead. */
  stop(sentence = ""): void {
    this.#sought = {};
    this.#say(sentence);
  }

  /** Null where it is not wanted any more, or not to be had: that is said. */
  async find(id: string): Promise<Event | null> {
    const own = (this.#sought = {});
    const isWanted = (): boolean => own === this.#sought;
    this.#say(LOOKING);
    try {
      const onWait = (why: string): void => this.#say(`${LOOKING} ${why}. It is tried again.`);
      const event = await this.#past.insist(() => this.#past.event(id), { isWanted, onWait });
      if (!isWanted() || event === undefined) return null;
      this.#say(event === null ? `Event ${id} is not in the log any more.` : "");
      return event;
    } catch (error) {
      if (isWanted()) this.#say(`Event ${id} cannot be read: ${(error as Error).message}.`);
      return null;
    }
  }

  #say(sentence: string): void {
    setText(byId("notice"), sentence);
  }
}
