// What the list shows as a file of JSON lines, for other programs and for readers to whom a moving list says little.
import type { Item } from "./held.ts";

export function asLines(items: readonly Item[]): string {
  return items.map((item) => (item.kind === "event" ? `${JSON.stringify(item.event)}\n` : "")).join("");
}

export function download(items: readonly Item[]): void {
  const address = URL.createObjectURL(new Blob([asLines(items)], { type: "application/x-ndjson" }));
  const link = document.createElement("a");
  link.href = address;
  link.download = `events-${new Date().toISOString().replaceAll(":", "-").slice(0, 19)}.jsonl`;
  link.click();
  // Not at once: the browser reads it after the click.
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
