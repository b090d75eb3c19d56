// The page's digest and escapes against the golden file that tests/test_digest.py reads too.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { digest } from "./digest.ts";
import { printable } from "./printable.ts";

interface Case {
  readonly event: { readonly type: string; readonly data: unknown };
  readonly digest: string;
  readonly printable?: string;
}

const golden = new URL("../../tests/golden/digests.json", import.meta.url);
const cases = JSON.parse(readFileSync(golden, "utf8")) as Case[];

test("the golden file holds cases", () => {
  assert.ok(cases.length > 50);
});

for (const [i, expected] of cases.entries()) {
  test(`golden case ${i}: ${expected.event.type}`, () => {
    assert.equal(digest(expected.event), expected.digest);
    if (expected.printable !== undefined) assert.equal(printable(expected.digest), expected.printable);
  });
}

test("lone surrogates are shown, pairs are kept", () => {
  assert.equal(printable("a\ud800b😀\udc00"), "a\\ud800b😀\\udc00");
});

test("an event without data reads as one with nothing in it", () => {
  assert.equal(digest({ type: "cycle.end" }), "{}");
});
