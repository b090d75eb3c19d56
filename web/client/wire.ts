// What the bridge and a viewer say to each other, and nothing else: ARCHITECTURE.md, "The contract on the wire".

/** One event as every consumer gets it. */
export interface Event {
  readonly type: string;
  /** ISO 8601, UTC, milliseconds. */
  readonly ts: string;
  readonly cycle: number;
  readonly day: number;
  readonly data: Readonly<Record<string, unknown>>;
  /** Its place in the log, `ms-seq`. */
  readonly id: string;
  /** Its identity, `producer:seq`, wherever its place may come to lie. */
  readonly by?: string;
  /** Its ordinal in the log. */
  readonly n?: number;
}

/** Where a viewer stands in the log. */
export interface Cursor {
  readonly id: string;
  readonly n: number | null;
  readonly epoch: string | null;
}

export interface Hello {
  readonly epoch: string | null;
  /** Null while the bridge does not know the log yet; another hello follows then. */
  readonly id: string | null;
  readonly n: number | null;
  /** The ordinal of the log's newest event; a bridge of before 0.1 does not say it. */
  readonly head?: number | null;
  readonly server_time: string;
  /** What was asked for. */
  readonly types: readonly string[];
  /** What the token allows; a bridge of before 0.1 does not say it. */
  readonly granted?: readonly string[];
}

export interface Position {
  readonly id: string;
  readonly n: number | null;
}

/** Events that this viewer can no longer be given. */
export interface Gap {
  readonly after: string;
  readonly before: string | null;
  /** How many events of the log; null where it cannot be known. */
  readonly lost: number | null;
  /** `trimmed`, `slow`, `rewound`, `reset`, or one that a later bridge knows. */
  readonly reason: string;
}

export interface Bye {
  readonly code: string;
  readonly reason: string;
  readonly reconnect: boolean;
}

/** Whether the bridge can read the log. */
export interface LogState {
  readonly redis: "up" | "down";
}

/** What answers a fresh token. */
export interface Renewed {
  readonly sub?: string;
  /** When it ends, seconds since 1970. */
  readonly exp?: number | null;
  readonly types?: readonly string[];
  readonly error?: { readonly code: string; readonly message: string };
}
