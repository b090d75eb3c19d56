// What could not be asked is asked again, later each time; an answer is an answer.
import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { Asker, AskError } from "./ask.ts";

const asker = (): Asker => new Asker(new URL("http://bridge.test/"), () => undefined);

/** Answers from now on with these, in turn; null cannot be reached. */
function answering(...answers: readonly (Response | null)[]): { asked: number } {
  const log = { asked: 0 };
  mock.method(globalThis, "fetch", async () => {
    const answer = answers[Math.min(log.asked, answers.length - 1)];
    log.asked += 1;
    if (answer == null) throw new TypeError("Failed to fetch");
    return answer.clone();
  });
  return log;
}

const json = (status: number, body: unknown, headers = {}): Response => new Response(JSON.stringify(body), { status, headers });

async function kindOf(answer: Response | null): Promise<readonly [string, string]> {
  answering(answer);
  const error = await asker().ask("history", {}).catch((each: unknown) => each);
  assert.ok(error instanceof AskError);
  return [error.kind, error.message];
}

test("an answer that says no is told from none", async () => {
  assert.deepEqual(await kindOf(null), ["passing", "the bridge cannot be reached"]);
  assert.deepEqual(await kindOf(json(404, { detail: "gone" })), ["absent", "gone"]);
  assert.deepEqual(await kindOf(json(401, {})), ["token", "the bridge wants a token"]);
  assert.deepEqual(await kindOf(json(403, { detail: "no" })), ["refused", "no"]);
  assert.deepEqual(await kindOf(json(429, { detail: "slow" })), ["passing", "slow"]);
  assert.deepEqual(await kindOf(new Response("<html>", { status: 502 })), ["passing", "the bridge answered 502"]);
  assert.deepEqual(await kindOf(new Response("{", { status: 200 })), ["passing", "its answer broke off"]);
  mock.reset();
});

test("it is asked again later each time, never in a hurry, and told why", async () => {
  const log = answering(null, null, null, json(200, { events: [] }));
  mock.timers.enable({ apis: ["setTimeout"] });
  const told: string[] = [];
  const asking = asker();
  const answer = asking.insist(() => asking.ask("history", {}), { isWanted: () => true, onWait: (why) => told.push(why) });
  const asked: number[] = [];
  for (let ms = 0; ms < 5_000; ms += 100) {
    await new Promise(setImmediate);
    asked.push(log.asked);
    mock.timers.tick(100);
  }

  assert.deepEqual(await answer, { events: [] });
  assert.equal(told.length, 3);
  assert.ok((asked[2] as number) <= 1 && (asked[9] as number) <= 3, String(asked));
  mock.timers.reset();
  mock.reset();
});

test("when the bridge is there again it is asked at once; and never again once it is not wanted", async () => {
  const log = answering(json(401, {}), json(401, {}), json(200, { here: true }));
  const asking = asker();
  let isWanted = true;
  const given = asking.insist(() => asking.ask("history", {}), { isWanted: () => isWanted, onWait: () => {} });
  for (const count of [1, 2]) {
    while (log.asked < count) await new Promise(setImmediate);
    await new Promise(setImmediate);
    asking.hurry();
  }
  assert.deepEqual(await given, { here: true });

  answering(null);
  const left = asking.insist(() => asking.ask("history", {}), { isWanted: () => isWanted, onWait: () => (isWanted = false) });
  await new Promise(setImmediate);
  asking.hurry();
  assert.equal(await left, undefined);
  mock.reset();
});
