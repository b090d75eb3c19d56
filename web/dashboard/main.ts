// The page: what arrives goes into the store at once; what is seen is written once a frame, and never while hidden.
import { connect, type Connection, type State } from "../client/client.ts";
import { patternsMatcher } from "../client/patterns.ts";
import type { Cursor, Event } from "../client/wire.ts";
import { currentCycle, cycleOf, findCycle, goneSince } from "../mind/mind.ts";
import { timeOf } from "../mind/values.ts";
import { addressedPlace, keepPlace, point } from "./address.ts";
import { Announcer } from "./announcer.ts";
import { Bar } from "./bar.ts";
import { type Condition, condition, QUIET_MS, replayCondition } from "./condition.ts";
import { Detail, fetchedItem } from "./detail.ts";
import { download } from "./download.ts";
import { byId } from "./element.ts";
import { Frames } from "./frames.ts";
import { Health } from "./health.ts";
import type { Item } from "./held.ts";
import { Help } from "./help.ts";
import { type Key, listenToKeys } from "./keys.ts";
import { linkTo, parseLink } from "./links.ts";
import { Memory } from "./memory.ts";
import { ChartPanel } from "./chart-panel.ts";
import { Panels } from "./panels.ts";
import { Past } from "./past.ts";
import { Player } from "./player.ts";
import { readPreferences } from "./preferences.ts";
import { restWhileHidden } from "./rest.ts";
import { Scrubber } from "./scrubber.ts";
import { Search } from "./search.ts";
import { shown } from "./shown.ts";
import { type Clock, Store } from "./store.ts";
import { Stream } from "./stream.ts";
import { Tabs } from "./tabs.ts";
import { Token } from "./token.ts";
import { Tools } from "./tools.ts";

const TICK_MS = 500;
const GROWTH_MS = 100;
const PAGE_ROWS = 10;
const CATCHUP = 1_000;
const HELD_EVENTS = 10_000;

const bridge = new URL(".", document.baseURI);
const preferences = readPreferences();
const live = new Store();
const health = new Health(new URL("readyz", bridge));
const token = new Token(() => connection.retry());
const past = new Past(bridge, () => token.read());
const frames = new Frames(draw);
const announcer = new Announcer();
const tabs = new Tabs();
const bar = new Bar({ onRetry: () => connection.retry(), onErrors: () => showErrors() });
const stream = new Stream(live.held, { changed: schedule, onOpen: open, onOlder: () => void openOlder() });
const tools = new Tools({ onFilter: (matches, cycle) => stream.setFilter(matches, cycle), onPause: togglePause });
const chart = new ChartPanel(live, (term) => tools.setField("ts", term));
const panels = new Panels(live, past, {
  onFilterCycle: (cycle) => {
    tools.showCycle(cycle);
    tabs.show("stream");
  },
  onEvent: (id) => void openById(id),
  onChanged: schedule,
  onPinned: (key) => {
    point(key === null ? "" : linkTo({ kind: "cycle", id: key }));
    schedule();
  },
});
const detail = new Detail(live.held, {
  now: () => clock(Date.now()).nowMs,
  onClose: close,
  onOpen: (item) => {
    stream.select(item);
    open(item);
  },
  onTerm: (term) => tools.add(term),
  findRelated: (event) => past.related(event),
  onCycle: (event) => {
    close();
    panels.pin(cycleOf(shownStore.mind, event)?.key ?? event.id);
    tabs.show("cycle");
  },
});

const player = new Player(past, {
  onPlayed: (events) => {
    for (const event of events) shownStore.replayed(event, player.replay?.state ?? shownStore.mind);
    frames.soon();
  },
  onJump: () => {
    const { replay } = player;
    if (replay !== null) turnTo(Store.of(replay.recent(HELD_EVENTS), replay.state));
  },
  onChange: () => {
    scrubber.show();
    // So it can be kept, and passed on.
    keepPlace(player.place);
    schedule();
  },
  onEnd: toLive,
  onSay: (sentence) => scrubber.say(sentence),
  newest: () => {
    const last = live.held.findLast((item) => item.kind === "event");
    return last?.kind === "event" ? last.event : null;
  },
});
const search = new Search(past);
const memory = new Memory(past, live, schedule);
const scrubber = new Scrubber(past, player, { onLive: toLive, onClose: closePast, onToggle: arrange });

/** What is shown: `live`, or the past that is played. */
let shownStore = live;
/** How many events were live when the past was turned to: the others are waiting. */
let liveSeen = 0;
let state: State = { name: "connecting", attempt: 0 };
let stateSinceMs = Date.now();
/** Where the page stood before it went on with the newest; null where nothing was passed over. */
let passedFrom: Cursor | null = null;
let connection = connected();

function connected(): Connection {
  const own = connect(bridge, {
    token: () => token.read() ?? "",
    catchup: CATCHUP,
    onEvent: arrived,
    onGap: (gap) => {
      live.gap(gap);
      schedule();
    },
    onState: (next) => own === connection && entered(next),
  });
  return own;
}

/** More was missed than the page could hold: it goes on with the newest, and says what lies between. */
function passOver(): void {
  const left = connection;
  passedFrom = left.cursor;
  connection = connected();
  left.close();
}

function arrived(event: Event): void {
  const nowMs = Date.now();
  if (passedFrom !== null) {
    const { id, n } = passedFrom;
    const lost = n === null || event.n === undefined ? 0 : event.n - n - 1;
    // Of another log's ordinals no number can be made.
    live.passOver({ after: id, before: event.id, lost: lost > 0 ? lost : null, reason: "passed" });
    passedFrom = null;
    memory.forget();
  }
  live.event(event, nowMs);
  if (event.type === "error" && live.lastEventMs === nowMs && !document.hidden) {
    const last = live.mind.errors.groups[0]?.last;
    announcer.alert(shown(last?.source ?? "", 80), shown(last?.message ?? "", 200), nowMs);
  }
  frames.soon();
}

function entered(next: State): void {
  if (next.name === "live") {
    const n = connection.cursor?.n ?? null;
    // A bridge that has just begun says it by its second hello.
    const isNews = state.name !== "live" || state.head === null;
    if (isNews && next.head !== null && n !== null && next.head - n > HELD_EVENTS) return passOver();
    live.clockOffsetMs = next.clockOffsetMs;
    live.head = next.head;
    panels.setGranted(patternsMatcher(next.granted));
    if (next.redis !== null) health.forget();
    if (state.name !== "live") past.hurry();
  }
  if (next.name !== state.name) stateSinceMs = Date.now();
  state = next;
  if (next.name !== "connecting") panels.isConnected = next.name === "live";
  token.showFor(next);
  schedule();
}

// --- what is seen

function schedule(): void {
  frames.next();
}

function draw(nowMs: number): void {
  // The list and the panels in turn: two short tasks, where one long one would make the reader wait.
  if (panels.show(nowMs, clock(nowMs))) {
    schedule();
    return;
  }
  stream.render(player.replay !== null || state.name === "live");
  tools.show({ shown: stream.view.items.length, held: shownStore.held, mode: player.replay?.status === "paused" ? "paused" : stream.view.mode });
  bar.showCounts(live, shownStore, player.replay !== null);
  bar.showCondition(present(nowMs));
  // What came too soon after the last time is shown by the next frame; where none comes, by this.
  setTimeout(() => !document.hidden && panels.isStale && schedule(), GROWTH_MS);
}

function present(nowMs: number): Condition {
  const { lastEventMs, mind, clockOffsetMs } = live;
  const { replay } = player;
  const gone = goneSince(mind);
  const heard = gone === null ? null : { ...gone, atMs: gone.atMs - clockOffsetMs };
  const now = condition({ state, lastEventMs, unready: health.unready, gone: heard, toGo: state.name === "live" ? live.toGo(connection.cursor) : 0, nowMs });
  return replay === null ? now : replayCondition(now, replay, live.seen - liveSeen, player.speed);
}

/** The clock of the mind that is shown: it has stopped while a replay has. */
function clock(nowMs: number): Clock {
  const { replay } = player;
  if (replay !== null) return shownStore.clock(replay.atMs ?? nowMs, true);
  return live.clock(nowMs + live.clockOffsetMs, state.name === "live" && state.redis !== "down");
}

function tick(): void {
  if (document.hidden) return;
  const nowMs = Date.now();
  if (state.name === "live" && state.redis === null && nowMs - (live.lastEventMs ?? stateSinceMs) > QUIET_MS) {
    health.check(nowMs);
  }
  if (state.name === "live") void memory.recall();
  const now = present(nowMs);
  bar.showCondition(now);
  bar.showRate(live, nowMs);
  if (preferences.chart) chart.show(nowMs);
  panels.show(nowMs, clock(nowMs));
  scrubber.extend(live.mind.lastMs);
  scrubber.show();
  announcer.say(now.word, live, nowMs);
}

// --- the past, and back

function turnTo(store: Store): void {
  if (shownStore === live) liveSeen = live.seen;
  shownStore = store;
  detail.show(store.held);
  panels.turnTo(store);
  stream.show(store.held);
  schedule();
}

function toLive(): void {
  player.leave();
  if (shownStore !== live) turnTo(live);
}

async function goToAddressedTime(): Promise<void> {
  const place = addressedPlace();
  if (place === null) return;
  player.speed = place.speed;
  await scrubber.open();
  await player.goTo(place.atMs + 1, false);
  // Who has a link to a cycle wants the whole of it, though it was made while the cycle was under way.
  const link = parseLink(location.hash);
  const linked = link?.kind === "cycle" ? findCycle(shownStore.mind, link.id) : null;
  if (linked?.outcome === "running" && linked === currentCycle(shownStore.mind)) await player.finishCycle();
}

/** The past where what is held ends. */
async function openOlder(): Promise<void> {
  const { edge } = stream;
  if (edge === null) return;
  await scrubber.open();
  await player.goTo(timeOf(edge), false);
}

async function openPast(): Promise<void> {
  if (scrubber.isOpen) closePast();
  else await scrubber.open();
}

function closePast(): void {
  toLive();
  scrubber.close();
  byId("past").focus();
}

/** Below the parts lies the past, or the chart where it is wanted. */
function arrange(): void {
  byId("throughput").hidden = !preferences.chart || scrubber.isOpen;
  byId("past").setAttribute("aria-expanded", String(scrubber.isOpen));
}

/** In the past the keys of cycles move through time; live they choose what is looked at. */
function stepCycle(by: 1 | -1): void {
  if (player.replay === null) panels.step(by);
  else void player.stepCycle(by);
}

// --- what the reader does

function open(item: Item): void {
  detail.open(item);
  if (item.kind === "event") point(linkTo({ kind: "event", id: item.event.id }));
}

function close(): void {
  if (!detail.isOpen) return;
  const hadFocus = byId("detail").contains(document.activeElement);
  detail.close();
  point("");
  if (hadFocus) byId("list").focus();
}

function togglePause(): void {
  if (player.replay === null) stream.togglePause();
  else player.toggle();
}

async function openById(id: string): Promise<void> {
  search.stop();
  const held = shownStore.held.findLast((item) => item.kind === "event" && item.event.id === id);
  if (held !== null) {
    stream.select(held);
    open(held);
    return;
  }
  const event = await search.find(id);
  if (event !== null) open(fetchedItem(event));
}

/** Follows the address: `#event=ID`, `#cycle=ID`. */
function follow(): void {
  const link = parseLink(location.hash);
  search.stop();
  if (link?.kind === "event") void openById(link.id);
  if (link?.kind === "cycle") {
    close();
    panels.pin(link.id);
    tabs.show("cycle");
  }
}

function move(rows: number): void {
  const item = stream.move(rows);
  if (item !== null && detail.isOpen) open(item);
}

function showErrors(): void {
  close();
  tabs.show("cycle");
  byId("errors-body").scrollIntoView({ block: "nearest" });
  byId("errors-body").focus();
}

function toError(direction: 1 | -1): void {
  const found = stream.toError(direction);
  // One that was recalled may be older than all that is held.
  const last = shownStore.mind.errors.groups[0]?.last;
  search.stop(found === null && last === undefined ? "No error is known." : "");
  if (found !== null) open(found);
  else if (last !== undefined) void openById(last.id);
}

const keys: Key[] = [
  { key: "j", does: "next event", action: () => move(1) },
  { key: "k", does: "event before", action: () => move(-1) },
  { key: "ArrowDown", does: "next event", action: () => move(1), also: true },
  { key: "ArrowUp", does: "event before", action: () => move(-1), also: true },
  { key: "PageDown", does: "", action: () => move(PAGE_ROWS), also: true },
  { key: "PageUp", does: "", action: () => move(-PAGE_ROWS), also: true },
  { key: "Home", does: "oldest event held", action: () => move(-Infinity) },
  { key: "End", does: "newest, and follow", action: () => stream.follow() },
  { key: "G", does: "", action: () => stream.follow(), also: true },
  { key: "Enter", does: "open the event", action: () => stream.selected !== null && open(stream.selected) },
  { key: "Escape", does: "close it", action: close },
  { key: " ", does: "pause, and go on", action: togglePause },
  { key: "/", does: "filter", action: () => tools.focusFilter() },
  { key: "e", does: "next error", action: () => toError(1) },
  { key: "E", does: "error before", action: () => toError(-1) },
  { key: "[", does: "cycle before", action: () => stepCycle(-1) },
  { key: "]", does: "cycle after", action: () => stepCycle(1) },
  { key: ",", does: "in the past: event before", action: () => void player.step(-1) },
  { key: ".", does: "in the past: next event", action: () => void player.step(1) },
  { key: "+", does: "in the past: zoom in", action: () => scrubber.zoom(1) },
  { key: "-", does: "in the past: zoom out", action: () => scrubber.zoom(-1) },
  { key: "c", does: "copy the event as JSON", action: () => detail.copyJson(detail.item ?? stream.selected) },
  { key: "y", does: "copy a link to it", action: () => detail.copyLink(detail.item ?? stream.selected) },
  { key: "t", does: "back in time, and out of it", action: () => void openPast() },
  { key: "?", does: "this help", action: () => help.open() },
];
const help = new Help(keys, preferences, arrange);
listenToKeys(keys, () => preferences.singleKeys);
// On a narrow page an open event lies over every part.
byId("tabs").addEventListener("click", close);
byId("past").addEventListener("click", () => void openPast());
byId("download").addEventListener("click", () => download(stream.view.items));
byId("empty-clear").addEventListener("click", () => tools.clear());
document.addEventListener("visibilitychange", () => !document.hidden && schedule());
restWhileHidden({ rest: () => connection.close(), wake: () => connection.retry() });
// A machine that is back on its network need not wait for the next attempt.
addEventListener("online", () => state.name === "waiting" && connection.retry());
addEventListener("hashchange", follow);
tools.apply();
setInterval(tick, TICK_MS);
tick();
// Where the address names a place and a cycle or event, these are looked at there.
void goToAddressedTime().then(follow);
