// A cut through the log: what lies before it, and what follows. Pure.

export interface Cut {
  /** What lies before reaches up to this, and has it. */
  readonly until: string;
  /** What follows begins here. */
  readonly since: string;
}

/** Before a time: what happens at it follows. */
export function cutAt(atMs: number): Cut {
  return { until: new Date(atMs - 1).toISOString(), since: new Date(atMs).toISOString() };
}

/** Behind an event: `since` an id means what comes after it. */
export function cutBehind(id: string): Cut {
  return { until: id, since: id };
}
