// Asks `/readyz` where the bridge does not say by itself whether it can read the log.

const INTERVAL_MS = 10_000;

export class Health {
  /** Why the bridge is not ready; null if it is, or if nobody asked. */
  unready: string | null = null;
  #askedMs = 0;
  readonly #url: URL;

  constructor(url: URL) {
    this.#url = url;
  }

  /** Asks, at most every 10 seconds. */
  check(nowMs: number): void {
    if (nowMs - this.#askedMs < INTERVAL_MS) return;
    this.#askedMs = nowMs;
    void this.#ask();
  }

  forget(): void {
    this.unready = null;
  }

  async #ask(): Promise<void> {
    try {
      const answer = await fetch(this.#url, { cache: "no-store" });
      const body: unknown = await answer.json();
      this.unready = answer.ok ? null : reasons(body);
    } catch {
      // No answer at all is the socket's matter: it will say that the bridge is down.
      this.unready = null;
    }
  }
}

function reasons(body: unknown): string {
  const given = (body as { reasons?: unknown } | null)?.reasons;
  return Array.isArray(given) && given.length > 0 ? given.map(String).join(", ") : "not ready";
}
