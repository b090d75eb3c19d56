// Addresses of events and cycles.
import assert from "node:assert/strict";
import { test } from "node:test";

import { idBefore, isBefore, linkTo, parseLink } from "./links.ts";

test("a link is read as it was written, and anything else is none", () => {
  for (const hash of ["#event=17-0", "#cycle=17-0", "#cycle=1841"]) {
    assert.equal(linkTo(parseLink(hash) as never), hash);
  }
  for (const hash of ["", "#", "#event=", "#event=x", "#event=1-0&x", "#other=1-0", "#event=-1"]) {
    assert.equal(parseLink(hash), null, hash);
  }
});

test("the id before is the largest that is smaller", () => {
  assert.equal(idBefore("17-5"), "17-4");
  assert.equal(idBefore("17-0"), "16-18446744073709551615");
});

test("ids are in the order of the log, not of their letters", () => {
  const ids = ["9-10", "10-2", "10-11"].map((id) => ({ id }));
  assert.deepEqual(ids.map((one) => ids.map((other) => isBefore(one, other))), [
    [false, true, true],
    [false, false, true],
    [false, false, false],
  ]);
});
