// What this person chose, kept in this browser. Never an event, never a token.

const KEY = "broadcast.preferences";

export interface Preferences {
  theme: "auto" | "light" | "dark";
  /** Whether letters alone do something (WCAG 2.1.4 asks that they can be turned off). */
  singleKeys: boolean;
  chart: boolean;
}

const DEFAULTS: Preferences = { theme: "auto", singleKeys: true, chart: true };

export function readPreferences(): Preferences {
  try {
    const kept: unknown = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    return { ...DEFAULTS, ...(kept as Partial<Preferences>) };
  } catch {
    // A browser that keeps nothing, or something else under this name: then it is as if nothing had been chosen.
    return { ...DEFAULTS };
  }
}

export function keepPreferences(preferences: Preferences): void {
  try {
    localStorage.setItem(KEY, JSON.stringify(preferences));
  } catch {
    // Then it holds for this visit.
  }
}
