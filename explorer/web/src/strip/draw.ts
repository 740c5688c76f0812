/** Strips on canvas. Letters appear once there is room for them. */
import type { Scale } from "../lib/colour";
import { residueAt, tickStep, type Lane } from "./layout";

export const CELL = 19;
export const LANE = 5;
const LETTERS_FROM = 8;

export interface View {
  /** Pixels a residue. */
  zoom: number;
  /** Column in the middle. */
  centre: number;
  width: number;
}

export const columnToX = ({ zoom, centre, width }: View, column: number): number => width / 2 + (column - centre - 0.5) * zoom;
export const xToColumn = ({ zoom, centre, width }: View, x: number): number => Math.floor((x - width / 2) / zoom + centre + 0.5);

export interface Ink {
  paper: string;
  text: string;
  quiet: string;
  line: string;
  accent: string;
  mono: string;
}

/** Colours of the page as it is now. */
export function readInk(): Ink {
  const style = getComputedStyle(document.documentElement);
  const of = (name: string) => style.getPropertyValue(name).trim();
  return { paper: of("--card"), text: of("--ink"), quiet: of("--ink-3"), line: of("--line-2"), accent: of("--accent"), mono: of("--mono") };
}

/** A context in CSS pixels, cleared. */
export function prepare(canvas: HTMLCanvasElement, width: number, height: number): CanvasRenderingContext2D | null {
  const ratio = window.devicePixelRatio || 1;
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
  const context = canvas.getContext("2d");
  context?.setTransform(ratio, 0, 0, ratio, 0, 0);
  context?.clearRect(0, 0, width, height);
  return context;
}

export interface Row {
  sequence: string;
  columns: Int32Array;
  values: Float32Array;
  lanes: readonly Lane[];
  colours: ReadonlyMap<string, string>;
  /** Stretches to underline, from 0, ends included. */
  marks: readonly [number, number][];
  /** Residue under the mouse, from 0. */
  hover: number | null;
  /** Residue (from 0) of the maximum. */
  peak: number | null;
}

/** Draw a sequence, its values and its annotations. */
export function drawRow(context: CanvasRenderingContext2D, row: Row, view: View, scale: Scale, ink: Ink): void {
  const { columns, values, sequence } = row;
  const [from, to] = visible(columns, view);
  if (to < from) return;
  drawBackbone(context, columns, from, to, view, scale, ink);
  if (view.zoom >= 1) drawCells(context, values, columns, from, to, view, scale);
  else drawDense(context, values, columns, from, to, view, scale);
  if (view.zoom >= LETTERS_FROM) drawLetters(context, sequence, values, columns, from, to, view, scale, ink);
  drawLanes(context, row, view, ink);
  for (const [a, b] of row.marks) underline(context, columns, a, b, view, ink.text);
  if (row.hover !== null && columns[row.hover] !== undefined) {
    const x = columnToX(view, columns[row.hover]!);
    context.strokeStyle = ink.text;
    context.lineWidth = 1.5;
    const w = Math.max(view.zoom, 4);
    context.strokeRect(x + view.zoom / 2 - w / 2, 0.75, w, CELL - 1.5);
  }
}

/** First and last residue in view. */
export function visible(columns: Int32Array, view: View): [number, number] {
  const left = xToColumn(view, 0);
  const right = xToColumn(view, view.width);
  let from = 0;
  let to = columns.length - 1;
  while (from <= to && columns[from]! < left) from++;
  while (to >= from && columns[to]! > right) to--;
  return [from, to];
}

function drawBackbone(c: CanvasRenderingContext2D, columns: Int32Array, from: number, to: number, view: View, scale: Scale, ink: Ink): void {
  let start = from;
  for (let i = from; i <= to; i++) {
    if (i < to && columns[i + 1] === columns[i]! + 1) continue;
    const x = columnToX(view, columns[start]!);
    const end = columnToX(view, columns[i]!) + view.zoom;
    c.fillStyle = scale.css(0);
    c.fillRect(x, 0, Math.max(0.5, end - x), CELL);
    if (i < to) {
      c.fillStyle = ink.line;
      c.fillRect(end, CELL / 2 - 0.5, columnToX(view, columns[i + 1]!) - end, 1);
    }
    start = i + 1;
  }
}

function drawCells(c: CanvasRenderingContext2D, values: Float32Array, columns: Int32Array, from: number, to: number, view: View, scale: Scale): void {
  const gap = view.zoom >= 6 ? 0.5 : 0;
  for (let i = from; i <= to; i++) {
    const value = values[i]!;
    if (value <= 0) continue;
    c.fillStyle = scale.css(value);
    c.fillRect(columnToX(view, columns[i]!), 0, view.zoom - gap, CELL);
  }
}

/** Several residues a pixel: the highest of them counts. */
function drawDense(c: CanvasRenderingContext2D, values: Float32Array, columns: Int32Array, from: number, to: number, view: View, scale: Scale): void {
  let pixel = -1;
  let top = 0;
  const flush = () => {
    if (top <= 0) return;
    c.fillStyle = scale.css(top);
    c.fillRect(pixel, 0, 1.5, CELL);
  };
  for (let i = from; i <= to; i++) {
    const x = Math.floor(columnToX(view, columns[i]!));
    if (x !== pixel) {
      flush();
      [pixel, top] = [x, 0];
    }
    top = Math.max(top, values[i]!);
  }
  flush();
}

function drawLetters(c: CanvasRenderingContext2D, sequence: string, values: Float32Array, columns: Int32Array, from: number, to: number, view: View, scale: Scale, ink: Ink): void {
  c.font = `${Math.min(13, Math.max(9, view.zoom * 0.95))}px ${ink.mono}`;
  c.textAlign = "center";
  c.textBaseline = "middle";
  for (let i = from; i <= to; i++) {
    const value = values[i]!;
    c.fillStyle = value > 0 ? scale.ink(value) : ink.quiet;
    c.fillText(sequence[i]!, columnToX(view, columns[i]!) + view.zoom / 2, CELL / 2 + 0.5);
  }
}

function drawLanes(c: CanvasRenderingContext2D, row: Row, view: View, ink: Ink): void {
  for (const { feature, lane } of row.lanes) {
    const from = row.columns[feature.start - 1];
    const to = row.columns[feature.end - 1];
    if (from === undefined || to === undefined) continue;
    const x = columnToX(view, from);
    const end = columnToX(view, to) + view.zoom;
    if (end < 0 || x > view.width) continue;
    c.fillStyle = row.colours.get(feature.concept) ?? ink.line;
    c.fillRect(Math.max(-2, x), CELL + 3 + lane * (LANE + 1), Math.max(2, Math.min(view.width + 2, end) - Math.max(-2, x) - 0.5), LANE - 1);
  }
}

function underline(c: CanvasRenderingContext2D, columns: Int32Array, a: number, b: number, view: View, colour: string): void {
  const x = columnToX(view, columns[a] ?? 0);
  c.fillStyle = colour;
  c.fillRect(x, CELL - 2, columnToX(view, columns[b] ?? 0) + view.zoom - x, 2);
}

/** Numbers over the strips: columns from the anchor, or positions of the sequence when `absolute`. */
export function drawAxis(c: CanvasRenderingContext2D, view: View, ink: Ink, absolute: boolean, hover: number | null): void {
  const step = tickStep(view.zoom);
  c.font = `11px ${getComputedStyle(document.documentElement).getPropertyValue("--sans")}`;
  c.textBaseline = "alphabetic";
  c.textAlign = "center";
  const shift = absolute ? 1 : 0;
  const first = Math.ceil((xToColumn(view, 0) + shift) / step) * step;
  for (let n = first; n - shift <= xToColumn(view, view.width); n += step) {
    const x = columnToX(view, n - shift) + view.zoom / 2;
    c.fillStyle = n === 0 ? ink.text : ink.quiet;
    const label = absolute ? String(n) : n > 0 ? `+${n}` : n < 0 ? `−${-n}` : "0";
    c.fillText(label, x, 12);
    c.fillRect(x - 0.5, 16, 1, n === 0 && !absolute ? 6 : 4);
  }
  if (hover !== null) {
    c.fillStyle = ink.accent;
    c.fillRect(columnToX(view, hover), 19, Math.max(2, view.zoom), 3);
  }
}

export { residueAt };
