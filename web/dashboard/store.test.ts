// What the page knows of the mind, and the words for it.
import assert from "node:assert/strict";
import { test } from "node:test";

import type { State } from "../client/client.ts";
import type { Event } from "../client/wire.ts";
import { summary } from "./announcer.ts";
import { condition, type Facts } from "./condition.ts";
import { gapText } from "./gap.ts";
import { jsonPieces } from "./json.ts";
import { Rate } from "./rate.ts";
import { sparkLabel, sparkPath } from "./spark.ts";
import { Store } from "./store.ts";

const NOW = 1_800_000_000_000;
const LIVE: State = { name: "live", redis: "up", clockOffsetMs: 0 };

function event(type: string, atMs: number, rest: Partial<Event> = {}): Event {
  return { type, ts: new Date(atMs).toISOString(), cycle: 42, day: 1551, data: {}, id: `${atMs}-0`, ...rest };
}

function words(facts: Partial<Facts>): string {
  const { kind, word } = condition({
    state: LIVE, stateSinceMs: NOW, lastEventMs: NOW, unready: null, nowMs: NOW, ...facts,
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
  assert.equal(words({ state: { name: "ended", code: "x", reason: "y" } }), "ended: not connected");
});

test("the bridge's own word counts for more than what /readyz said once", () => {
  assert.equal(words({ unready: "redis: gone" }), "live: live");
});

test("a log without events is quiet ten seconds after connecting", () => {
  assert.equal(words({ lastEventMs: null, stateSinceMs: NOW - 9_000 }), "live: live");
  assert.equal(words({ lastEventMs: null, stateSinceMs: NOW - 11_000 }), "quiet: mind quiet");
});

test("waiting counts down in whole seconds", () => {
  const state: State = { name: "waiting", until: NOW + 2_100, attempt: 2, code: "dropped", reason: "" };

  const { detail } = condition({ state, stateSinceMs: 0, lastEventMs: null, unready: null, nowMs: NOW });
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

test("the rate counts whole seconds and forgets after a minute", () => {
  const rate = new Rate();
  for (let i = 0; i < 5; i += 1) rate.add(NOW + 100, NOW + 100);
  assert.equal(rate.perSecond(NOW + 900), 0);
  assert.equal(rate.perSecond(NOW + 1_000), 5);
  assert.equal(rate.history(NOW + 1_000).at(-1), 5);
  assert.equal(rate.history(NOW + 60_000)[0], 5);
  assert.equal(Math.max(...rate.history(NOW + 61_000)), 0);

  rate.add(NOW + 10_000, NOW + 61_000);
  assert.equal(rate.history(NOW + 61_000)[9], 1);
});

test("a second of one event is seen beside one of a thousand", () => {
  assert.equal(sparkPath([0, 1, 1000]), "M2 24v-1.5h1.5V24zM4 24v-24h1.5V24z");
  assert.match(sparkLabel([0, 1, 1000]), /1001 events, at most 1000/);
});

test("gaps are told in words", () => {
  const text = (lost: number | null, reason: string): string => gapText({ after: "", before: null, lost, reason });

  assert.equal(text(1200, "slow"), "1,200 events missing: this page could not keep up");
  assert.equal(text(1, "trimmed"), "1 event missing: the log no longer holds them");
  assert.match(text(null, "re\u202eset"), /unknown number .*: re\\u202eset/);
});

test("JSON is cut into coloured pieces without a character lost, and hostile ones are shown", () => {
  const value = { "a\u202e": [1.5e-7, -3, true, null, 'q"\\', "true", "\u001b[31m\u009b"], "": {} };
  const pieces = jsonPieces(value);

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
