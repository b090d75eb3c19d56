// Whether a critic is for it or against it: critics say so in words of their own. Pure.

export type VerdictKind = "for" | "against" | "unsure";

export const VERDICT_MARKS: Readonly<Record<VerdictKind, string>> = { for: "✓", against: "✗", unsure: "~" };

const FOR = /^(approve|accept|agree|allow|ok|okay|pass|yes|support|good|for|true)/i;
const AGAINST = /^(veto|reject|deny|disagree|block|fail|no|object|oppose|refuse|against|bad|false)/i;

export function verdictKind(verdict: string): VerdictKind {
  const word = verdict.trim();
  if (AGAINST.test(word)) return "against";
  return FOR.test(word) ? "for" : "unsure";
}
