// The grammar of the filter box, by the golden file; tests/test_web_build.py reads its types as the server does.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import type { Event } from "../client/wire.ts";
import { FilterError, parseFilter, soleCycle, termFor } from "./filter.ts";

const golden = new URL("../../tests/golden/filters.json", import.meta.url);
const { events, matches, wrong } = JSON.parse(readFileSync(golden, "utf8")) as {
  readonly events: readonly Event[];
  readonly matches: readonly [string, string][];
  readonly wrong: readonly string[];
};

for (const [text, expected] of matches) {
  test(`“${text}”`, () => {
    const passes = parseFilter(text);
    assert.equal(events.map((event) => (passes(event) ? "1" : "0")).join(""), expected);
  });
}

for (const text of wrong) {
  test(`“${text}” is refused`, () => assert.throws(() => parseFilter(text), FilterError));
}

test("too many terms are refused", () => {
  assert.throws(() => parseFilter(Array(65).fill("a").join(" ")), FilterError);
});

test("a value becomes a term that finds it", () => {
  for (const value of ["Egor", "too slow", "a,b", 'the "letter"', "x:y"]) {
    const event = { ...events[3], data: { target: value } } as Event;
    assert.ok(parseFilter(termFor("target", value.replaceAll('"', "")))({ ...event, data: { target: value.replaceAll('"', "") } }));
    assert.ok(!parseFilter(termFor("target", "other"))(event));
    assert.ok(!parseFilter(termFor("target", value.replaceAll('"', ""), true))({ ...event, data: { target: value.replaceAll('"', "") } }));
  }
});

test("a filter names one cycle, or none, or several", () => {
  for (const text of ["cycle:41", "rain cycle:41 -cycle:40 by:mira-1:"]) assert.equal(soleCycle(text), 41, text);
  for (const text of ["", "41", "-cycle:41", "cycle:41..42", "cycle:41 cycle:42", "cycle:0", "cycle:x", "data.cycle:41"]) {
    assert.equal(soleCycle(text), null, text);
  }
});
