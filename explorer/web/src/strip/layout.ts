/** Where residues and annotations lie on the strips: what is computed before anything is drawn. */
import type { Example, Feature } from "../api/queries";
import { layByAnchor, layByStar, type Laid } from "../lib/align";
import { CATEGORIES, OTHER } from "../lib/colour";

export const ALIGNMENTS = ["max", "first", "msa", "start"] as const;
export type Alignment = (typeof ALIGNMENTS)[number];

/** Residue (from 0) of an example that goes to column 0. */
export function anchorOf(example: Example, how: Alignment): number {
  if (how === "start") return 0;
  const first = example.track.positions[0] ?? example.features[0]?.start ?? 1;
  if (how === "first") return first - 1;
  return (example.argmax ?? first) - 1;
}

/** Lay examples over columns. */
export function lay(examples: readonly Example[], how: Alignment): Laid {
  const items = examples.map((e) => ({ sequence: e.sequence, anchor: anchorOf(e, how) }));
  return how === "msa" ? layByStar(items) : layByAnchor(items);
}

/** Residue (from 0) in a column, or −1: binary search, as columns ascend. */
export function residueAt(columns: Int32Array, column: number): number {
  let low = 0;
  let high = columns.length - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const value = columns[middle]!;
    if (value === column) return middle;
    if (value < column) low = middle + 1;
    else high = middle - 1;
  }
  return -1;
}

/** Values of all residues, 0 where silent. */
export function dense(track: { positions: readonly number[]; values: readonly number[] }, length: number): Float32Array {
  const values = new Float32Array(length);
  track.positions.forEach((position, i) => {
    if (position >= 1 && position <= length) values[position - 1] = track.values[i] ?? 0;
  });
  return values;
}

export interface Lane {
  feature: Feature;
  lane: number;
}

/** Put features in as few lanes as keep them apart, concepts in the given order first. */
export function lanes(features: readonly Feature[], order: readonly string[], most = 3): Lane[] {
  const rank = new Map(order.map((name, i) => [name, i]));
  const of = (f: Feature) => rank.get(f.concept) ?? order.length;
  const sorted = [...features].sort((a, b) => of(a) - of(b) || b.end - b.start - (a.end - a.start) || a.start - b.start);
  const taken: [number, number][][] = Array.from({ length: most }, () => []);
  const placed: Lane[] = [];
  for (const feature of sorted) {
    const lane = taken.findIndex((row) => row.every(([from, to]) => feature.end < from || feature.start > to));
    if (lane < 0) continue;
    taken[lane]!.push([feature.start, feature.end]);
    placed.push({ feature, lane });
  }
  return placed;
}

export interface ConceptColour {
  concept: string;
  colour: string;
  /** Active residues inside it, among the rows. */
  inside: number;
}

/**
 * Colours of annotations: the given first ones, then those that hold most active residues. Length is
 * divided out half-way, so a domain that covers everything does not drown the site that matters.
 */
export function conceptColours(examples: readonly Example[], first: readonly string[]): ConceptColour[] {
  const inside = new Map<string, { active: number; length: number }>();
  for (const { features, track } of examples) {
    for (const f of features) {
      const now = inside.get(f.concept) ?? { active: 0, length: 0 };
      for (const p of track.positions) if (p >= f.start && p <= f.end) now.active++;
      now.length += f.end - f.start + 1;
      inside.set(f.concept, now);
    }
  }
  const weight = (name: string) => {
    const { active, length } = inside.get(name)!;
    return active / Math.sqrt(length || 1);
  };
  const lead = [...new Set(first)].filter((name) => inside.has(name));
  const rest = [...inside.keys()].filter((name) => !lead.includes(name)).sort((a, b) => weight(b) - weight(a) || (a < b ? -1 : 1));
  return [...lead, ...rest].map((concept, i) => ({ concept, colour: CATEGORIES[i] ?? OTHER, inside: inside.get(concept)!.active }));
}

/** Round numbers for an axis: steps of 1, 2, 5, 10, … columns, at least `apart` pixels from each other. */
export function tickStep(zoom: number, apart = 56): number {
  const least = apart / zoom;
  for (let power = 1; ; power *= 10) for (const m of [1, 2, 5]) if (m * power >= least) return m * power;
}

/** Zoom (pixels a residue) that shows all columns in a width. */
export function fitZoom(laid: Laid, width: number): number {
  return Math.max(0.02, Math.min(24, width / (laid.last - laid.first + 1)));
}
