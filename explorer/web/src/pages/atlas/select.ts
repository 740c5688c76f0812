/** Which latents the map, the table and the histograms show: everything as plain computation. */
import type { Columns } from "../../api/queries";
import { CATEGORIES, LIGHT_STOPS, DARK_STOPS, interpolate, OTHER } from "../../lib/colour";
import type { Point } from "../../lib/urlstate";

export type Interval = readonly [number, number] | null;

export interface Filters {
  q: string;
  kind: string;
  concept: string;
  frequency: Interval;
  f1: Interval;
  max: Interval;
  lasso: readonly Point[];
  dead: boolean;
}

/** Whether a point lies in a polygon: even–odd rule. */
export function inside(x: number, y: number, polygon: readonly Point[]): boolean {
  let odd = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
    const [xi, yi] = polygon[i]!;
    const [xj, yj] = polygon[j]!;
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) odd = !odd;
  }
  return odd;
}

/** Fewer corners (Ramer–Douglas–Peucker): what bends less than `epsilon` goes, then more until `most` are left. */
export function simplify(points: readonly Point[], epsilon = 0.004, most = 60): Point[] {
  let kept = reduce(points, epsilon);
  for (let e = epsilon * 1.5; kept.length > most; e *= 1.5) kept = reduce(points, e);
  return kept;
}

function reduce(points: readonly Point[], epsilon: number): Point[] {
  if (points.length < 3) return [...points];
  const [ax, ay] = points[0]!;
  const [bx, by] = points[points.length - 1]!;
  const length = Math.hypot(bx - ax, by - ay);
  let far = 0;
  let at = 0;
  for (let i = 1; i < points.length - 1; i++) {
    const [x, y] = points[i]!;
    const d = length === 0 ? Math.hypot(x - ax, y - ay) : Math.abs((by - ay) * x - (bx - ax) * y + bx * ay - by * ax) / length;
    if (d > far) [far, at] = [d, i];
  }
  if (far <= epsilon) return [points[0]!, points[points.length - 1]!];
  return [...reduce(points.slice(0, at + 1), epsilon).slice(0, -1), ...reduce(points.slice(at), epsilon)];
}

const within = (value: number | null | undefined, interval: Interval): boolean =>
  interval === null || (value !== null && value !== undefined && value >= interval[0] && value <= interval[1]);

/** Latents that pass, ascending. */
export function choose(columns: Columns, filters: Filters): number[] {
  const words = filters.q.toLowerCase().split(/\s+/).filter(Boolean);
  const chosen: number[] = [];
  for (let j = 0; j < columns.label.length; j++) {
    if (!filters.dead && columns.frequency[j] === 0) continue;
    if (filters.kind && columns.kind[j] !== filters.kind) continue;
    if (filters.concept && columns.concept[j] !== filters.concept) continue;
    if (!within(columns.frequency[j], filters.frequency) || !within(columns.f1[j], filters.f1) || !within(columns.max[j], filters.max)) continue;
    if (words.length) {
      const text = `${j} ${columns.label[j]} ${columns.concept[j] ?? ""} ${columns.kind[j]}`.toLowerCase();
      if (!words.every((w) => text.includes(w))) continue;
    }
    if (filters.lasso.length > 2 && !inside(columns.x?.[j] ?? NaN, columns.y?.[j] ?? NaN, filters.lasso)) continue;
    chosen.push(j);
  }
  return chosen;
}

export const COLOUR_BY = ["kind", "concept", "frequency", "f1", "precision", "max"] as const;
export type ColourBy = (typeof COLOUR_BY)[number];

export interface Colouring {
  /** Category of each latent, an index of `colours`; or its place on the scale, 0 … 1. */
  values: number[];
  categorical: boolean;
  colours: string[];
  /** What is said beside each colour, or at the ends of the scale. */
  legend: string[];
}

/** Colours of all latents by a column. */
export function colouring(columns: Columns, by: ColourBy, dark: boolean): Colouring {
  if (by === "kind" || by === "concept") return categorical(columns[by], by === "concept");
  const raw = columns[by] as (number | null)[];
  const log = by === "frequency" || by === "max";
  const known = raw.filter((v): v is number => v !== null && (!log || v > 0));
  const [low, high] = known.length ? [log ? quantile(known, 0.01) : 0, log ? quantile(known, 0.99) : 1] : [0, 1];
  const place = (v: number) => (log ? Math.log(v / low) / Math.log(high / low || 2) : (v - low) / (high - low || 1));
  const values = raw.map((v) => (v === null || (log && v <= 0) ? 0 : Math.min(1, Math.max(0, 0.04 + 0.96 * place(v)))));
  const stops = dark ? DARK_STOPS : LIGHT_STOPS;
  // The lightest part of the scale would vanish on paper.
  const colours = Array.from({ length: 64 }, (_, i) => hex(interpolate(stops, 0.16 + (0.84 * i) / 63)));
  return { values, categorical: false, colours, legend: [String(low), String(high)] };
}

function categorical(names: readonly (string | null)[], some: boolean): Colouring {
  const counts = new Map<string, number>();
  for (const name of names) if (name) counts.set(name, (counts.get(name) ?? 0) + 1);
  const order = [...counts].filter(([name]) => name !== "other").sort((a, b) => b[1] - a[1]).map(([name]) => name).slice(0, CATEGORIES.length);
  const index = new Map(order.map((name, i) => [name, i]));
  return {
    values: names.map((name) => index.get(name ?? "") ?? order.length),
    categorical: true,
    colours: [...order.map((_, i) => CATEGORIES[i]!), OTHER],
    legend: [...order, some ? "all others" : "other"],
  };
}

function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]!;
}

const hex = (rgb: readonly number[]): string => `#${rgb.map((c) => c.toString(16).padStart(2, "0")).join("")}`;

export interface Bins {
  edges: number[];
  all: number[];
  some: number[];
}

/** Counts of all and of some values in even bins, of logarithms if `log`; unknown values are left out. */
export function bin(values: readonly (number | null)[], some: readonly number[], log: boolean, n = 32): Bins {
  const ok = (v: number | null | undefined): v is number => v !== null && v !== undefined && (!log || v > 0);
  let low = Infinity;
  let high = -Infinity;
  for (const v of values) if (ok(v)) [low, high] = [Math.min(low, v), Math.max(high, v)];
  if (!(high > low)) return { edges: [], all: [], some: [] };
  const f = (v: number) => (log ? Math.log(v) : v);
  const [a, b] = [f(low), f(high)];
  const edges = Array.from({ length: n + 1 }, (_, i) => (log ? Math.exp(a + ((b - a) * i) / n) : a + ((b - a) * i) / n));
  const place = (v: number) => Math.min(n - 1, Math.floor(((f(v) - a) / (b - a)) * n));
  const all = new Array<number>(n).fill(0);
  const chosen = new Array<number>(n).fill(0);
  for (const v of values) if (ok(v)) all[place(v)]!++;
  for (const j of some) {
    const v = values[j];
    if (ok(v)) chosen[place(v)]!++;
  }
  return { edges, all, some: chosen };
}
