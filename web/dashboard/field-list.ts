// The data of an event as a list of fields; a value there becomes a term of the filter.
import { html, nothing, type TemplateResult } from "lit/html.js";
import { setStyle } from "./set-style.ts";

import { type FieldRow, fieldRows, isNameable } from "./fields.ts";
import { termFor } from "./filter.ts";
import { shown } from "./shown.ts";

export const ROWS_STEP = 100;
const TERM_CHARS_MAX = 120;

export interface FieldListView {
  /** How many rows are shown. */
  readonly rowsMax: number;
  /** The places of long lists that are shown whole. */
  readonly open: ReadonlySet<string>;
  /** A text on its lines, cut where it is long. */
  readonly text: (text: string) => TemplateResult;
  readonly onMore: () => void;
  readonly onOpen: (place: string) => void;
  /** Add this term to the filter. */
  readonly onTerm: (term: string) => void;
}

export function fieldList(value: unknown, view: FieldListView): TemplateResult {
  const { rows, more } = fieldRows(value, view.rowsMax, view.open);
  if (rows.length === 0) return html`<p class="none">No data.</p>`;
  return html`<ul class="fields">${rows.map((row) => rowOf(row, view))}</ul>
    ${more ? html`<p><button type="button" id="detail-more" @click=${view.onMore}>${ROWS_STEP} more</button></p>` : nothing}`;
}

function rowOf({ key, path, depth, value, size, hidden }: FieldRow, view: FieldListView): TemplateResult {
  const canBeTerm = value !== null && value !== "" && isNameable(path) && value.length <= TERM_CHARS_MAX;
  return html`<li style=${setStyle({ "--depth": String(depth) })}>
    <span class="key">${shown(key, 80)}</span>
    ${value !== null ? valueOf(value, view) : size === 0 ? nothing : html`<span class="size">${size} ${size === 1 ? "entry" : "entries"}</span>`}
    ${hidden === null
      ? nothing
      : html`<span><button type="button" class="link" @click=${() => view.onOpen(hidden.place)}>and ${hidden.count.toLocaleString("en")} more</button></span>`}
    ${canBeTerm ? terms(path, value, view) : nothing}
  </li>`;
}

function valueOf(text: string, view: FieldListView): TemplateResult {
  if (!text.includes("\n")) return html`<span class="value">${view.text(text)}</span>`;
  return html`<pre class="value" tabindex="0" aria-label="Text">${view.text(text.trimEnd())}</pre>`;
}

function terms(path: string, text: string, { onTerm }: FieldListView): TemplateResult {
  const value = text.replaceAll('"', "");
  return html`<span class="terms">
    <button type="button" class="icon-button" aria-label=${`Show only ${path} ${shown(value, 40)}`} title="Show only these" @click=${() => onTerm(termFor(path, value))}>+</button>
    <button type="button" class="icon-button" aria-label=${`Leave out ${path} ${shown(value, 40)}`} title="Leave these out" @click=${() => onTerm(termFor(path, value, true))}>−</button>
  </span>`;
}
