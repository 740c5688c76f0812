/** Sorts of latents, and one worth looking at of each. */
import type { Schemas } from "../api/client";

type Columns = Pick<Schemas["LatentColumns"], "kind" | "label" | "label_source" | "confirmed" | "precision" | "f1" | "max" | "protein_frequency">;

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
  /** A latent that shows the kind well; null where all are silent. */
  example: number | null;
}

/** The words of a label before its figures and letters: "helix (precision 0.9): E-3" is "helix". */
const wordsOf = (label: string): string => label.split(/ \(|: /)[0]!;

/** How well a latent stands for its kind. */
function support(columns: Columns, j: number): number {
  if (!((columns.max[j] ?? 0) > 0)) return -Infinity;
  // Named after the kind itself, then confirmed labels; then precision, F1, and how many proteins have it.
  const named = columns.label_source[j] === "kind" ? 200 : 0;
  return named + (columns.confirmed[j] ? 100 : 0) + 10 * (columns.precision[j] ?? columns.f1[j] ?? 0) + Math.min(1, columns.protein_frequency[j] ?? 0);
}

/** Kinds by number of latents, with an example of each; examples differ in what they are named where they can. */
export function kindsOf(columns: Columns): Kind[] {
  const members = new Map<string, number[]>();
  columns.kind.forEach((kind, j) => {
    const list = members.get(kind);
    if (list) list.push(j);
    else members.set(kind, [j]);
  });
  const late = (kind: string) => LAST.indexOf(kind);
  const order = [...members].sort(([a, x], [b, y]) => late(a) - late(b) || y.length - x.length);
  const used = new Set<string>();
  return order.map(([kind, latents]) => {
    const scored = latents.map((j) => ({ j, score: support(columns, j) })).filter((l) => l.score > -Infinity).sort((a, b) => b.score - a.score);
    const best = scored.find((l) => !used.has(wordsOf(columns.label[l.j] ?? ""))) ?? scored[0];
    if (best) used.add(wordsOf(columns.label[best.j] ?? ""));
    return { kind, n: latents.length, example: best?.j ?? null };
  });
}
