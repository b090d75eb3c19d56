// What of the page is in its address: what is looked at, and the place where a replay stands still.
import { SPEEDS } from "../time/replay.ts";

/** A place of the past, and how fast it is played from there. */
export interface Place {
  readonly atMs: number;
  readonly speed: number;
}

/** Puts what is looked at into the address; nothing for an empty text. */
export function point(hash: string): void {
  const address = new URL(location.href);
  address.hash = hash;
  history.replaceState(null, "", address);
}

/** Keeps a place of the past; null for none. */
export function keepPlace(place: Place | null): void {
  const address = new URL(location.href);
  set(address, "at", place === null ? null : new Date(place.atMs).toISOString());
  set(address, "speed", place === null || place.speed === 1 ? null : String(place.speed));
  history.replaceState(null, "", address);
}

/** The place that the address names; null if it names none. */
export function addressedPlace(): Place | null {
  const { searchParams } = new URL(location.href);
  const atMs = Date.parse(searchParams.get("at") ?? "");
  const speed = SPEEDS.find((each) => String(each) === searchParams.get("speed")) ?? 1;
  return Number.isNaN(atMs) ? null : { atMs, speed };
}

function set(address: URL, name: string, value: string | null): void {
  if (value === null) address.searchParams.delete(name);
  else address.searchParams.set(name, value);
}
