// Which of the page's states it is, in words. Pure: the table of what the connection bar may say.
import type { State } from "../client/client.ts";
import { ago, clockTime } from "./time.ts";

export const QUIET_MS = 10_000;

export type Kind = "replay" | "connecting" | "catching-up" | "live" | "quiet" | "empty" | "gone" | "reconnecting" | "redis-down" | "bridge-down" | "ended";

export interface Condition {
  readonly kind: Kind;
  readonly word: string;
  readonly detail: string;
}

export interface Facts {
  readonly state: State;
  /** Milliseconds, like all times here. */
  readonly lastEventMs: number | null;
  /** What `/readyz` said against the log, null if nothing or not asked. */
  readonly unready: string | null;
  /** Since when the mind lives no more, and why; null while it does. */
  readonly gone: { readonly atMs: number; readonly why: string } | null;
  /** How many events of the log are still to be caught up with. */
  readonly toGo: number;
  readonly nowMs: number;
}

export function condition(facts: Facts): Condition {
  const { state, nowMs } = facts;
  switch (state.name) {
    case "connecting":
      return state.attempt === 0
        ? { kind: "connecting", word: "connecting", detail: "" }
        : { kind: "bridge-down", word: "bridge down", detail: "retrying now" };
    case "waiting": {
      if (state.code === "expired") return { kind: "ended", word: "token expired", detail: "" };
      const seconds = Math.max(1, Math.ceil((state.until - nowMs) / 1000));
      // A connection that was only cut comes back at the first attempt, as a rule.
      return state.attempt <= 1 && state.code !== "unreachable"
        ? { kind: "reconnecting", word: "reconnecting", detail: `in ${seconds} s` }
        : { kind: "bridge-down", word: "bridge down", detail: `retrying in ${seconds} s` };
    }
    case "ended":
      return { kind: "ended", word: "not connected", detail: state.reason };
    case "live":
      return liveCondition(facts, state.redis);
  }
}

function liveCondition(facts: Facts, redis: "up" | "down" | null): Condition {
  const { lastEventMs, unready, gone, toGo, nowMs } = facts;
  if (redis === "down" || (redis === null && unready !== null)) {
    return { kind: "redis-down", word: "Redis down", detail: "the bridge is up but cannot read the log" };
  }
  // What is shown until then is of minutes ago: neither live nor quiet nor gone is true of it.
  if (toGo > 0) return { kind: "catching-up", word: "catching up", detail: `${toGo.toLocaleString("en")} to go` };
  if (lastEventMs === null) return { kind: "empty", word: "no event yet", detail: "" };
  if (gone !== null) {
    const since = `since ${clockTime(gone.atMs, nowMs)}, ${ago(nowMs - gone.atMs)}`;
    return { kind: "gone", word: "mind gone", detail: gone.why === "" ? since : `${gone.why}, ${since}` };
  }
  if (nowMs - lastEventMs <= QUIET_MS) return { kind: "live", word: "live", detail: "" };
  const detail = `since ${clockTime(lastEventMs, nowMs)}, ${ago(nowMs - lastEventMs)}`;
  return { kind: "quiet", word: "mind quiet", detail };
}

/** While the past is shown: which, and how much of the present waits; and the connection, where something is wrong with it. */
export function replayCondition(
  now: Condition,
  replay: { readonly status: string; readonly atMs: number | null },
  waiting: number,
  speed: number,
): Condition {
  if (!["live", "quiet", "gone"].includes(now.kind)) return { ...now, word: `replay, ${now.word}` };
  const doing = replay.status === "playing" ? `at ${speed}×` : replay.status;
  const news = waiting === 0 ? "" : `, ${waiting.toLocaleString("en")} new since`;
  return { kind: "replay", word: "replay", detail: `${doing}${news}` };
}
