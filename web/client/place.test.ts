// What a viewer keeps of its place, and what it drops.
import assert from "node:assert/strict";
import { test } from "node:test";

import { backoffMs } from "./backoff.ts";
import { Place } from "./place.ts";
import { Seen } from "./seen.ts";
import type { Event } from "./wire.ts";

const HELLO = { epoch: "e1", id: "5-0", n: 5, server_time: "2026-02-14T19:01:23.456Z", types: ["*"] };

function event(id: string, rest: Partial<Event> = {}): Event {
  return { type: "t", ts: "2026-02-14T19:01:23.456Z", cycle: 0, day: 0, data: {}, id, ...rest };
}

test("an event moves the cursor and keeps the epoch of the hello", () => {
  const place = new Place();
  place.hello(HELLO);

  assert.equal(place.event(event("6-0", { n: 6, by: "p:1" })), true);
  assert.deepEqual(place.cursor, { id: "6-0", n: 6, epoch: "e1" });
});

test("a position moves the cursor past events that the filter kept away", () => {
  const place = new Place();
  place.hello(HELLO);
  place.position({ id: "9-0", n: 9 });

  assert.deepEqual(place.cursor, { id: "9-0", n: 9, epoch: "e1" });
});

test("a hello without an id leaves the cursor where it was", () => {
  const place = new Place({ id: "5-0", n: 5, epoch: "e1" });
  place.hello({ ...HELLO, epoch: null, id: null, n: null });

  assert.deepEqual(place.cursor, { id: "5-0", n: 5, epoch: "e1" });
});

test("an event appended again is dropped, and moves the cursor all the same", () => {
  const place = new Place();
  place.hello(HELLO);
  place.event(event("6-0", { by: "p:1" }));

  assert.equal(place.event(event("8-0", { by: "p:1" })), false);
  assert.equal(place.cursor?.id, "8-0");
});

test("after a reset the cursor no longer claims the old epoch", () => {
  const place = new Place();
  place.hello(HELLO);
  place.gap({ after: "5-0", before: null, lost: null, reason: "reset" });

  assert.deepEqual(place.cursor, { id: "5-0", n: null, epoch: null });
});

test("a gap within the same log leaves the cursor alone", () => {
  const place = new Place();
  place.hello(HELLO);
  place.gap({ after: "5-0", before: "9-0", lost: 3, reason: "slow" });

  assert.equal(place.cursor?.epoch, "e1");
});

test("events without an identity, or with one that is none, are always new", () => {
  const seen = new Seen();

  for (const by of [undefined, null, 7, "", "noseq", ":1", "p:", "p:1x"]) {
    assert.equal(seen.isNew(by), true);
    assert.equal(seen.isNew(by), true, String(by));
  }
});

test("each producer has its own numbers, whatever its name holds", () => {
  const seen = new Seen();

  assert.deepEqual(
    ["a:1", "b:1", "a:b:1", "a:2", "a:1", "a:b:1"].map((by) => seen.isNew(by)),
    [true, true, true, true, false, false],
  );
});

test("the producer silent for longest is forgotten first", () => {
  const seen = new Seen(2);
  for (const by of ["a:1", "b:1", "a:2", "c:1"]) seen.isNew(by);

  assert.equal(seen.size, 2);
  assert.equal(seen.isNew("a:2"), false);
  assert.equal(seen.isNew("b:1"), true);
});

test("the wait doubles up to ten seconds and is half chance", () => {
  assert.deepEqual(
    [0, 1, 2, 3, 4, 5, 99].map((attempt) => backoffMs(attempt, 1)),
    [500, 1000, 2000, 4000, 8000, 10_000, 10_000],
  );
  assert.equal(backoffMs(0, 0), 250);
});
