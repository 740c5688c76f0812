/** Groups of examples, and what they are called. */
export const GROUPS = ["top", "q10", "q9", "q8", "q7", "q6", "q5", "q4", "q3", "q2", "q1", "random"] as const;
export const OUTCOMES = ["true_positive", "near_miss", "false_positive"] as const;
export type Group = (typeof GROUPS)[number];
export type Outcome = (typeof OUTCOMES)[number];
export type Tab = Group | Outcome;

export const isOutcome = (tab: Tab): tab is Outcome => (OUTCOMES as readonly string[]).includes(tab);

/** What a tab shows, in a sentence. */
export function describe(tab: Tab, total: number, concept: string): string {
  if (tab === "top") return `The proteins with the highest values, of ${total}.`;
  if (tab === "random") return `Any proteins on which it fires, of ${total}.`;
  if (tab === "true_positive") return `It fires where “${concept}” is.`;
  if (tab === "near_miss") return `“${concept}” is there and the latent stays silent on it.`;
  if (tab === "false_positive") return `It fires where “${concept}” is not.`;
  const tenth = Number(tab.slice(1));
  return `Tenth ${tenth} of its proteins by highest value${tenth === 10 ? " (the strongest)" : tenth === 1 ? " (the weakest)" : ""}, drawn from ${total}.`;
}

/** The tenth of proteins (1 … 10) that a value falls in, by the 11 ends of the tenths. */
export function tenthOf(value: number, ends: readonly number[]): number | null {
  if (ends.length !== 11 || !(value >= ends[0]!) || value > ends[10]! * 1.0001) return null;
  for (let i = 1; i < 10; i++) if (value < ends[i]!) return i;
  return 10;
}
