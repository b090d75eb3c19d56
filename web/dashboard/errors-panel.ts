// What went wrong, alike errors together, the newest first.
import { html, nothing, type TemplateResult } from "lit/html.js";

import type { Errors } from "../mind/feelings.ts";
import { failure } from "./cycle-panel.ts";
import { type May, notGranted } from "./granted.ts";
import { linkTo } from "./links.ts";
import { shown } from "./shown.ts";
import { span } from "./time.ts";

const GROUPS_SHOWN = 8;

export function errorsPanel(errors: Errors, nowMs: number, may: May, on: { readonly onEvent: (id: string) => void }): TemplateResult {
  if (!may("error")) return html`<h2>Errors</h2>${notGranted("error")}`;
  if (errors.count === 0) return html`<h2>Errors</h2><p class="none">None among the events this page has seen.</p>`;
  const hidden = errors.groups.length - GROUPS_SHOWN;
  return html`<h2>Errors <span class="count">${errors.count.toLocaleString("en")}</span></h2>
    ${errors.groups.slice(0, GROUPS_SHOWN).map(
      ({ last, count }) => html`${failure(last, false, on, count > 1 ? `${count} times` : "")}
        <p class="note">
          ${span(nowMs - last.atMs)} ago${last.cycleKey === "" ? nothing : html`, in
            <a href=${linkTo({ kind: "cycle", id: last.cycleKey })}>cycle ${shown(String(last.cycle), 12)}</a>`}
        </p>`,
    )}
    ${hidden > 0 ? html`<p class="note">${hidden} other kinds are further back; filter the list by “error”.</p>` : nothing}`;
}
