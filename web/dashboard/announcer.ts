// Tells screen readers what goes on: a polite sentence, at most every 5 seconds. The list itself is too fast for that.
import { byId, setText } from "./element.ts";
import type { Store } from "./store.ts";

const INTERVAL_MS = 5_000;
const ALERT_INTERVAL_MS = 10_000;

export class Announcer {
  readonly #status = byId("announcement");
  #saidMs = 0;
  #seen = 0;
  #errors = 0;
  #word = "";
  readonly #alert = byId("alert");
  #alertedMs = 0;

  /** Errors are said at once, but not one after the other. */
  alert(source: string, message: string, nowMs: number): void {
    if (nowMs - this.#alertedMs < ALERT_INTERVAL_MS) return;
    this.#alertedMs = nowMs;
    setText(this.#alert, `Error: ${[source, message].filter((part) => part !== "").join(": ")}`);
  }

  say(word: string, store: Store, nowMs: number): void {
    if (nowMs - this.#saidMs < INTERVAL_MS) return;
    const sentence = summary({
      word: word === this.#word ? "" : word,
      events: store.seen - this.#seen,
      errors: store.errors - this.#errors,
      cycle: store.cycle,
    });
    if (sentence === "") return;
    setText(this.#status, sentence);
    this.#saidMs = nowMs;
    this.#word = word;
    this.#seen = store.seen;
    this.#errors = store.errors;
  }
}

export function summary(news: { word: string; events: number; errors: number; cycle: unknown }): string {
  const parts = [news.word];
  if (news.events > 0) parts.push(`${news.events} new ${news.events === 1 ? "event" : "events"}`);
  if (news.errors > 0) parts.push(`${news.errors} ${news.errors === 1 ? "error" : "errors"}`);
  if (news.events > 0 && typeof news.cycle === "number") parts.push(`cycle ${news.cycle}`);
  return parts.filter((part) => part !== "").join(", ");
}
