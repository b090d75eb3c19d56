// One cycle: what went wrong in it, its stages as a waterfall, and the cycles before it.
import { html, nothing, type TemplateResult } from "lit/html.js";
import { classMap } from "lit/directives/class-map.js";
import { setStyle } from "./set-style.ts";

import type { Bar, Cycle, Failure } from "../mind/cycle.ts";
import { type Lane, LANES } from "../mind/lanes.ts";
import type { MindState } from "../mind/mind.ts";
import { type May, notGranted } from "./granted.ts";
import { isBefore, linkTo } from "./links.ts";
import { lastWords } from "./mind-panel.ts";
import { Roving } from "./roving.ts";
import { shown } from "./shown.ts";
import type { Clock } from "./store.ts";
import { clockTime, span } from "./time.ts";
import { VERDICT_MARKS, verdictKind } from "./verdict.ts";

const STRIP_HEIGHT = 28;
const STRIP_BAR = 8;

const sticks = new Roving();
const stages = new Roving();

export interface CyclePanelEvents {
  readonly onPick: (cycle: Cycle) => void;
  readonly onStep: (by: 1 | -1) => void;
  readonly onNewest: () => void;
  readonly onFilter: (cycle: Cycle) => void;
  readonly onEvent: (id: string) => void;
}

export interface CycleView {
  readonly state: MindState;
  /** The one that is shown; null where it is not known, or before the first. */
  readonly cycle: Cycle | null;
  /** What was asked for by the address, or null where the newest is followed. */
  readonly pinned: string | null;
  /** What became of asking for it, where it is not there. */
  readonly sought: string;
  readonly clock: Clock;
  readonly may: May;
}

export function cyclePanel(view: CycleView, on: CyclePanelEvents): TemplateResult {
  const { cycle, pinned, sought, may } = view;
  if (cycle === null) return pinned === null ? noCycle() : unknownCycle(sought, on);
  return html`
    ${head(view, cycle, on)} ${strip(view, cycle, on)} ${failed(cycle, on)} ${waterfall(cycle, view.clock.heardMs, on)}
    ${["cycle.start", "cycle.end", "error"].filter((type) => !may(type)).map(notGranted)}
  `;
}

function noCycle(): TemplateResult {
  return html`<div class="void">
    <p>No cycle yet. It begins with <code>cycle.start</code>:</p>
    <pre><code>from broadcast import cycle, emit

with cycle(day=1):
    emit("sense.project", {"sense": "wind"})</code></pre>
  </div>`;
}

function unknownCycle(sought: string, on: CyclePanelEvents): TemplateResult {
  return html`<div class="void">
    <p>${sought}</p>
    <button type="button" @click=${on.onNewest}>Show the newest cycle</button>
  </div>`;
}

function head({ pinned, state, clock, may }: CycleView, cycle: Cycle, on: CyclePanelEvents): TemplateResult {
  const at = state.cycles.indexOf(cycle);
  return html`<header class="cycle-head">
    <h2 id="cycle-title">Cycle ${shown(String(cycle.number), 12)}</h2>
    <span class="outcome ${outcomeKind(cycle)}" id="cycle-outcome">${outcome(cycle, clock.heardMs, may)}</span>
    <span class="aside">day ${shown(String(cycle.day), 12)} · ${clockTime(cycle.fromMs, clock.nowMs)} · ${counted(cycle.events, "event")}</span>
    <span class="buttons">
      ${pinned === null ? nothing : html`<button type="button" class="quiet-button" id="cycle-newest" @click=${on.onNewest}>Newest</button>`}
      <button type="button" class="quiet-button" title="Show its events in the list" @click=${() => on.onFilter(cycle)}>Filter</button>
      <button type="button" class="icon-button" aria-label="Cycle before" title="Cycle before  [" @click=${() => on.onStep(-1)}>‹</button>
      <button type="button" class="icon-button" aria-label="Cycle after" title="Cycle after  ]" ?disabled=${at >= 0 && at === state.cycles.length - 1} @click=${() => on.onStep(1)}>›</button>
    </span>
  </header>`;
}

function counted(count: number, word: string): string {
  return `${count} ${word}${count === 1 ? "" : "s"}`;
}

function outcomeKind({ outcome: how, failureCount }: Cycle): string {
  if (failureCount > 0) return "failed";
  return how === "cut off" ? "cut" : how;
}

function outcome(cycle: Cycle, heardMs: number, may: May): string {
  // Whether it still runs cannot be known then.
  if (cycle.outcome === "running" && !may("cycle.end")) return `${span(cycle.lastMs - cycle.fromMs)} so far`;
  const took = span(cycle.durationMs ?? (cycle.toMs ?? Math.max(heardMs, cycle.lastMs)) - cycle.fromMs);
  const failure = cycle.failureCount > 0 ? `✗ ${counted(cycle.failureCount, "error")}, ` : "";
  if (cycle.outcome === "running") return `${failure}running ${took}`;
  return `${failure}${cycle.outcome === "ended" ? took : `cut off after ${took}`}`;
}

/** The cycles that are known: how long each took, and which of them went wrong. */
function strip({ state, clock: { heardMs }, may }: CycleView, cycle: Cycle, on: CyclePanelEvents): TemplateResult {
  const { cycles } = state;
  const spans = cycles.map((each) => (each.toMs ?? Math.max(heardMs, each.lastMs)) - each.fromMs);
  // Of those that are over: one that does not end must not make all others look short.
  const longest = Math.max(1, ...spans.filter((_, i) => cycles[i]?.outcome === "ended"));
  const failures = cycles.filter(({ failureCount }) => failureCount > 0).length;
  const label = `${counted(cycles.length, "cycle")}, ${failures} of them with errors`;
  return html`<div class="strip" role="group" data-keys aria-label=${label} @keydown=${sticks.moved}>
    ${cycles.map((each, i) => {
      const height = Math.min(STRIP_HEIGHT, Math.max(3, ((spans[i] as number) / longest) * STRIP_HEIGHT));
      const classes = { failed: each.failureCount > 0, cut: each.outcome === "cut off", shown: each === cycle };
      const said = `cycle ${shown(String(each.number), 12)}: ${outcome(each, heardMs, may)}`;
      return html`<button type="button" class=${classMap({ stick: true, ...classes })} style=${setStyle({ width: `${STRIP_BAR}px` })}
        tabindex=${sticks.tabindex(i, cycles.length, cycles.indexOf(cycle))} title=${said} aria-label=${said} @click=${() => on.onPick(each)}>
        <span style=${setStyle({ height: `${height.toFixed(1)}px` })}></span>
      </button>`;
    })}
  </div>`;
}

function failed(cycle: Cycle, on: CyclePanelEvents): TemplateResult | typeof nothing {
  const { failures, failureCount, number } = cycle;
  if (failureCount === 0) return nothing;
  const hidden = failureCount - failures.length;
  return html`<section class="failures" aria-label=${`Why cycle ${shown(String(number), 12)} failed`}>
    ${hidden > 0 ? html`<p class="note">and ${hidden} before these</p>` : nothing}
    ${failures.map((each, i) => failure(each, i === failures.length - 1, on, placeIn(cycle, each)))}
  </section>`;
}

/** In which stage of its cycle, and how long after its beginning. */
function placeIn(cycle: Cycle, each: Failure): string {
  const lane = laneOfFailure(cycle, each);
  // Where its beginning was not seen, nobody knows how long ago that was.
  const at = cycle.whole ? `at ${span(each.atMs - cycle.fromMs)}` : "";
  return [lane === null ? "" : `in ${lane}`, at].filter(Boolean).join(", ");
}

/** The stage that was under way; null outside of all. */
function laneOfFailure({ bars }: Cycle, each: Failure): Lane | null {
  // What happened in the same millisecond is told apart by its place in the log.
  const hasBegun = (bar: Bar, i: number): boolean =>
    bar.fromMs < each.atMs || (bar.fromMs === each.atMs && (i === 0 || isBefore({ id: bar.firstId }, each)));
  const bar = bars.findLast(hasBegun);
  return bar !== undefined && each.atMs <= (bar.toMs ?? Infinity) ? bar.lane : null;
}

/** An error in words, with what there is to add; its traceback opens. */
export function failure(each: Failure, open: boolean, on: Pick<CyclePanelEvents, "onEvent">, more: string): TemplateResult {
  const { source, message, traceback, id } = each;
  return html`<div class="failure">
    <p>
      <span class="mark" aria-hidden="true">✗</span>
      <strong>${shown(source || "error", 80)}</strong>
      <span class="message" title=${shown(message, 2_000)}>${shown(message || "(no message)", 240)}</span>
      ${more === "" ? nothing : html`<span class="times">${more}</span>`}
      <button type="button" class="quiet-button" @click=${() => on.onEvent(id)}>Open</button>
    </p>
    ${traceback.trim() === "" ? nothing : html`<details ?open=${open}><summary>Traceback</summary><pre tabindex="0" aria-label="Traceback">${lines(traceback)}</pre></details>`}
  </div>`;
}

function lines(text: string): string {
  return text.trimEnd().split("\n").map((line) => shown(line, 2_000)).join("\n");
}

function waterfall(cycle: Cycle, heardMs: number, on: CyclePanelEvents): TemplateResult {
  const endMs = cycle.toMs ?? Math.max(heardMs, cycle.lastMs);
  const wholeMs = Math.max(1, endMs - cycle.fromMs);
  const facts = factsOf(cycle);
  for (const lane of LANES) facts[lane] = [failedIn(cycle, lane), facts[lane]].filter(Boolean).join(" · ");
  // As they stand in the document: lane after lane.
  const inOrder = LANES.flatMap((lane) => cycle.bars.filter((bar) => bar.lane === lane));
  const tabindex = (bar: Bar): "0" | "-1" => stages.tabindex(inOrder.indexOf(bar), inOrder.length);
  return html`<div class="waterfall" role="list" data-keys aria-label="Stages of the cycle" @keydown=${stages.moved}>
      ${LANES.map((lane) => {
        const bars = cycle.bars.filter((bar) => bar.lane === lane);
        return html`<div class="lane" role="listitem" data-lane=${lane}>
          <span class="label">${lane}</span>
          <span class="track">${bars.map((bar) => barOf(bar, { fromMs: cycle.fromMs, wholeMs, endMs, tabindex: tabindex(bar) }, on))}</span>
          <span class="fact" title=${facts[lane]}>${facts[lane] || (bars.length === 0 ? "–" : "")}</span>
        </div>`;
      })}
    </div>
    <div class="axis" aria-hidden="true"><span>0</span><span>${span(wholeMs / 2)}</span><span>${span(wholeMs)}</span></div>
    ${cycle.barsHidden > 0 ? html`<p class="note">${cycle.barsHidden} more stages are not drawn.</p>` : nothing}
    ${cycle.whole ? nothing : html`<p class="note">Its beginning was before what this page has seen.</p>`}
    <p class="note"><a href=${linkTo({ kind: "cycle", id: cycle.key })}>Link to this cycle</a></p>`;
}

interface Track {
  readonly fromMs: number;
  readonly wholeMs: number;
  readonly endMs: number;
  readonly tabindex: "0" | "-1";
}

function barOf(bar: Bar, { fromMs, wholeMs, endMs, tabindex }: Track, on: CyclePanelEvents): TemplateResult {
  const left = ((bar.fromMs - fromMs) / wholeMs) * 100;
  const took = (bar.toMs ?? endMs) - bar.fromMs;
  const width = Math.max(0, Math.min(100 - left, (took / wholeMs) * 100));
  const said = `${bar.lane}: ${span(took)}, ${counted(bar.events, "event")}`;
  return html`<button type="button" class=${classMap({ stage: true, running: bar.toMs === null })} data-family=${bar.lane}
    style=${setStyle({ left: `min(${left.toFixed(2)}%, calc(100% - 4px))`, width: `${width.toFixed(2)}%` })}
    tabindex=${tabindex} title=${said} aria-label=${said} @click=${() => on.onEvent(bar.firstId)}></button>`;
}

/** What failed in a stage, each once; empty where nothing did. */
function failedIn(cycle: Cycle, lane: Lane): string {
  const failures = cycle.failures.filter((each) => laneOfFailure(cycle, each) === lane);
  const sources = new Set(failures.map(({ source }) => shown(source || "error", 40)));
  return sources.size === 0 ? "" : `✗ ${[...sources].join(", ")}`;
}

/** What came of each stage, in a few words. */
function factsOf(cycle: Cycle): Record<Lane, string> {
  const { decision, critics, novelty, assessment } = cycle;
  const count = (lane: Lane): number =>
    cycle.bars.filter((bar) => bar.lane === lane).reduce((total, { events }) => total + events, 0);
  const some = (lane: Lane, word: string): string => (count(lane) === 0 ? "" : counted(count(lane), word));
  const said = lastWords(critics).map(({ agent, verdict }) => `${VERDICT_MARKS[verdictKind(verdict)]} ${agent}`);
  return {
    sense: some("sense", "event"),
    wave: cycle.resonated === null ? "" : counted(cycle.resonated, "context"),
    observe: [novelty === null ? "" : `novelty ${novelty.toFixed(2)}`, shown(assessment, 120)].filter(Boolean).join(" · "),
    decide: decision === null ? "" : shown([decision.intention, decision.target].filter(Boolean).join(" → "), 160),
    critics: shown(said.join("  "), 160),
    act: cycle.action === "" ? some("act", "event") : shown(cycle.action, 160),
    write: some("write", "context"),
  };
}
