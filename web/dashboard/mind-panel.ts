// The state of the mind: what it feels, what it wants, what hurts, what it just decided, what it has in view.
import { html, nothing, type TemplateResult } from "lit/html.js";
import { classMap } from "lit/directives/class-map.js";
import { setStyle } from "./set-style.ts";

import type { Cycle, Decision, Verdict } from "../mind/cycle.ts";
import type { Pain } from "../mind/feelings.ts";
import { type Change, goneSince, lastDecided, type MindState } from "../mind/mind.ts";
import { type May, notGranted } from "./granted.ts";
import { linkTo } from "./links.ts";
import { shown } from "./shown.ts";
import type { Clock } from "./store.ts";
import { span } from "./time.ts";
import { verdictKind, VERDICT_MARKS } from "./verdict.ts";

const MOODS_SHOWN = 6;
const PAINS_SHOWN = 8;
const CONTEXTS_SHOWN = 24;
// A mind may give its reasons by the page; what hurts it and what it has in view must be in sight beside them.
const RATIONALE_CHARS_MAX = 200;
const REASONING_CHARS_MAX = 90;
const TITLE_CHARS_MAX = 2_000;

export function mindPanel(state: MindState, clock: Clock, may: May): TemplateResult {
  return html`<h2 class="unseen">The mind</h2>
    ${mood(state, clock, may)} ${focus(state, clock, may)} ${pains(state.pains, clock, may)} ${drives(state, may)}
    ${decided(state, clock, may)} ${windowOf(state, may)}
  `;
}

function card(title: string, aside: unknown, body: unknown, name: string): TemplateResult {
  return html`<section class="card ${name}" aria-label=${title}>
    <header><h3>${title}</h3><span class="aside">${aside}</span></header>
    ${body}
  </section>`;
}

function nothingYet(type: string, may: May): TemplateResult {
  return may(type) ? html`<p class="none">Not known yet: a mind tells it by <code>${type}</code>.</p>` : notGranted(type);
}

function age(atMs: number, nowMs: number): string {
  return `${span(nowMs - atMs)} ago`;
}

function lasted(sinceMs: number, heardMs: number): string {
  return `for ${span(heardMs - sinceMs)}`;
}

function mood(state: MindState, { nowMs, heardMs }: Clock, may: May): TemplateResult {
  const last = state.moods.at(-1);
  const gone = goneSince(state);
  const before = state.moods.slice(-MOODS_SHOWN - 1, -1).reverse();
  const body =
    last === undefined
      ? nothingYet("state.mood", may)
      : html`<p class="big" id="mood">${shown(last.now, 60)}${gone === null ? nothing : html` <small>when last heard of</small>`}</p>
          ${history(last, before, nowMs)}`;
  return card("Mood", last === undefined ? nothing : lasted(last.atMs, heardMs), body, "mood");
}

function history(last: Change, before: readonly Change[], nowMs: number): TemplateResult | typeof nothing {
  // What was before the first that was seen, the first says itself.
  const told = before.map(({ now, atMs }) => ({ now, title: age(atMs, nowMs) }));
  if (before.length === 0 && last.old !== "") told.push({ now: last.old, title: "before" });
  if (told.length === 0) return nothing;
  return html`<ol class="trail" aria-label="Moods before, newest first">
    ${told.map(({ now, title }) => html`<li title=${title}>${shown(now, 24)}</li>`)}
  </ol>`;
}

function focus(state: MindState, { heardMs }: Clock, may: May): TemplateResult {
  const last = state.focuses.at(-1);
  if (last === undefined) return card("Focus", nothing, nothingYet("state.focus", may), "focus");
  const before = last.old === "" ? nothing : html`<span class="was">before: ${shown(last.old, 60)}</span>`;
  const body = html`<p class="middle"><span id="focus">${shown(last.now, 80)}</span> ${before}</p>`;
  return card("Focus", lasted(last.atMs, heardMs), body, "focus");
}

function decided(state: MindState, { nowMs }: Clock, may: May): TemplateResult {
  const cycle = lastDecided(state);
  if (cycle === null) return card("Last decision", nothing, nothingYet("decision", may), "decided");
  const { atMs, id } = cycle.decision as Decision;
  const aside = html`<a href=${linkTo({ kind: "cycle", id: cycle.key })}>cycle ${shown(String(cycle.number), 12)}</a>,
    <a href=${linkTo({ kind: "event", id })}>${age(atMs, nowMs)}</a>`;
  return card("Last decision", aside, decision(cycle), "decided");
}

/** What was decided, why, and what the critics said of it. */
export function decision({ decision: made, critics }: Cycle): TemplateResult {
  const { intention, target, rationale } = made as Decision;
  return html`<p class="middle decision">
      <strong>${shown(intention || "(no intention told)", 200)}</strong>
      ${target === "" ? nothing : html`<span class="arrow" aria-hidden="true">→</span><span class="unseen">to</span> ${shown(target, 120)}`}
    </p>
    ${rationale === "" ? nothing : html`<p class="why" title=${shown(rationale, TITLE_CHARS_MAX)}>${shown(rationale, RATIONALE_CHARS_MAX)}</p>`}
    ${critics.length === 0 ? nothing : html`<ul class="critics">${lastWords(critics).map(verdict)}</ul>`}`;
}

/** The last word of each critic: what they said before was about proposals that were given up. */
export function lastWords(critics: readonly Verdict[]): readonly Verdict[] {
  return [...new Map(critics.map((each) => [each.agent, each])).values()];
}

function verdict({ agent, verdict: said, confidence, reasoning }: Verdict): TemplateResult {
  const kind = verdictKind(said);
  return html`<li class="verdict ${kind}">
    <span class="mark" aria-hidden="true">${VERDICT_MARKS[kind]}</span>
    <span class="agent">${shown(agent || "critic", 40)}</span>
    <span class="said">${shown(said, 40)}</span>
    <span class="sure">${confidence === null ? nothing : html`${confidence.toFixed(2)}<span class="unseen"> sure</span>`}</span>
    ${reasoning === "" ? nothing : html`<span class="reason" title=${shown(reasoning, TITLE_CHARS_MAX)}>${shown(reasoning, REASONING_CHARS_MAX)}</span>`}
  </li>`;
}

function pains(all: readonly Pain[], clock: Clock, may: May): TemplateResult {
  const hurting = all.filter(({ resolvedMs }) => resolvedMs === null).length;
  const aside = hurting === 0 ? nothing : `${hurting} now`;
  const body =
    all.length === 0 && !may("state.pain")
      ? notGranted("state.pain")
      : all.length === 0
      ? html`<p class="none">Nothing hurts, as far as was told.</p>`
      : html`<ul class="rows">${all.slice(0, PAINS_SHOWN).map((each) => pain(each, clock))}</ul>`;
  return card("Pain", aside, body, "pains");
}

function pain({ type, intensity, context, sinceMs, resolvedMs }: Pain, { nowMs, heardMs }: Clock): TemplateResult {
  const over = resolvedMs !== null;
  const when = over ? `eased ${age(resolvedMs, nowMs)}` : lasted(sinceMs, heardMs);
  return html`<li class=${classMap({ pain: true, over })} title=${shown(context)}>
    <span class="name"><span class="mark" aria-hidden="true">${over ? "✓" : "▲"}</span> ${shown(type, 60)}</span>
    ${over ? nothing : meter(intensity, "pain")}
    <span class="figure">${over || intensity === null ? "" : intensity.toFixed(2)}</span>
    <span class="note">${when}${context === "" ? nothing : html` · ${shown(context, 160)}`}</span>
  </li>`;
}

function drives({ drives: all }: MindState, may: May): TemplateResult {
  const sorted = [...all].sort(([, one], [, other]) => (other.hunger ?? 0) - (one.hunger ?? 0));
  const rows = sorted.map(
    ([name, { hunger, satisfiedBy }]) => html`<li>
      <span class="name">${shown(name, 40)}</span>
      ${meter(hunger, "drive")}
      <span class="figure">${hunger === null ? "–" : hunger.toFixed(2)}</span>
      ${satisfiedBy === "" ? nothing : html`<span class="note">eased by ${shown(satisfiedBy, 80)}</span>`}
    </li>`,
  );
  const body = rows.length === 0 ? nothingYet("state.drive", may) : html`<ul class="rows">${rows}</ul>`;
  return card("Drives", rows.length === 0 ? nothing : "hunger", body, "drives");
}

function meter(value: number | null, kind: string): TemplateResult {
  const share = Math.max(0, Math.min(1, value ?? 0));
  // The number beside it says the same.
  return html`<span class="meter ${kind}" aria-hidden="true"><span style=${setStyle({ width: `${(share * 100).toFixed(1)}%` })}></span></span>`;
}

function windowOf({ window }: MindState, may: May): TemplateResult {
  const { current, entered, left, atMs } = window;
  if (atMs === null) return card("Window", nothing, nothingYet("window.update", may), "window");
  const chips = current.slice(0, CONTEXTS_SHOWN).map((key) => context(key, entered.includes(key) ? "entered" : "", window.known));
  const gone = left.slice(0, CONTEXTS_SHOWN).map((key) => context(key, "left", window.known));
  const more = current.length - CONTEXTS_SHOWN;
  const aside = html`${current.length} in view <span class="plus">+${entered.length}</span> <span class="minus">−${left.length}</span>`;
  const body = html`<ul class="contexts">
    ${chips}${more > 0 ? html`<li class="more">and ${more} more</li>` : nothing}${gone}
  </ul>`;
  return card("Window", aside, body, "window");
}

function context(key: string, change: "entered" | "left" | "", known: MindState["window"]["known"]): TemplateResult {
  const { desc = "", resonance = null } = known.get(key) ?? {};
  const sign = { entered: "+", left: "−", "": "" }[change];
  return html`<li class=${change}>
    ${sign === "" ? nothing : html`<span class="sign">${sign}<span class="unseen"> ${change}</span></span>`}
    <span class="text">${shown(desc || key, 120)}</span>
    ${resonance === null || change === "left" ? nothing : html`<span class="sure">${resonance.toFixed(2)}</span>`}
  </li>`;
}
