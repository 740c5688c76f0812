/**
 * Lining sequences up: pairs by Gotoh's affine-gap alignment (1982) with free ends, many by a star
 * around the first (Gusfield 1993): every sequence is aligned to the centre, "once a gap, always a
 * gap". Quick enough to do while a person waits, because only windows around the peaks are aligned.
 */
import { blosum62 } from "./blosum";

export const GAP_OPEN = 11;
export const GAP_EXTEND = 1;

/** `pairs[i]`: residue of b beside residue i of a, or −1; both count from 0. */
export interface Pairwise {
  score: number;
  pairs: Int32Array;
}

const NONE = -1e9;

/**
 * Best alignment of two sequences, gaps at either end free.
 *
 * A gap of n costs GAP_OPEN + n·GAP_EXTEND, as in BLAST. Time and memory are |a|·|b|.
 */
export function alignPair(a: string, b: string): Pairwise {
  const [n, m] = [a.length, b.length];
  const pairs = new Int32Array(n).fill(-1);
  if (n === 0 || m === 0) return { score: 0, pairs };
  const width = m + 1;
  const trace = new Uint8Array((n + 1) * width); // bits 0–1: state of M's best; 2: X opens; 3: Y opens
  let best = new Float64Array(width); // H, the best ending at (i, j)
  let up = new Float64Array(width).fill(NONE); // X, ending in a gap in b
  const codes = Array.from(b, (c) => c.charCodeAt(0));
  let end = { score: 0, i: 0, j: 0 };
  for (let i = 1; i <= n; i++) {
    const code = a.charCodeAt(i - 1);
    const row = new Float64Array(width);
    const rowUp = new Float64Array(width).fill(NONE);
    let left = NONE; // Y, ending in a gap in a
    for (let j = 1; j <= m; j++) {
      const openUp = best[j]! - GAP_OPEN - GAP_EXTEND;
      const moreUp = up[j]! - GAP_EXTEND;
      rowUp[j] = Math.max(openUp, moreUp);
      const openLeft = row[j - 1]! - GAP_OPEN - GAP_EXTEND;
      const moreLeft = left - GAP_EXTEND;
      left = Math.max(openLeft, moreLeft);
      const diagonal = best[j - 1]! + blosum62(code, codes[j - 1]!);
      let state = 0;
      let value = diagonal;
      if (rowUp[j]! > value) [state, value] = [1, rowUp[j]!];
      if (left > value) [state, value] = [2, left];
      row[j] = value;
      trace[i * width + j] = state | (openUp >= moreUp ? 4 : 0) | (openLeft >= moreLeft ? 8 : 0);
      if ((i === n || j === m) && value > end.score) end = { score: value, i, j };
    }
    best = row;
    up = rowUp;
  }
  walkBack(trace, width, end.i, end.j, pairs);
  return { score: end.score, pairs };
}

function walkBack(trace: Uint8Array, width: number, i: number, j: number, pairs: Int32Array): void {
  let state = -1; // not inside a gap
  while (i > 0 && j > 0) {
    const cell = trace[i * width + j]!;
    if (state < 0) state = cell & 3;
    if (state === 0) {
      pairs[i - 1] = j - 1;
      i--;
      j--;
      state = -1;
    } else if (state === 1) {
      state = cell & 4 ? -1 : 1;
      i--;
    } else {
      state = cell & 8 ? -1 : 2;
      j--;
    }
  }
}

/** Sequences laid over common columns: `columns[s][r]` is the column of residue r of sequence s. */
export interface Laid {
  columns: Int32Array[];
  /** Columns in all; may start below 0. */
  first: number;
  last: number;
}

/** A sequence and the residue (from 0) that the view is about. */
export interface Anchored {
  sequence: string;
  anchor: number;
}

/** Put every anchor in column 0; no gaps. */
export function layByAnchor(items: readonly Anchored[]): Laid {
  const columns = items.map(({ sequence, anchor }) =>
    Int32Array.from({ length: sequence.length }, (_, i) => i - anchor),
  );
  return spanOf(columns);
}

function spanOf(columns: Int32Array[]): Laid {
  let first = 0;
  let last = 0;
  for (const c of columns) {
    if (c.length === 0) continue;
    first = Math.min(first, c[0]!);
    last = Math.max(last, c[c.length - 1]!);
  }
  return { columns, first, last };
}

/** Residues of either side of the anchor that are aligned; farther ones are laid without gaps. */
export const MSA_FLANK = 120;

/** Star alignment to the first item, whose anchor stays in column 0. */
export function layByStar(items: readonly Anchored[], flank = MSA_FLANK): Laid {
  const centre = items[0];
  if (!centre) return { columns: [], first: 0, last: 0 };
  const windows = items.map(({ sequence, anchor }) => {
    const from = Math.max(0, anchor - flank);
    return { from, text: sequence.slice(from, anchor + flank + 1) };
  });
  const middle = windows[0]!;
  const pairs = windows.map((w, s) => (s === 0 ? null : alignPair(middle.text, w.text).pairs));
  const inserts = longestInserts(pairs, middle.text.length);
  const place = columnsOfCentre(inserts, centre.anchor - middle.from);
  const columns = items.map((item, s) => {
    const window = windows[s]!;
    const anchored = s === 0 ? Int32Array.from(place) : placeWindow(pairs[s]!, place, window.text.length);
    return extend(anchored, window.from, item.sequence.length);
  });
  return spanOf(columns);
}

/** Before each residue of the centre: the most residues that any sequence has between it and the last. */
function longestInserts(pairs: readonly (Int32Array | null)[], length: number): Int32Array {
  const inserts = new Int32Array(length);
  for (const pair of pairs) {
    if (!pair) continue;
    let before = -1;
    for (let i = 0; i < length; i++) {
      const j = pair[i]!;
      if (j < 0) continue;
      if (before >= 0) {
        const [last, run] = [pair[before]!, i - before];
        // Unpaired centre residues in between take what they can; the rest needs new columns.
        inserts[i] = Math.max(inserts[i]!, Math.max(0, j - last - run));
      }
      before = i;
    }
  }
  return inserts;
}

function columnsOfCentre(inserts: Int32Array, anchor: number): Int32Array {
  const columns = new Int32Array(inserts.length);
  for (let i = 1; i < inserts.length; i++) columns[i] = columns[i - 1]! + 1 + inserts[i]!;
  const shift = columns[anchor] ?? 0;
  return columns.map((c) => c - shift);
}

/** Columns of a window's residues, from the residues of the centre that they are paired with. */
function placeWindow(pair: Int32Array, place: Int32Array, length: number): Int32Array {
  const columns = new Int32Array(length).fill(NONE);
  let firstPaired = -1;
  let lastPaired = -1;
  for (let i = 0; i < pair.length; i++) {
    const j = pair[i]!;
    if (j < 0) continue;
    columns[j] = place[i]!;
    if (lastPaired >= 0) for (let k = lastPaired + 1; k < j; k++) columns[k] = columns[k - 1]! + 1;
    if (firstPaired < 0) firstPaired = j;
    lastPaired = j;
  }
  if (firstPaired < 0) return Int32Array.from({ length }, (_, i) => i + (place[0] ?? 0));
  for (let k = firstPaired - 1; k >= 0; k--) columns[k] = columns[k + 1]! - 1;
  for (let k = lastPaired + 1; k < length; k++) columns[k] = columns[k - 1]! + 1;
  return columns;
}

/** Lay the residues outside the window beside it, without gaps. */
function extend(window: Int32Array, from: number, length: number): Int32Array {
  const columns = new Int32Array(length);
  columns.set(window, from);
  for (let k = from - 1; k >= 0; k--) columns[k] = (columns[k + 1] ?? 0) - 1;
  for (let k = from + window.length; k < length; k++) columns[k] = (columns[k - 1] ?? -1) + 1;
  return columns;
}
