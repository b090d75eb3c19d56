// What went wrong, alike errors together, the newest first.
import { html, nothing, type TemplateResult } from "lit/html.js";

import type { Errors } from "../mind/feelings.ts";
import { failure } from "./cycle-panel.ts";
import { type May, notGranted } from "./granted.ts";
import { linkTo } from "./links.ts";
import { shown } from "./shown.ts";
import { span } from "./time.ts";

export const GROUPS_STEP = 8;

export interface ErrorsPanelEvents {
  readonly onEvent: (id: string) => void;
  /** More kinds of them are to be shown. */
  readonly onMore: () => void;
}

/** How many errors are known of; there may be more in the log. */
export function errorCount({ count, more }: Errors): string {
  return `${count.toLocaleString("en")}${more ? "+" : ""}`;
}

export function errorsPanel(errors: Errors, groupsMax: number, nowMs: number, may: May, on: ErrorsPanelEvents): TemplateResult {
  if (!may("error")) return html`<h2>Errors</h2>${notGranted("error")}`;
  if (errors.count === 0) return html`<h2>Errors</h2><p class="none">None among the events this page has seen.</p>`;
  const hidden = errors.groups.length - groupsMax;
  const kinds = hidden === 1 ? "1 more kind" : `${Math.min(hidden, GROUPS_STEP)} more kinds`;
  return html`<h2>Errors <span class="count">${errorCount(errors)}</span></h2>
    ${errors.groups.slice(0, groupsMax).map(
      ({ last, count }) => html`${failure(last, false, on, count > 1 ? `${count} times` : "")}
        <p class="note">
          ${span(nowMs - last.atMs)} ago${last.cycleKey === "" ? nothing : html`, in
            <a href=${linkTo({ kind: "cycle", id: last.cycleKey })}>cycle ${shown(String(last.cycle), 12)}</a>`}
        </p>`,
    )}
    ${hidden > 0 ? html`<button type="button" @click=${on.onMore}>${kinds}</button>` : nothing}`;
}
