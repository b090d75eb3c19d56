// About how many bytes of memory a value takes. Pure.

const OBJECT_BYTES = 32;
const ENTRY_BYTES = 16;
// Beyond this depth nothing more is counted: the envelope's own bound of 64 KiB is near enough then.
const DEPTH_MAX = 32;

export function weightOf(value: unknown, depth = 0): number {
  if (typeof value === "string") return textWeight(value);
  if (typeof value !== "object" || value === null || depth > DEPTH_MAX) return 0;
  let bytes = OBJECT_BYTES;
  for (const key in value) bytes += ENTRY_BYTES + weightOf((value as Record<string, unknown>)[key], depth + 1);
  return bytes;
}

/** An engine keeps a text in one byte a character where it can, else in two. */
function textWeight(text: string): number {
  return ENTRY_BYTES + (/[^\u0000-\u00ff]/.test(text) ? 2 * text.length : text.length);
}
