// The client for any page: follows the log across drops, restarts and its own mistakes.
//
//     import { connect } from "https://bridge.example/client.js";
//     connect("https://bridge.example", { types: "sense.*", onEvent: (event) => console.log(event.type, event.data) });
//
// It keeps its place in the log and tells it to the bridge on every new connection, so nothing is missed and nothing
// comes twice; what can no longer be given is told to `onGap`.
import { io, type Socket } from "socket.io-client";

import { backoffMs } from "./backoff.ts";
import type { EventTypes } from "./catalogue.gen.ts";
import { type EventOf, guarded, Handlers } from "./handlers.ts";
import { Place } from "./place.ts";
import type { Bye, Cursor, Event, Gap, Hello, LogState, Position, Renewed } from "./wire.ts";

export type * from "./catalogue.gen.ts";
export type { EventOf } from "./handlers.ts";
export type { Bye, Cursor, Event, Gap } from "./wire.ts";

export type State =
  /** On its way; `attempt` counts what has failed since it was live. */
  | { readonly name: "connecting"; readonly attempt: number }
  /** Events flow. */
  | {
      readonly name: "live";
      /** Null until the bridge has said whether it can read the log. */
      readonly redis: "up" | "down" | null;
      readonly clockOffsetMs: number;
      /** The patterns of what the token allows. */
      readonly granted: readonly string[];
      /** The `n` of the log's newest event when it became live: up to there it catches up. Null if not known. */
      readonly head: number | null;
    }
  /** The bridge cannot be reached, or said to come back; `until` is on this machine's clock. */
  | {
      readonly name: "waiting";
      readonly until: number;
      readonly attempt: number;
      readonly code: string;
      readonly reason: string;
    }
  /** The bridge does not want this viewer back as it is (or `close` was called); `retry` tries all the same. */
  | { readonly name: "ended"; readonly code: string; readonly reason: string };

export interface Options {
  /** A function is asked again on every connection, so that a token can be fresh. */
  readonly token?: string | (() => string | Promise<string>);
  /** Which types: `"sense.*, -sense.all"` or a list of patterns; all by default. */
  readonly types?: string | readonly string[];
  /** Where to begin: an id, a cursor, a duration ago (`5m`) or a time; the newest events by default. */
  readonly since?: string | Cursor;
  /** How many of the newest events to begin with, where `since` is not given. */
  readonly catchup?: number;
  readonly onEvent?: (event: Event) => void;
  readonly onGap?: (gap: Gap) => void;
  readonly onState?: (state: State) => void;
}

export interface Connection {
  readonly state: State;
  /** Where it stands; as `since` of another `connect` it goes on from here. Null before the first hello. */
  readonly cursor: Cursor | null;
  /**
   * Calls `handler` for each event of a type, its data typed by the catalogue, or of a pattern (`"wave.*"`); what is
   * returned ends that. Only what passes the connection's own `types` comes.
   */
  on<Type extends keyof EventTypes>(type: Type, handler: (event: EventOf<Type>) => void): () => void;
  on(types: string, handler: (event: Event) => void): () => void;
  /** Does not wait for the next attempt. */
  retry(): void;
  /** Asks for the token again and presents it on the open connection, which keeps its place and sees what it allows. */
  renew(): Promise<void>;
  close(): void;
}

/** Connects to a bridge; `url` may have a path, where a proxy serves the bridge under one. */
export function connect(url: string | URL, options: Options = {}): Connection {
  return new Client(new URL(url, globalThis.location?.href), options);
}

const STEADY_MS = 5_000;
const ANSWER_MS = 10_000;

class Client implements Connection {
  #state: State = { name: "connecting", attempt: 0 };
  readonly #options: Options;
  readonly #place: Place;
  readonly #handlers = new Handlers();
  readonly #socket: Socket;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #failures = 0;
  #liveSince = 0;

  constructor(url: URL, options: Options) {
    this.#options = options;
    this.#place = new Place(typeof options.since === "object" ? options.since : null);
    this.#socket = io(url.origin, {
      path: `${url.pathname.replace(/\/$/, "")}/socket.io/`,
      transports: ["websocket", "polling"],
      tryAllTransports: true,
      timeout: 10_000,
      multiplex: false,
      // Its own reconnection neither says when it will try again nor comes back after a packet DISCONNECT.
      reconnection: false,
      autoConnect: false,
      auth: (give) => void this.#authenticate(give),
    });
    this.#listen();
    // Not at once, so that the caller has what `connect` returns before it is called.
    queueMicrotask(() => this.#state.name === "connecting" && this.retry());
  }

  get state(): State {
    return this.#state;
  }

  get cursor(): Cursor | null {
    return this.#place.cursor;
  }

  on(types: string, handler: (event: never) => void): () => void {
    return this.#handlers.add(types, handler as (event: Event) => void);
  }

  retry(): void {
    if (this.#socket.connected) return;
    clearTimeout(this.#timer);
    this.#enter({ name: "connecting", attempt: this.#failures });
    // Who was told of it may have closed.
    if (this.#state.name === "connecting") this.#socket.connect();
  }

  async renew(): Promise<void> {
    const { token } = this.#options;
    const fresh = typeof token === "function" ? await token() : token;
    if (!this.#socket.connected) return; // the next connection asks for it anyway
    const answer: Renewed = await this.#socket.timeout(ANSWER_MS).emitWithAck("token", { token: fresh });
    if (answer.error) throw new Error(`${answer.error.code}: ${answer.error.message}`);
  }

  close(): void {
    this.#end("closed", "closed by this page");
  }

  #listen(): void {
    this.#socket
      .on("hello", (hello: Hello) => this.#hello(hello))
      .on("state", (log: LogState) => this.#logState(log))
      .on("event", (event: Event) => this.#event(event))
      .on("position", (position: Position) => this.#place.position(position))
      .on("gap", (gap: Gap) => {
        this.#place.gap(gap);
        guarded(this.#options.onGap, gap);
      })
      .on("bye", (bye: Bye) => (bye.reconnect === false ? this.#end(bye.code, bye.reason) : this.#fail(bye)))
      .on("disconnect", (reason) => this.#fail({ code: "dropped", reason }))
      .on("connect_error", (error) => this.#connectError(error));
  }

  #event(event: Event): void {
    if (!this.#place.event(event)) return;
    guarded(this.#options.onEvent, event);
    this.#handlers.call(event);
  }

  async #authenticate(give: (auth: object) => void): Promise<void> {
    const { token, types, since, catchup } = this.#options;
    try {
      const fresh = typeof token === "function" ? await token() : token;
      // Fields that are undefined do not reach the wire.
      give({ token: fresh, types, since: this.#place.cursor ?? since, catchup });
    } catch (error) {
      this.#fail({ code: "no_token", reason: String(error) });
    }
  }

  #hello(hello: Hello): void {
    this.#place.hello(hello);
    this.#liveSince = Date.now();
    const clockOffsetMs = Date.parse(hello.server_time) - Date.now() || 0;
    // A second hello on one connection names the place that the first did not know; it takes nothing back.
    const redis = this.#state.name === "live" ? this.#state.redis : null;
    this.#enter({ name: "live", redis, clockOffsetMs, granted: hello.granted ?? [], head: hello.head ?? null });
  }

  #logState({ redis }: LogState): void {
    if (this.#state.name === "live") this.#enter({ ...this.#state, redis });
  }

  #connectError(error: Error & { data?: { code?: string } }): void {
    // Inactive means that the bridge itself said no. A network that fails leaves the socket active.
    if (this.#socket.active) this.#fail({ code: "unreachable", reason: error.message });
    else this.#end(error.data?.code ?? "refused", error.message);
  }

  #fail({ code, reason }: { code: string; reason: string }): void {
    if (this.#state.name === "waiting" || this.#state.name === "ended") return;
    // A bridge that lets us in and drops us at once is not to be asked twice a second for ever.
    if (this.#state.name === "live" && Date.now() - this.#liveSince > STEADY_MS) this.#failures = 0;
    const wait = backoffMs(this.#failures);
    this.#failures += 1;
    this.#timer = setTimeout(() => this.retry(), wait);
    this.#leave({ name: "waiting", until: Date.now() + wait, attempt: this.#failures, code, reason });
  }

  #end(code: string, reason: string): void {
    clearTimeout(this.#timer);
    this.#leave({ name: "ended", code, reason });
  }

  /** All is done before it is told: who is told may call `retry` or `close`. */
  #leave(state: State): void {
    this.#state = state;
    this.#socket.disconnect();
    this.#enter(state);
  }

  #enter(state: State): void {
    this.#state = state;
    guarded(this.#options.onState, state);
  }
}
