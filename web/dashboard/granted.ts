// What a token does not allow is said, so that nobody takes it for a mind that is silent.
import { html, type TemplateResult } from "lit/html.js";

/** Whether a type of events may be read. */
export type May = (type: string) => boolean;

export function notGranted(type: string): TemplateResult {
  return html`<p class="none">Your token may not read <code>${type}</code>.</p>`;
}
