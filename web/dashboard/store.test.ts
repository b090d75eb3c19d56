// What the page knows of the mind, and the words for it.
import assert from "node:assert/strict";
import { test } from "node:test";

import type { State } from "../client/client.ts";
import type { Event } from "../client/wire.ts";
import { summary } from "./announcer.ts";
import { chartLabel, stacks } from "./chart.ts";
import { condition, type Facts } from "./condition.ts";
import { FAMILIES } from "./family.ts";
import { gapText } from "./gap.ts";
import { jsonPieces } from "./json.ts";
import { Store } from "./store.ts";
import { Throughput } from "./throughput.ts";

const NOW = 1_800_000_000_000;
const LIVE: State = { name: "live", redis: "up", clockOffsetMs: 0, granted: [], head: null };

function event(type: string, atMs: number, rest: Partial<Event> = {}): Event {
  return { type, ts: new Date(atMs).toISOString(), cycle: 42, day: 1551, data: {}, id: `${atMs}-0`, ...rest };
}

function words(facts: Partial<Facts>): string {
  const { kind, word } = condition({
    state: LIVE, lastEventMs: NOW, unready: null, gone: null, toGo: 0, nowMs: NOW, ...facts,
  });
  return `${kind}: ${word}`;
}

test("quiet, Redis down and bridge down are told apart", () => {
  const late = NOW - 10_001;

  assert.equal(words({}), "live: live");
  assert.equal(words({ lastEventMs: NOW - 10_000 }), "live: live");
  assert.equal(words({ lastEventMs: late }), "quiet: mind quiet");
  assert.equal(words({ lastEventMs: late, state: { ...LIVE, redis: "down" } }), "redis-down: Redis down");
  assert.equal(words({ lastEventMs: late, state: { ...LIVE, redis: null }, unready: "x" }), "redis-down: Redis down");
  assert.equal(words({ state: { name: "connecting", attempt: 0 } }), "connecting: connecting");
  assert.equal(words({ state: { name: "connecting", attempt: 3 } }), "bridge-down: bridge down");
  assert.equal(words({ gone: { atMs: NOW, why: "SIGTERM" } }), "gone: mind gone");
  assert.equal(words({ state: { name: "waiting", until: NOW, attempt: 1, code: "dropped", reason: "" } }),
    "reconnecting: reconnecting");
  assert.equal(words({ state: { name: "waiting", until: NOW, attempt: 1, code: "unreachable", reason: "" } }),
    "bridge-down: bridge down");
  assert.equal(words({ state: { name: "ended", code: "x", reason: "y" } }), "ended: not connected");
});

test("the bridge's own word counts for more than what /readyz said once", () => {
  assert.equal(words({ unready: "redis: gone" }), "live: live");
});

test("a log in which nothing was ever said is neither live nor quiet", () => {
  assert.equal(words({ lastEventMs: null }), "empty: no event yet");
  assert.equal(words({ lastEventMs: null, state: { ...LIVE, redis: "down" } }), "redis-down: Redis down");
});

test("while it catches up, what was minutes ago is not told as if it were now", () => {
  const gone = { atMs: NOW, why: "SIGTERM" };

  assert.equal(words({ toGo: 1 }), "catching-up: catching up");
  assert.equal(words({ toGo: 12_345, lastEventMs: NOW - 60_000, gone }), "catching-up: catching up");
  assert.equal(words({ toGo: 1, state: { ...LIVE, redis: "down" } }), "redis-down: Redis down");
});

test("lag is that of what came after the page, not of what it caught up with", () => {
  const store = new Store();
  store.head = 7;
  store.event(event("before", NOW - 2_000, { n: 7 }), NOW);
  assert.equal(store.lagMs, null);

  store.event(event("after", NOW - 20, { n: 8 }), NOW);
  assert.equal(store.lagMs, 20);
});

test("what is passed over is a row, and the mind is lived anew from behind it", () => {
  const store = new Store();
  store.event(event("state.mood", NOW, { data: { new: "old" } }), NOW);
  store.passOver({ after: "1-0", before: "9-0", lost: 12_000, reason: "passed" });
  const next = event("state.focus", NOW, { id: "9-0", data: { new: "it" } });
  store.event(next, NOW);

  assert.deepEqual([store.first, store.mind.moods.length, store.gaps, store.held.length], [next, 0, 0, 3]);
  store.recall({ ...store.mind, focuses: [], moods: [{ old: "", now: "calm", atMs: 0, id: "" }] });
  assert.deepEqual([store.mind.moods.length, store.mind.focuses.length], [1, 1]);
});

test("waiting counts down in whole seconds", () => {
  const state: State = { name: "waiting", until: NOW + 2_100, attempt: 2, code: "dropped", reason: "" };

  const { detail } = condition({ state, lastEventMs: null, unready: null, gone: null, toGo: 0, nowMs: NOW });
  assert.equal(detail, "retrying in 3 s");
});

test("an event of the past counts at its own time, a late one at its arrival", () => {
  const store = new Store();
  store.event(event("old", NOW - 60_000), NOW);
  assert.equal(store.lastEventMs, NOW - 60_000);

  store.event(event("late", NOW - 2_000), NOW);
  assert.equal(store.lastEventMs, NOW);
});

test("the bridge's clock is not this machine's", () => {
  const store = new Store();
  store.clockOffsetMs = -3_600_000;
  store.event(event("now by the bridge", NOW - 3_600_000), NOW);

  assert.equal(store.lastEventMs, NOW);
});

test("an event from outside the cycle does not end it", () => {
  const store = new Store();
  store.event(event("cycle.start", NOW), NOW);
  store.event(event("hello", NOW, { cycle: 0, day: 0 }), NOW);
  store.event(event("broadcast.lost", NOW, { cycle: 7, day: 7 }), NOW);

  assert.deepEqual([store.cycle, store.day, store.seen], [42, 1551, 3]);
});

test("throughput counts whole seconds by family and forgets after five minutes", () => {
  const throughput = new Throughput();
  const wave = FAMILIES.indexOf("wave");
  for (let i = 0; i < 5; i += 1) throughput.add("wave", NOW + 100, NOW + 100);
  throughput.add("error", NOW + 200, NOW + 200);
  assert.equal(throughput.perSecond(NOW + 900), 0);
  assert.equal(throughput.perSecond(NOW + 1_000), 6);
  assert.equal(throughput.history(NOW + 1_000).at(-1)?.[wave], 5);
  assert.equal(throughput.history(NOW + 300_000)[0]?.[wave], 5);
  assert.equal(Math.max(...throughput.history(NOW + 301_000).map((column) => Math.max(...column))), 0);

  throughput.add("wave", NOW + 10_000, NOW + 301_000);
  assert.equal(throughput.history(NOW + 301_000)[9]?.[wave], 1);
});

test("a second of one event is seen beside one of a thousand, and families stand on one another", () => {
  const column = (sense: number, wave: number): number[] => FAMILIES.map((_, i) => [sense, wave][i] ?? 0);
  const columns = [column(0, 0), column(1, 0), column(500, 500)];

  assert.deepEqual(stacks(columns), [
    { family: "sense", path: "M3 40v-1.5h2.25v1.5zM6 40v-20h2.25v20z" },
    { family: "wave", path: "M6 20v-20h2.25v20z" },
  ]);
  assert.match(chartLabel(columns), /1001 events, 1000 in the busiest second/);
});

test("the delay of live events is measured by the bridge's clock, and that of the past is not", () => {
  const store = new Store();
  store.clockOffsetMs = 60_000;
  store.event(event("past", NOW - 3_600_000), NOW);
  assert.equal(store.lagMs, null);
  store.event({ ...event("live", NOW + 59_900) }, NOW);

  assert.equal(store.lagMs, 100);
});

test("gaps are told in words", () => {
  const text = (lost: number | null, reason: string): string => gapText({ after: "", before: null, lost, reason });

  assert.equal(text(1200, "slow"), "1,200 events missing: this page could not keep up");
  assert.equal(text(1, "trimmed"), "1 event missing: the log no longer holds them");
  assert.match(text(null, "re\u202eset"), /unknown number .*: re\\u202eset/);
});

test("JSON is cut into coloured pieces without a character lost, and hostile ones are shown", () => {
  const value = { "a\u202e": [1.5e-7, -3, true, null, 'q"\\', "true", "\u001b[31m\u009b"], "": {} };
  const { pieces } = jsonPieces(value);

  const text = pieces.map((piece) => piece.text).join("");
  assert.equal(text, JSON.stringify(value, null, 2).replace("\u202e", "\\u202e").replace("\u009b", "\\x9b"));
  assert.deepEqual(
    pieces.filter((piece) => piece.kind === "key").map((piece) => piece.text),
    ['"a\\u202e"', '""'],
  );
  assert.deepEqual(
    pieces.filter((piece) => piece.kind === "number").map((piece) => piece.text),
    ["1.5e-7", "-3"],
  );
});

test("the summary says what is new and nothing else", () => {
  assert.equal(summary({ word: "live", events: 42, errors: 1, cycle: 7 }), "live, 42 new events, 1 error, cycle 7");
  assert.equal(summary({ word: "", events: 0, errors: 0, cycle: 7 }), "");
});

test("what lasts is counted to where the mind was heard last: to now, to its end, or to when it could not be heard any more", () => {
  const store = new Store();
  assert.deepEqual(store.clock(NOW, false), { nowMs: NOW, heardMs: NOW });
  store.event(event("state.mood", NOW - 9_000), NOW);
  assert.deepEqual(store.clock(NOW, true), { nowMs: NOW, heardMs: NOW });
  assert.deepEqual(store.clock(NOW, false), { nowMs: NOW, heardMs: NOW - 9_000 });
  store.event(event("daemon.stop", NOW - 8_000), NOW);
  store.event(event("broadcast.producer", NOW - 1_000, { data: { producer: "other", state: "down" } }), NOW);
  assert.deepEqual(store.clock(NOW, true), { nowMs: NOW, heardMs: NOW - 8_000 });
  assert.equal(store.clock(NOW - 8_500, true).heardMs, NOW - 8_500); // in a replay that stands before its end
});

test("events before the first that came are not known, unless it is the log's first, and all before what was passed over", () => {
  const [whole, part] = [new Store(), new Store()];
  assert.equal(whole.unknownBeforeMs, null);
  for (const n of [1, 2]) whole.event(event("sense.all", NOW - 9_000 + n, { n }), NOW);
  assert.equal(whole.unknownBeforeMs, null);
  for (const n of [7, 8]) part.event(event("sense.all", NOW - 9_000 + n, { n }), NOW);
  assert.equal(part.unknownBeforeMs, NOW - 9_000 + 7);
  whole.passOver({ after: "1-0", before: "2-0", lost: 5, reason: "passed" });
  whole.event(event("sense.all", NOW - 5_000, { n: 8 }), NOW);
  assert.equal(whole.unknownBeforeMs, NOW - 5_000);
});
