/** Concepts: what they are called, which are shown, and how well each dictionary knows them. */
import type { Schemas } from "../api/client";
import { interpolate, readableInk, type Rgb } from "./colour";
import { conceptName } from "./concept";

export type Summary = Schemas["ConceptSummary"];
export type LatentScore = Schemas["LatentScore"];

const KINDS: Record<string, string> = {
  "amino acid": "Amino acids",
  "amino-acid class": "Amino-acid classes",
  dssp: "Secondary structure",
  uniprot: "UniProt features",
  protein: "Whole proteins",
  pfam: "Pfam domains",
  own: "Your own labels",
};

/** Where labels are from, in words. */
export const kindName = (kind: string): string => KINDS[kind] ?? kind.charAt(0).toUpperCase() + kind.slice(1);

/** The best of a concept's scores over dictionaries, or null where none was tested. */
export function bestOf(scores: Readonly<Record<string, LatentScore>>): LatentScore | null {
  let best: LatentScore | null = null;
  for (const score of Object.values(scores)) if (best === null || (score.score.f1 ?? -1) > (best.score.f1 ?? -1)) best = score;
  return best;
}

export type Status = "found" | "missed" | "untested";

/** Found by some dictionary, tested but not found, or too rare to be tested. */
export function statusOf(concept: Summary): Status {
  const scores = Object.values(concept.best);
  if (scores.some((s) => s.found)) return "found";
  return scores.length ? "missed" : "untested";
}

export type Sort = "f1" | "name" | "clusters" | "positive";

export interface Wanted {
  /** Words that its name must hold, as recorded or spelled out. */
  q: string;
  /** Kinds to show; none is all. */
  kinds: readonly string[];
  status: Status | "all";
  sort: Sort;
}

const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

/** Concepts that are wanted, in order; those without a score last. */
export function choose(concepts: readonly Summary[], { q, kinds, status, sort }: Wanted): Summary[] {
  const words = q.toLowerCase().split(/\s+/).filter(Boolean);
  const kept = concepts.filter((c) => {
    if (kinds.length && !kinds.includes(c.kind)) return false;
    if (status !== "all" && statusOf(c) !== status) return false;
    const text = `${c.concept} ${conceptName(c.concept)} ${kindName(c.kind)}`.toLowerCase();
    return words.every((w) => text.includes(w));
  });
  const f1 = new Map(kept.map((c) => [c, bestOf(c.best)?.score.f1 ?? -1]));
  const value = (c: Summary) => (sort === "f1" ? f1.get(c)! : sort === "clusters" ? c.n_clusters : c.n_positive);
  const named = (a: Summary, b: Summary) => collator.compare(a.concept, b.concept);
  return kept.sort(sort === "name" ? named : (a, b) => value(b) - value(a) || named(a, b));
}

export interface Placed {
  id: string;
  model: string;
  site: string;
  block: number | null;
  architecture: string;
  d_sae: number;
  k: number | null;
}

export interface Grid<T extends Placed> {
  columns: { key: string; model: string; site: string }[];
  rows: { key: string; d_sae: number; k: number | null }[];
  /** Dictionaries of a row and column; more than one where only the architecture or run differs. */
  cell(row: number, column: number): readonly T[];
}

/** Lay dictionaries out by site (columns, shallow first) and by width and k (rows, wide first). */
export function gridOf<T extends Placed>(saes: readonly T[]): Grid<T> {
  const columnKey = (s: T) => `${s.model}\n${s.site}`;
  const rowKey = (s: T) => `${s.d_sae}\n${s.k}`;
  const depth = (s: T) => s.block ?? Infinity;
  const byDepth = [...saes].sort((a, b) => collator.compare(a.model, b.model) || depth(a) - depth(b) || collator.compare(a.site, b.site));
  const byWidth = [...saes].sort((a, b) => b.d_sae - a.d_sae || (b.k ?? 0) - (a.k ?? 0));
  const columns = [...new Map(byDepth.map((s) => [columnKey(s), { key: columnKey(s), model: s.model, site: s.site }])).values()];
  const rows = [...new Map(byWidth.map((s) => [rowKey(s), { key: rowKey(s), d_sae: s.d_sae, k: s.k }])).values()];
  const held = new Map<string, T[]>();
  for (const s of saes) {
    const key = `${rowKey(s)}\t${columnKey(s)}`;
    held.set(key, [...(held.get(key) ?? []), s]);
  }
  return { columns, rows, cell: (row, column) => held.get(`${rows[row]!.key}\t${columns[column]!.key}`) ?? [] };
}

const COOL_LIGHT: readonly Rgb[] = [[247, 246, 241], [214, 231, 231], [150, 198, 201], [84, 155, 163], [30, 112, 123], [10, 74, 84]];
const COOL_DARK: readonly Rgb[] = [[32, 37, 40], [28, 58, 63], [35, 91, 99], [58, 131, 139], [108, 180, 187], [205, 238, 240]];

/** Paper and ink of a share 0 … 1: the cool scale, for scores, so that the warm one always means activation. */
export function scoreColours(share: number, dark: boolean): { background: string; color: string } {
  const rgb = interpolate(dark ? COOL_DARK : COOL_LIGHT, share);
  return { background: `rgb(${rgb.join(",")})`, color: readableInk(rgb) };
}
