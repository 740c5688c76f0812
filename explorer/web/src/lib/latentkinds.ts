/** Sorts of latents, and one worth looking at of each. */
import type { Schemas } from "../api/client";

type Columns = Pick<Schemas["LatentColumns"], "kind" | "confirmed" | "precision" | "f1" | "max" | "protein_frequency">;

export const KIND_WORDS: Readonly<Record<string, string>> = {
  "amino-acid identity": "Fires on one amino acid, wherever it stands.",
  "amino-acid class": "Fires on amino acids that are alike, such as small or acidic ones.",
  "motif-like": "Fires on few residues at a time, with the same letters around them.",
  "domain-like": "Fires on long stretches, as domains are.",
  periodic: "Fires at regular steps, such as every third or fourth residue of a helix.",
  "contact-like": "Fires on residues that are far apart in sequence and touch in the structure.",
  "n-terminal": "Fires near the start of proteins.",
  "c-terminal": "Fires near the end of proteins.",
  "whole-protein": "Fires along whole proteins or not at all.",
  dense: "Fires on a large share of all residues; seldom has one meaning.",
  rare: "Fires on too few residues to say what it means.",
  dead: "Never fires.",
  other: "None of the rules fits.",
};
/** Those that say least come last. */
const LAST = ["other", "rare", "dense", "dead"];

export interface Kind {
  kind: string;
  n: number;
  /** The latent of the kind whose label is best supported; null where all are silent. */
  example: number | null;
}

/** Kinds by number of latents, the best supported latent of each as its example. */
export function kindsOf(columns: Columns): Kind[] {
  const kinds = new Map<string, Kind & { best: number }>();
  columns.kind.forEach((kind, j) => {
    const now = kinds.get(kind) ?? { kind, n: 0, example: null, best: -Infinity };
    now.n++;
    const silent = !((columns.max[j] ?? 0) > 0);
    // Confirmed labels before others; then precision, F1, and at last how many proteins have it.
    const support = (columns.confirmed[j] ? 100 : 0) + 10 * (columns.precision[j] ?? columns.f1[j] ?? 0) + Math.min(1, columns.protein_frequency[j] ?? 0);
    if (!silent && support > now.best) Object.assign(now, { example: j, best: support });
    kinds.set(kind, now);
  });
  const late = (kind: string) => LAST.indexOf(kind);
  return [...kinds.values()].sort((a, b) => late(a.kind) - late(b.kind) || b.n - a.n).map(({ kind, n, example }) => ({ kind, n, example }));
}
