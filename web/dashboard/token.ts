// Asks for a token where the bridge wants one. Kept for this tab alone, and never in an address.
import type { State } from "../client/client.ts";
import { byId } from "./element.ts";

const KEY = "broadcast.token";

export class Token {
  readonly #form = byId<HTMLFormElement>("token-form");
  readonly #input = byId<HTMLInputElement>("token");

  constructor(onGiven: () => void) {
    this.#form.addEventListener("submit", (submit) => {
      submit.preventDefault();
      sessionStorage.setItem(KEY, this.#input.value.trim());
      onGiven();
    });
  }

  read(): string | undefined {
    return sessionStorage.getItem(KEY) ?? undefined;
  }

  showFor(state: State): void {
    const code = state.name === "ended" || state.name === "waiting" ? state.code : "";
    const wanted = code === "unauthorized" || code === "expired" || code === "revoked";
    if (wanted && this.#form.hidden) {
      this.#form.hidden = false;
      this.#input.focus();
    } else if (state.name === "live") {
      this.#form.hidden = true;
      this.#input.value = "";
    }
  }
}
