// What is felt at any place is the same, whether all that came before was seen or only the last of each kind of feeling.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import type { Event } from "../client/wire.ts";
import { type MindState, NO_MIND, step } from "./mind.ts";
import { RECALLED, recall } from "./recall.ts";
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
      assert.deepEqual([begin.events, begin.lastMs, begin.cycles.length, begin.errors.count], [0, null, 0, 0]);
      const whole = events.reduce(step, NO_MIND);
      assert.deepEqual(felt(events.slice(at).reduce(step, begin)), felt(whole));
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
