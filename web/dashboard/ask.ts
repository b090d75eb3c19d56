// Asks the bridge over HTTP, and tells what it answered from that it could not be asked: "there is none" is an answer,
// "not now" is none.
import { backoffMs } from "../client/backoff.ts";

export class AskError extends Error {
  /** `absent`: there is no such thing; `passing`: it may be answered later; `token`: with another token; `refused`: never. */
  readonly kind: "absent" | "passing" | "token" | "refused";
  /** How long the bridge wants to be left alone. */
  readonly waitMs: number;

  constructor(message: string, kind: AskError["kind"], waitMs = 0) {
    super(message);
    this.kind = kind;
    this.waitMs = waitMs;
  }
}

export interface Insistence {
  readonly isWanted: () => boolean;
  /** Why there is no answer yet. */
  readonly onWait: (why: string) => void;
}

export class Asker {
  readonly #bridge: URL;
  readonly #token: () => string | undefined;
  readonly #waiting = new Set<() => void>();

  constructor(bridge: URL, token: () => string | undefined) {
    this.#bridge = bridge;
    this.#token = token;
  }

  /** Throws an `AskError` where the answer is not what was asked for. */
  async ask(path: string, query: Readonly<Record<string, string>>): Promise<unknown> {
    const token = this.#token();
    const address = new URL(`${path}?${new URLSearchParams(query)}`, this.#bridge);
    let answer: Response;
    try {
      answer = await fetch(address, token === undefined ? {} : { headers: { Authorization: `Bearer ${token}` } });
    } catch {
      throw new AskError("the bridge cannot be reached", "passing");
    }
    const body = (await answer.json().catch(() => null)) as { detail?: string } | null;
    if (answer.ok && body === null) throw new AskError("its answer broke off", "passing");
    if (!answer.ok) throw refusal(answer, body?.detail);
    return body;
  }

  /**
   * Asks until there is an answer: later each time, as the connection does, and at once after `hurry`. Undefined where
   * it is not wanted any more. Throws where asking again is of no use.
   */
  async insist<T>(ask: () => Promise<T>, { isWanted, onWait }: Insistence): Promise<T | undefined> {
    for (let attempt = 0; ; attempt += 1) {
      try {
        return await ask();
      } catch (error) {
        if (!(error instanceof AskError) || error.kind === "absent" || error.kind === "refused") throw error;
        if (!isWanted()) return undefined;
        onWait(error.message);
        // Without another token, which comes with a connection, the answer would be the same.
        await this.#wait(error.kind === "token" ? null : Math.max(backoffMs(attempt), error.waitMs));
        if (!isWanted()) return undefined;
      }
    }
  }

  /** The bridge is there again: whatever waits is asked now. */
  hurry(): void {
    for (const go of [...this.#waiting]) go();
  }

  #wait(ms: number | null): Promise<void> {
    return new Promise((resolve) => {
      const timer = ms === null ? undefined : setTimeout(() => go(), ms);
      const go = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(go);
        resolve();
      };
      this.#waiting.add(go);
    });
  }
}

function refusal(answer: Response, detail: string | undefined): AskError {
  const { status } = answer;
  const message = detail ?? `the bridge answered ${status}`;
  if (status === 404) return new AskError(message, "absent");
  if (status === 401) return new AskError("the bridge wants a token", "token");
  if (status !== 429 && status < 500) return new AskError(message, "refused");
  return new AskError(message, "passing", 1000 * (Number(answer.headers.get("Retry-After")) || 0));
}
