// Fetches one event that an address names and this page does not hold: a viewer of its own that begins just before it.
import { connect, type Event, type Options } from "../client/client.ts";
import { idBefore } from "./links.ts";

const PATIENCE_MS = 5_000;

/** Null if the log no longer holds it, or if it never was there. */
export function lookUp(bridge: URL, id: string, token: Options["token"]): Promise<Event | null> {
  return new Promise((give) => {
    const done = (event: Event | null): void => {
      clearTimeout(timer);
      connection.close();
      give(event);
    };
    const timer = setTimeout(() => done(null), PATIENCE_MS);
    const connection = connect(bridge, {
      ...(token === undefined ? {} : { token }),
      since: idBefore(id),
      onEvent: (event) => done(event.id === id ? event : null),
      onGap: () => done(null),
    });
  });
}
