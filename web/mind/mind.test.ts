// The reducer against the golden file that tests/lives.py computes from the whole, and what it does with the odd.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import type { Event } from "../client/wire.ts";
import type { Cycle } from "./cycle.ts";
import { currentCycle, findCycle, goneSince, lastDecided, type MindState, NO_MIND, step } from "./mind.ts";
import { Reel } from "./reel.ts";

interface Case {
  readonly events: readonly Event[];
  readonly summary: unknown;
}

const golden = new URL("../../tests/golden/minds.json", import.meta.url);
const cases = JSON.parse(readFileSync(golden, "utf8")) as Case[];

const fold = (events: readonly Event[]): MindState => events.reduce(step, NO_MIND);

function summary(state: MindState): unknown {
  const { window, drives, pains } = state;
  return {
    events: state.events,
    mood: state.moods.at(-1)?.now ?? null,
    focus: state.focuses.at(-1)?.now ?? null,
    drives: Object.fromEntries([...drives].map(([name, { hunger }]) => [name, hunger])),
    hurts: Object.fromEntries(pains.filter((p) => p.resolvedMs === null).map((p) => [p.type, p.intensity])),
    window: { current: window.current, entered: window.entered, left: window.left },
    errors: state.errors.count,
    running: state.daemon.running,
    dropped: state.dropped,
    cycles: state.cycles.map(cycleSummary),
  };
}

function cycleSummary(cycle: Cycle): unknown {
  return {
    key: cycle.key,
    number: cycle.number,
    events: cycle.events,
    ended: cycle.outcome === "ended",
    failures: cycle.failureCount,
    decision: cycle.decision?.intention ?? null,
    verdicts: cycle.critics.map(({ agent, verdict }) => [agent, verdict]),
    lanes: cycle.bars.map(({ lane }) => lane),
  };
}

for (const [i, { events, summary: expected }] of cases.entries()) {
  test(`golden life ${i}: ${events.length} events`, () => assert.deepEqual(summary(fold(events)), expected));
}

test("a bar lasts from the first event of its stage to the first of the next, and the last one to the end", () => {
  const state = fold(live(["cycle.start", "sense.project", "sense.all", "wave.send", "state.mood", "decision", "cycle.end"]));
  const { bars, outcome } = currentCycle(state) as Cycle;

  assert.equal(outcome, "ended");
  assert.deepEqual(
    bars.map(({ lane, fromMs, toMs, events }) => [lane, fromMs, toMs, events]),
    [
      ["sense", 0, 3000, 2],
      ["wave", 3000, 5000, 1],
      ["decide", 5000, 6000, 1],
    ],
  );
});

test("a running stage has no end, and is open at the newest event", () => {
  const { bars, outcome } = currentCycle(fold(live(["cycle.start", "sense.all", "wave.send"]))) as Cycle;

  assert.equal(outcome, "running");
  assert.deepEqual(bars.map(({ toMs }) => toMs), [2000, null]);
});

test("a cycle that another follows without an end was cut off", () => {
  const first = live(["cycle.start", "sense.all"]);
  const state = fold([...first, { ...event("cycle.start", 9), cycle: 8 }]);

  assert.deepEqual(state.cycles.map(({ outcome, number }) => [number, outcome]), [[7, "cut off"], [8, "running"]]);
});

test("a cycle whose beginning was not seen says so, and what follows is in it", () => {
  const cycle = currentCycle(fold(live(["wave.send", "decision"]))) as Cycle;

  assert.deepEqual([cycle.whole, cycle.events, cycle.bars.length], [false, 2, 2]);
});

test("where no cycle.start may be seen, cycles are told apart by their run, and one is over when its run has moved on", () => {
  const of = (run: string, cycle: number, at: number): Event => ({ ...event("sense.all", at), cycle, by: `${run}:${at}` });
  const state = fold([of("a", 3, 1), of("b", 3, 2), of("a", 3, 3), of("a", 4, 5), of("c", 3, 6)]);

  assert.deepEqual(
    state.cycles.map(({ run, number, events, outcome, toMs }) => [run, number, events, outcome, toMs]),
    [["a", 3, 2, "ended", 3000], ["b", 3, 1, "running", null], ["a", 4, 1, "running", null], ["c", 3, 1, "running", null]],
  );
});

test("an error names the cycle of its own run", () => {
  const first = live(["cycle.start", "error", "cycle.end"]);
  const again = live(["cycle.start", "sense.all"]).map((each, i) => ({ ...each, id: `${9000 + i}-0`, by: `other:${i + 1}` }));

  assert.equal(fold([...first, ...again]).errors.groups[0]?.last.cycleKey, first[0]?.id);
});

test("a number means its newest cycle, a key the one and only", () => {
  const again = (at: number): Event => ({ ...event("cycle.start", at), cycle: 7 });
  const state = fold([again(1), again(2)]);

  assert.equal(findCycle(state, "7")?.key, "2000-0");
  assert.equal(findCycle(state, "1000-0")?.key, "1000-0");
  assert.equal(findCycle(state, "9"), null);
});

test("the last decision stays known while the next cycle has none yet", () => {
  const state = fold([...live(["cycle.start", "decision"]), { ...event("cycle.start", 9), cycle: 8 }]);

  assert.equal(lastDecided(state)?.number, 7);
});

test("a mind is gone when it says so, or when its process is, and is back as soon as it speaks", () => {
  const start = { ...event("daemon.start", 1), cycle: 0 };
  const stop = { ...event("daemon.stop", 5), cycle: 0, data: { reason: "SIGTERM" } };
  const down = (producer: string): Event => ({ ...event("broadcast.producer", 6), cycle: 0, by: "bridge:1", data: { state: "down", producer } });

  assert.equal(goneSince(fold([start])), null);
  assert.equal(goneSince(fold([start, stop, down("me")]))?.why, "SIGTERM");
  assert.equal(goneSince(fold([start, down("me")]))?.why, "its process is gone");
  assert.equal(goneSince(fold([start, down("another")])), null);
  assert.equal(goneSince(fold([start, stop, { ...event("sense.all", 7), cycle: 0 }])), null);
});

test("data of any kind is taken in", () => {
  const odd: unknown[] = [null, 7, "x", [], [null], { a: 1 }, true, Number.MAX_VALUE];
  const types = ["cycle.start", "cycle.end", "wave.result", "window.update", "observe", "decision", "critic.evaluate",
    "execute", "state.mood", "state.focus", "state.drive", "state.pain", "error", "daemon.start", "daemon.stop",
    "broadcast.producer", "broadcast.lost", "", "toString", "__proto__"];
  const keys = ["contexts", "count", "entered", "left", "current", "old", "new", "drive", "hunger", "type",
    "intensity", "context", "source", "message", "traceback", "state", "producer", "duration_ms", "agent"];
  let state = NO_MIND;
  for (const type of types) {
    for (const value of odd) {
      const data = Object.fromEntries(keys.map((key) => [key, value]));
      state = step(state, { ...event(type, 1), ts: String(value), data });
      state = step(state, { ...event(type, 1), cycle: value as number, data: {} });
    }
  }
  assert.equal(state.events, types.length * odd.length * 2);
});

test("memory is bounded, however many names a mind invents", () => {
  let state = NO_MIND;
  for (let i = 0; i < 3_000; i += 1) {
    const data = { drive: `d${i}`, hunger: 1, type: `p${i}`, intensity: 1, new: `m${i}`, message: `e${i}`, agent: "a",
      producer: `x${i}`, state: "up", entered: [{ id: i, desc: "d" }], verdict: "v" };
    for (const type of ["state.drive", "state.pain", "state.mood", "error", "window.update", "broadcast.producer",
      "critic.evaluate", i % 2 === 0 ? "decision" : "sense.all"]) {
      state = step(state, { ...event(type, i), data, cycle: 1 + Math.floor(i / 1000) });
    }
  }
  assert.ok(state.drives.size <= 64 && state.pains.length <= 64 && state.moods.length <= 64);
  assert.ok(state.errors.groups.length <= 50 && state.errors.count === 3_000);
  assert.ok(state.window.current.length <= 200 && state.window.known.size <= 512 && state.producers.size <= 64);
  assert.ok(state.cycles.every((cycle) => cycle.bars.length <= 128 && cycle.critics.length <= 24));
});

test("the state at a place is that of the events before it, wherever the snapshots lie", () => {
  const events = cases.flatMap((each) => each.events);
  const reel = new Reel({ every: 16, eventsMax: 10_000 });
  for (const each of events) reel.add(each);

  for (const count of [0, 1, 15, 16, 17, 100, events.length - 1, events.length, events.length + 5]) {
    assert.deepEqual(reel.at(count), fold(events.slice(0, count)), String(count));
  }
});

test("a reel that is full lets the oldest go, and what they did stays in the state", () => {
  const reel = new Reel({ every: 10, eventsMax: 50 });
  const events = cases.flatMap((each) => each.events);
  for (const each of events) reel.add(each);
  const gone = events.length - reel.length;

  assert.ok(reel.length >= 50 && reel.length < 60);
  assert.deepEqual(reel.at(0), fold(events.slice(0, gone)));
  assert.deepEqual(reel.at(25), fold(events.slice(0, gone + 25)));
  assert.equal(reel.event(0), events[gone]);
});

/** Events of cycle 7, a second apart, the first at 0. */
function live(types: readonly string[]): Event[] {
  return types.map((type, i) => event(type, i));
}

function event(type: string, second: number): Event {
  return { type, ts: new Date(second * 1000).toISOString(), cycle: 7, day: 1, data: {}, id: `${second * 1000}-0`, by: `me:${second + 1}` };
}
