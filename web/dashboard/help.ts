// The dialog that tells the keys, and has the choices of this person.
import { html, render } from "lit/html.js";

import { byId } from "./element.ts";
import { FAMILIES, MEANINGS, NAMES } from "./family.ts";
import { type Key, keyName } from "./keys.ts";
import { keepPreferences, type Preferences } from "./preferences.ts";

const THEMES = ["auto", "light", "dark"] as const;

export class Help {
  readonly #dialog = byId<HTMLDialogElement>("help");
  readonly #keys: readonly Key[];
  readonly #preferences: Preferences;
  readonly #changed: () => void;

  constructor(keys: readonly Key[], preferences: Preferences, changed: () => void) {
    this.#keys = keys;
    this.#preferences = preferences;
    this.#changed = changed;
    byId("help-button").addEventListener("click", () => this.open());
    this.#apply();
  }

  open(): void {
    this.#render();
    this.#dialog.showModal();
  }

  #apply(): void {
    const { theme } = this.#preferences;
    if (theme === "auto") delete document.documentElement.dataset["theme"];
    else document.documentElement.dataset["theme"] = theme;
    keepPreferences(this.#preferences);
    this.#changed();
  }

  #render(): void {
    const { theme, singleKeys, chart } = this.#preferences;
    const told = this.#keys.filter(({ also }) => also !== true);
    render(
      html`<h2>Keys</h2>
        <dl class="keys">
          ${told.map(({ key, does }) => html`<div><dt><kbd>${keyName(key)}</kbd></dt><dd>${does}</dd></div>`)}
        </dl>
        <h2>Filter</h2>
        <dl class="keys wide">
          <div><dt><code>sense.* -sense.all</code></dt><dd>types, and types not</dd></div>
          <div><dt><code>rain "dark clouds"</code></dt><dd>words anywhere in an event</dd></div>
          <div><dt><code>cycle:41 cycle:50..60</code></dt><dd>events of these cycles</dd></div>
          <div><dt><code>ts:2026-02-14T19:01</code></dt><dd>events of this minute; draw over the chart</dd></div>
          <div><dt><code>drive:rest</code></dt><dd>a field of the data, by its path</dd></div>
        </dl>
        <h2>Colours</h2>
        <dl class="keys kinds">
          ${FAMILIES.map((family) => html`<div><dt data-family=${family}>${NAMES[family]}</dt><dd>${MEANINGS[family]}</dd></div>`)}
        </dl>
        <h2>Your choices</h2>
        <p class="choices">
          <label>Theme <select @change=${(event: Event) => this.#choose({ theme: (event.target as HTMLSelectElement).value as Preferences["theme"] })}>
            ${THEMES.map((each) => html`<option value=${each} ?selected=${each === theme}>${each}</option>`)}
          </select></label>
          <label><input type="checkbox" .checked=${singleKeys} @change=${(event: Event) => this.#choose({ singleKeys: (event.target as HTMLInputElement).checked })}> Letters alone are keys</label>
          <label><input type="checkbox" .checked=${chart} @change=${(event: Event) => this.#choose({ chart: (event.target as HTMLInputElement).checked })}> Show the chart of the last minutes</label>
        </p>
        <form method="dialog"><button type="submit">Close</button></form>`,
      this.#dialog,
    );
  }

  #choose(choice: Partial<Preferences>): void {
    Object.assign(this.#preferences, choice);
    this.#apply();
  }
}
