// Times as people read them, in the local time zone.

/** `19:01:23`, and the date too if it is of another day than now. */
export function clockTime(atMs: number, nowMs: number): string {
  const at = new Date(atMs);
  const time = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  const sameDay = at.toDateString() === new Date(nowMs).toDateString();
  return sameDay ? time : `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${time}`;
}

/** The time of an event's `ts`: seconds and milliseconds apart, since a narrow page shows only the first. */
export function eventTime(ts: string): { readonly seconds: string; readonly millis: string } {
  const at = new Date(ts);
  if (Number.isNaN(at.getTime())) return { seconds: String(ts).slice(0, 12), millis: "" };
  const seconds = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  return { seconds, millis: `.${String(at.getMilliseconds()).padStart(3, "0")}` };
}

/** `45 s ago`, `3 min ago`, `2 h ago`, `5 days ago`. */
export function ago(spanMs: number): string {
  const seconds = Math.floor(Math.max(0, spanMs) / 1000);
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 2 * 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86_400)} days ago`;
}

/** A span as people say it: `340 ms`, `1.8 s`, `4 min`, `2 h`, `3 days`. */
export function span(ms: number): string {
  const least = Math.max(0, ms);
  if (least < 9.95 && !Number.isInteger(least)) return `${Number(least.toFixed(1))} ms`;
  if (least < 999.5) return `${Math.round(least)} ms`;
  if (least < 9_950) return `${(least / 1000).toFixed(1)} s`;
  const seconds = Math.round(least / 1000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 2 * 86_400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} days`;
}

function two(number: number): string {
  return String(number).padStart(2, "0");
}
