// What an address points at: `#event=ID`, `#cycle=ID`. Pure.

export type Link =
  | { readonly kind: "event"; readonly id: string }
  /** A cycle's key, which is the id of its `cycle.start`, or its number. */
  | { readonly kind: "cycle"; readonly id: string };

/** Null if it points at nothing that this page knows. */
export function parseLink(hash: string): Link | null {
  const found = /^#(event|cycle)=(\d{1,20}(?:-\d{1,20})?)$/.exec(hash);
  if (found === null) return null;
  const [, kind, id] = found;
  return kind === "event" ? { kind, id: id as string } : { kind: "cycle", id: id as string };
}

export function linkTo(link: Link): string {
  return `#${link.kind}=${link.id}`;
}

/** The id just before an event's: where a reader begins that wants to have it first. */
export function idBefore(id: string): string {
  const [ms, seq] = id.split("-").map(BigInt) as [bigint, bigint | undefined];
  if (seq === undefined || seq > 0n) return `${ms}-${(seq ?? 1n) - 1n}`;
  return `${ms - 1n}-18446744073709551615`;
}

/** Whether an event lies before another in the log. */
export function isBefore(one: { readonly id: string }, other: { readonly id: string }): boolean {
  const [oneMs, oneSeq, otherMs, otherSeq] = [...one.id.split("-"), ...other.id.split("-")].map(BigInt) as [bigint, bigint, bigint, bigint];
  return oneMs < otherMs || (oneMs === otherMs && oneSeq < otherSeq);
}
