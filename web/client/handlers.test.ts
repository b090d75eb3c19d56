// Who is called for which type.
import assert from "node:assert/strict";
import { test } from "node:test";

import type { Connection } from "./client.ts";
import { Handlers } from "./handlers.ts";
import { FilterError } from "./patterns.ts";
import type { Event } from "./wire.ts";

const event = (type: string): Event => ({ type, ts: "", cycle: 0, day: 0, data: {}, id: "1-0" });

test("a handler gets the events of its type or pattern, until it is taken away", () => {
  const handlers = new Handlers();
  const had: string[] = [];
  const off = handlers.add("sense.project", ({ type }) => had.push(`exact ${type}`));
  handlers.add("sense.*, -sense.all", ({ type }) => had.push(`pattern ${type}`));
  for (const type of ["sense.project", "sense.all", "sense.wind", "sense"]) handlers.call(event(type));
  off();
  handlers.call(event("sense.project"));

  assert.deepEqual(had, [
    "exact sense.project",
    "pattern sense.project",
    "pattern sense.wind",
    "pattern sense.project",
  ]);
});

test("the same function given twice is called twice, and taken away once", () => {
  const handlers = new Handlers();
  let calls = 0;
  const count = (): void => void (calls += 1);
  const off = handlers.add("a", count);
  handlers.add("a", count);
  handlers.call(event("a"));
  off();
  handlers.call(event("a"));

  assert.equal(calls, 3);
});

test("what is no pattern is refused at once", () => {
  assert.throws(() => new Handlers().add("st**", () => {}), FilterError);
  assert.throws(() => new Handlers().add("a b", () => {}), FilterError);
});

test("the data of a known type is typed", () => {
  // Checked by the compiler; never called.
  const typed = (connection: Connection): void => {
    connection.on("sense.project", (e) => e.data.projection satisfies string | undefined);
    // @ts-expect-error the catalogue knows no such field
    connection.on("sense.project", (e) => e.data.projektion);
    connection.on("weather.*", (e) => e.data["sky"] satisfies unknown);
  };
  assert.equal(typeof typed, "function");
});
