// What is felt at any place is the same, whether all that came before was seen or only the last of each kind of feeling.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import type { Event } from "../client/wire.ts";
import { currentCycle, lastDecided, type MindState, NO_MIND, step } from "./mind.ts";
import { cycleFrom, RECALLED, recall, withRecalled } from "./recall.ts";
import { Reel } from "./reel.ts";

const golden = new URL("../../tests/golden/minds.json", import.meta.url);
const lives = (JSON.parse(readFileSync(golden, "utf8")) as { events: Event[] }[]).map(({ events }) => events);

/** As the page asks a bridge for them. */
function lastOfEach(events: readonly Event[]): Event[] {
  const has = (types: string, type: string): boolean => (types.endsWith("*") ? type.startsWith(types.slice(0, -1)) : type === types);
  return RECALLED.flatMap(([types, count]) => events.filter(({ type }) => has(types, type)).slice(-count));
}

function felt({ moods, focuses, drives, pains, window }: MindState): unknown {
  const hurts = Object.fromEntries(pains.filter((p) => p.resolvedMs === null).map((p) => [p.type, [p.intensity, p.sinceMs]]));
  return { mood: moods.at(-1), focus: focuses.at(-1), drives: Object.fromEntries(drives), hurts, current: window.current };
}

for (const [life, events] of lives.entries()) {
  test(`golden life ${life} is felt from any place as from its beginning`, () => {
    for (let at = 0; at <= events.length; at += 13) {
      const begin = recall(lastOfEach(events.slice(0, at)));
      assert.deepEqual([begin.events, begin.lastMs, begin.cycles.length], [0, null, 0]);
      const whole = events.reduce(step, NO_MIND);
      assert.deepEqual(felt(events.slice(at).reduce(step, begin)), felt(whole));
      // Its cycle is not known with it, but found by it.
      const [recalled, seen] = [begin, events.slice(0, at).reduce(step, NO_MIND)].map(({ errors }) => errors.groups[0]?.last);
      assert.deepEqual({ ...recalled, cycleKey: "" }, { ...seen, cycleKey: "" });
      if (recalled !== undefined) assert.equal(recalled.cycleKey, recalled.id);
    }
  });
}

test("a reel that begins with what was recalled leads from it to any place", () => {
  const events = lives[0] as Event[];
  const begin = recall(lastOfEach(events.slice(0, 40)));
  const reel = new Reel({ every: 7, begin });
  for (const event of events.slice(40)) reel.add(event);
  for (const count of [0, 1, 6, 7, 8, 30]) {
    assert.deepEqual(reel.at(count), events.slice(40, 40 + count).reduce(step, begin));
  }
});

/** One producer's life: so many cycles, each with a decision only where it is asked for. */
function cycles(count: number, decides: (cycle: number) => boolean): Event[] {
  const types = (cycle: number): string[] =>
    ["cycle.start", "sense.all", ...(decides(cycle) ? ["critic.evaluate", "decision"] : []), "cycle.end"];
  let ms = 0;
  return Array.from({ length: count }, (_, i) => i + 1).flatMap((cycle) =>
    types(cycle).map((type) => {
      ms += 1;
      const data = { intention: `i${cycle}`, agent: "logic", verdict: "approve" };
      return { type, ts: new Date(ms).toISOString(), cycle, day: 1, data, id: `${ms}-0`, by: `mira:${ms}` };
    }),
  );
}

test("the last decision is known however many cycles ago it was", () => {
  const state = cycles(100, (cycle) => cycle === 3 || cycle === 5).reduce(step, NO_MIND);

  assert.equal(state.cycles.length, 60);
  assert.equal(lastDecided(state)?.number, 5);
  assert.equal(lastDecided(state)?.critics.length, 1);
});

test("a cycle that was recalled goes on as the one it is, and the one that decided is no neighbour of it", () => {
  const events = cycles(9, (cycle) => cycle === 2);
  const of = (number: number): Event[] => events.filter(({ cycle }) => cycle === number);
  const begin = withRecalled(NO_MIND, cycleFrom(of(8).slice(0, 2)), cycleFrom(of(2).slice(0, 4)));
  const state = events.slice(events.indexOf(of(8)[2] as Event)).reduce(step, begin);

  assert.deepEqual(state.cycles.map(({ number, events: count, outcome, whole }) => [number, count, outcome, whole]), [
    [8, 3, "ended", true],
    [9, 3, "ended", true],
  ]);
  assert.deepEqual([lastDecided(state)?.number, lastDecided(state)?.outcome], [2, "cut off"]);
  const same = withRecalled(NO_MIND, cycleFrom(of(2)), cycleFrom(of(2)));
  assert.equal(lastDecided(same), currentCycle(same));
  assert.equal(cycleFrom([]), null);
});

test("where as many errors were recalled as were asked for there may be more", () => {
  const error = (ms: number): Event => ({ type: "error", ts: new Date(ms).toISOString(), cycle: 0, day: 1, data: { source: "x" }, id: `${ms}-0` });
  const begin = (count: number): MindState => recall(Array.from({ length: count }, (_, i) => error(i + 1)));

  assert.deepEqual([0, 49, 50].map((count) => begin(count).errors.more), [false, false, true]);
  const { count, more } = step(begin(50), error(51)).errors;
  assert.deepEqual([count, more], [51, true]);
});
