// The page: what arrives goes into the store at once; what is seen is written once a frame, and never while hidden.
import { connect, type State } from "../client/client.ts";
import { Announcer } from "./announcer.ts";
import { Bar } from "./bar.ts";
import { type Condition, condition, QUIET_MS } from "./condition.ts";
import { byId } from "./element.ts";
import { Health } from "./health.ts";
import { listenToKeys } from "./keys.ts";
import { Store } from "./store.ts";
import { Stream } from "./stream.ts";
import { Token } from "./token.ts";
import { Tools } from "./tools.ts";

const TICK_MS = 500;
const PAGE_ROWS = 10;

const store = new Store();
const health = new Health(new URL("readyz", document.baseURI));
const bar = new Bar(() => connection.retry());
const token = new Token(() => connection.retry());
const announcer = new Announcer();
const stream = new Stream(store.held, schedule);
const tools = new Tools({ onFilter: (matches) => stream.setFilter(matches), onPause: () => stream.togglePause() });

let state: State = { name: "connecting", attempt: 0 };
let stateSinceMs = Date.now();
let scheduled = false;

const connection = connect(new URL(".", document.baseURI), {
  token: () => token.read() ?? "",
  onEvent: (event) => {
    store.event(event, Date.now());
    schedule();
  },
  onGap: (gap) => {
    store.gap(gap);
    schedule();
  },
  onState: entered,
});

function entered(next: State): void {
  if (next.name === "live") {
    store.clockOffsetMs = next.clockOffsetMs;
    if (next.redis !== null) health.forget();
  }
  if (next.name !== state.name) stateSinceMs = Date.now();
  state = next;
  token.showFor(next);
  schedule();
}

function schedule(): void {
  // A hidden page gets no frames: the one asked for now comes when it is seen again.
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(frame);
}

function frame(): void {
  scheduled = false;
  stream.render();
  tools.show({ shown: stream.view.items.length, held: store.held.length, mode: stream.view.mode });
  bar.showCounts(store);
  bar.showCondition(present(Date.now()));
}

function present(nowMs: number): Condition {
  return condition({ state, stateSinceMs, lastEventMs: store.lastEventMs, unready: health.unready, nowMs });
}

function tick(): void {
  if (document.hidden) return;
  const nowMs = Date.now();
  if (state.name === "live" && state.redis === null && nowMs - (store.lastEventMs ?? stateSinceMs) > QUIET_MS) {
    health.check(nowMs);
  }
  const now = present(nowMs);
  bar.showCondition(now);
  bar.showRate(store, nowMs);
  announcer.say(now.word, store, nowMs);
}

byId("empty-clear").addEventListener("click", () => tools.clear());
// A machine that is back on its network need not wait for the next attempt.
addEventListener("online", () => state.name === "waiting" && connection.retry());
listenToKeys({
  " ": () => stream.togglePause(),
  ArrowDown: () => stream.move(1),
  ArrowUp: () => stream.move(-1),
  j: () => stream.move(1),
  k: () => stream.move(-1),
  PageDown: () => stream.move(PAGE_ROWS),
  PageUp: () => stream.move(-PAGE_ROWS),
  Home: () => stream.move(-Infinity),
  End: () => stream.follow(),
  G: () => stream.follow(),
  Enter: () => stream.open(),
  Escape: () => stream.close(),
  "/": () => tools.focusFilter(),
});
tools.apply();
setInterval(tick, TICK_MS);
tick();
