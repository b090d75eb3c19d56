// The map of the log, and playing the past.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import type { Event } from "../client/wire.ts";
import { FAMILIES } from "../dashboard/family.ts";
import { type MindState, NO_MIND, step } from "../mind/mind.ts";
import { cutAt, cutBehind } from "./cut.ts";
import { bucketAt, columnsOf, LEAST_MS, lengthOf, marksOf, moved, shareOf, timeAt, within, zoomed } from "./minimap.ts";
import { Replay } from "./replay.ts";

const EXTENT = { fromMs: 0, toMs: 1_000_000 };

test("zooming keeps the place under the pointer, and stays within the log", () => {
  const view = { fromMs: 200_000, toMs: 600_000 };
  const near = zoomed(view, 0.5, 300_000, EXTENT);

  assert.equal(lengthOf(near), 200_000);
  assert.equal(shareOf(near, 300_000), shareOf(view, 300_000));
  assert.deepEqual(zoomed(view, 100, 300_000, EXTENT), EXTENT);
  assert.equal(lengthOf(zoomed(view, 1e-9, 300_000, EXTENT)), LEAST_MS);
  assert.equal(timeAt(view, shareOf(view, 350_000)), 350_000);
});

test("moving stops at the ends of the log, and what is longer than it is all of it", () => {
  const view = { fromMs: 200_000, toMs: 600_000 };

  assert.deepEqual(moved(view, -500_000, EXTENT), { fromMs: 0, toMs: 400_000 });
  assert.deepEqual(moved(view, 500_000, EXTENT), { fromMs: 600_000, toMs: 1_000_000 });
  assert.deepEqual(within({ fromMs: -1, toMs: 2_000_000 }, EXTENT), EXTENT);
});

test("every event of the view is in exactly one column, however wide buckets and columns are", () => {
  const buckets = Array.from({ length: 50 }, (_, i) => ({
    fromMs: i * 20_000,
    types: { "sense.project": i, error: i % 3, "state.pain": 1, "cycle.start": 2 },
  }));
  const total = buckets.reduce((sum, { types }) => sum + types["sense.project"] + types.error + 3, 0);

  for (const count of [1, 7, 50, 333]) {
    const columns = columnsOf(buckets, 20_000, EXTENT, count);
    const sum = columns.reduce((all, { families }) => all + families.reduce((a, b) => a + b, 0), 0);
    assert.equal(columns.length, count);
    assert.ok(Math.abs(sum - total) < 1e-6, `${count}: ${sum} of ${total}`);
    assert.ok(Math.abs(columns.reduce((all, { cycles }) => all + cycles, 0) - 100) < 1e-6);
  }
  const [inside] = columnsOf(buckets, 20_000, { fromMs: 20_000, toMs: 40_000 }, 1);
  assert.deepEqual([inside?.families[FAMILIES.indexOf("sense")], inside?.cycles], [1, 2]);
});

test("what happened in a bucket is marked once, in the middle of what is seen of the bucket", () => {
  const buckets = [0, 1, 2, 3].map((i) => ({ fromMs: i * 60_000, types: i % 2 === 0 ? { error: 3 } : { "sense.all": 1 } }));
  const all = { fromMs: 0, toMs: 240_000 };

  assert.deepEqual(marksOf("error", buckets, 60_000, { fromMs: 60_000, toMs: 240_000 }, 180), [90]);
  assert.deepEqual(marksOf("error", buckets, 60_000, all, 2), [0, 1]);
  assert.deepEqual(marksOf("error", buckets, 60_000, all, 1), [0]);
  // The first and the last are seen in part.
  assert.deepEqual(marksOf("error", buckets, 60_000, { fromMs: 50_000, toMs: 130_000 }, 80), [5, 75]);
  assert.deepEqual(marksOf("error", buckets, 60_000, { fromMs: 0, toMs: 120_000 }, 120), [30, 119]);
});

test("a time is in one bucket at the most", () => {
  const buckets = [{ fromMs: 0, types: {} }, { fromMs: 20, types: {} }];
  assert.deepEqual([0, 9, 10, 20].map((ms) => bucketAt(buckets, 10, ms)?.fromMs ?? null), [0, 0, null, 20]);
});

const golden = new URL("../../tests/golden/minds.json", import.meta.url);
const life = (JSON.parse(readFileSync(golden, "utf8")) as { events: Event[] }[])[0]?.events as Event[];
const fold = (events: readonly Event[]): MindState => events.reduce(step, NO_MIND);

/** An event a second, the first at 0. */
function seconds(count: number, every = 1): Event[] {
  return Array.from({ length: count }, (_, i) => ({
    type: i % 5 === 0 ? "cycle.start" : "sense.all",
    ts: new Date(i * every * 1000).toISOString(),
    cycle: Math.floor(i / 5) + 1,
    day: 1,
    data: {},
    id: `${i * every * 1000}-0`,
  }));
}

function playing(events: readonly Event[], isLast = true): Replay {
  const replay = new Replay([], NO_MIND, { isFirst: true });
  replay.load(events, isLast);
  return replay;
}

/** The times, on the clock, at which each event came out. */
function played(replay: Replay, fromMs: number, toMs: number, everyMs = 10): number[] {
  const times: number[] = [];
  for (let now = fromMs; now <= toMs; now += everyMs) for (const _ of replay.tick(now)) times.push(now);
  return times;
}

test("events come as they were lived, at each speed", () => {
  assert.deepEqual(played(playing(seconds(4)), 5_000, 9_000), [5_000, 6_000, 7_000, 8_000]);
  const fast = playing(seconds(4));
  fast.setSpeed(4, 0);
  assert.deepEqual(played(fast, 5_000, 9_000), [5_000, 5_250, 5_500, 5_750]);
  const slow = playing(seconds(3));
  slow.setSpeed(0.5, 0);
  assert.deepEqual(played(slow, 0, 4_000), [0, 2_000, 4_000]);
});

test("idle time is cut", () => {
  assert.deepEqual(played(playing(seconds(3, 3600)), 0, 4_000), [0, 2_000, 4_000]);
});

test("another speed holds for the rest of the wait, too", () => {
  const replay = playing(seconds(3));
  played(replay, 0, 500);
  replay.setSpeed(2, 500);

  assert.deepEqual(played(replay, 510, 2_000), [750, 1250]);
});

test("a pause stops at once, and what was waited is not made up for", () => {
  const replay = playing(seconds(4));
  played(replay, 0, 1_500);
  replay.pause();
  assert.deepEqual(played(replay, 1_510, 60_000, 500), []);
  replay.play();

  assert.equal(replay.status, "playing");
  assert.deepEqual(played(replay, 60_000, 61_500).length, 2);
});

test("it ends when there is no more, and waits where there may be", () => {
  const replay = playing(seconds(2), false);
  played(replay, 0, 5_000);
  assert.equal(replay.status, "loading");
  assert.ok(replay.wantsMore);
  replay.load(seconds(4).slice(2), true);
  assert.equal(replay.status, "playing");
  played(replay, 5_000, 9_000);

  assert.equal(replay.status, "ended");
  assert.ok(!replay.wantsMore);
});

test("nothing at all is the end", () => {
  assert.equal(playing([]).status, "ended");
});

test("a tick gives out so many at most, however many are due", () => {
  const burst = Array.from({ length: 1_200 }, (_, i) => ({ ...(seconds(1)[0] as Event), id: `0-${i}` }));
  const replay = playing(burst);

  assert.deepEqual([replay.tick(0).length, replay.tick(1).length, replay.tick(2).length], [500, 500, 200]);
});

test("stepping goes one event either way, and pauses", () => {
  const replay = playing(seconds(20));
  assert.equal(replay.stepForward()?.id, "0-0");
  assert.equal(replay.status, "paused");
  assert.ok(replay.stepBack());
  assert.ok(!replay.stepBack());
});

test("stepping by cycle leads to where the neighbouring one is over, with all that it left behind", () => {
  const replay = playing(seconds(22)); // five events a cycle, and two of the fifth
  const shows = (): unknown[] => [replay.played, replay.state.cycles.at(-1)?.number, replay.state.cycles.at(-1)?.events];
  replay.stepForward();
  assert.ok(replay.stepCycle(1));
  assert.deepEqual(shows(), [10, 2, 5]);
  assert.equal(replay.status, "paused");
  assert.ok(replay.stepCycle(1));
  assert.deepEqual(shows(), [15, 3, 5]);
  assert.ok(replay.stepCycle(-1));
  assert.deepEqual(shows(), [10, 2, 5]);
  replay.stepForward();
  assert.ok(replay.stepCycle(-1)); // from one that has only just begun, likewise
  assert.deepEqual(shows(), [10, 2, 5]);
  assert.ok(replay.stepCycle(-1));
  assert.deepEqual(shows(), [5, 1, 5]);
  assert.ok(!replay.stepCycle(-1)); // there is none before it
  assert.deepEqual(shows(), [5, 1, 5]);
});

test("before the first cycle a step leads to it, and none to where a cycle may not be over", () => {
  const replay = playing(seconds(12).slice(1)); // the first has lost its beginning
  assert.ok(replay.stepCycle(1));
  assert.deepEqual([replay.played, replay.state.cycles.at(-1)?.number], [9, 2]);
  assert.equal(replay.startBeside(-1)?.cycle, 2);
  assert.equal(replay.startBeside(1)?.cycle, 3);
  assert.ok(!replay.stepCycle(1)); // whether more follows, the log knows
  assert.equal(replay.played, 9);
});

test("a step back leads nowhere only where the log begins", () => {
  const events = seconds(20);
  for (const isFirst of [true, false]) {
    const replay = new Replay(events.slice(0, 8), NO_MIND, { isFirst });
    replay.load(events.slice(8), true);
    assert.deepEqual([replay.canStepBack("event"), replay.canStepBack("cycle")], [true, true]);
    while (replay.stepBack());
    assert.deepEqual([replay.atMs, replay.played], [0, isFirst ? 0 : 1]); // where the rest is not loaded, it stays
    assert.deepEqual([replay.canStepBack("event"), replay.canStepBack("cycle")], [!isFirst, !isFirst]);
  }
  const nothing = new Replay([]);
  assert.ok(!nothing.canStepBack("event"));
});

test("a cut has each event on one of its sides", () => {
  assert.deepEqual(cutAt(1_000), { until: "1970-01-01T00:00:00.999Z", since: "1970-01-01T00:00:01.000Z" });
  assert.deepEqual(cutBehind("7-1"), { until: "7-1", since: "7-1" });
});

test("wherever one goes, the mind is as it was there", () => {
  const replay = playing(life);
  const times = life.map(({ ts }) => Date.parse(ts));
  for (const at of [0.7, 0.1, 0.9, 0.5, 1, 0].map((share) => Math.floor(share * (life.length - 1)))) {
    assert.ok(replay.seek(times[at] as number));
    const count = times.filter((time) => time <= (times[at] as number)).length;
    assert.equal(replay.played, count);
    assert.deepEqual(replay.state, fold(life.slice(0, count)));
    assert.deepEqual(replay.recent(7), life.slice(Math.max(0, count - 7), count));
  }
  assert.ok(!replay.seek((times[0] as number) - 1));
});

test("what was before is known, and is not played again", () => {
  const replay = new Replay(life.slice(0, 40));
  replay.load(life.slice(40), true);

  assert.deepEqual(replay.state, fold(life.slice(0, 40)));
  assert.equal(replay.tick(0)[0], life[40]);
});

test("a long replay keeps the newest of what was played, and the mind is what all of it has made of it", () => {
  const events = seconds(8_000);
  const replay = new Replay([], NO_MIND, { keptMax: 1_000, isFirst: true });
  let [at, most] = [0, 0];
  replay.setSpeed(64, 0);
  for (let now = 0; replay.status !== "ended"; now += 100) {
    while (replay.wantsMore && at < events.length) {
      replay.load(events.slice(at, at + 500), at + 500 >= events.length);
      at += 500;
    }
    replay.tick(now);
    most = Math.max(most, replay.loaded);
  }

  assert.ok(most <= 4_500, String(most));
  assert.ok(replay.goesFartherBack); // what was let go of is still in the log
  assert.deepEqual(replay.state, fold(events));
  assert.deepEqual(replay.recent(3), events.slice(-3));
  assert.ok(replay.stepBack());
  assert.deepEqual(replay.state, fold(events.slice(0, -1)));
  assert.ok(!replay.seek(1_000)); // it is to be fetched again
});
