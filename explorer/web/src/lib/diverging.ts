/**
 * A scale from blue over the paper's colour to orange, for changes: blue and orange are told apart in
 * every common kind of colour blindness, and each arm's lightness goes one way.
 */
import { interpolate, readableInk, type Rgb } from "./colour";

const LIGHT: readonly Rgb[] = [[8, 48, 107], [33, 102, 172], [103, 169, 207], [190, 216, 232], [250, 248, 243], [253, 219, 178], [241, 163, 64], [196, 96, 6], [127, 44, 4]];
const DARK: readonly Rgb[] = [[198, 226, 255], [116, 183, 240], [56, 130, 196], [34, 78, 122], [36, 39, 44], [112, 66, 20], [186, 108, 26], [240, 160, 60], [255, 224, 170]];

export interface Diverging {
  /** Value at either end. */
  readonly limit: number;
  css(value: number): string;
  ink(value: number): string;
}

const HALF = 64;

export function divergingScale(limit: number, dark: boolean): Diverging {
  const stops = dark ? DARK : LIGHT;
  const top = limit > 0 && Number.isFinite(limit) ? limit : 1;
  const table = Array.from({ length: 2 * HALF + 1 }, (_, i) => interpolate(stops, i / (2 * HALF)));
  const css = table.map(([r, g, b]) => `rgb(${r},${g},${b})`);
  const at = (value: number) => HALF + Math.round(Math.min(1, Math.max(-1, value / top || 0)) * HALF);
  return { limit: top, css: (value) => css[at(value)]!, ink: (value) => readableInk(table[at(value)]!) };
}

/** The scale as a CSS gradient, from its lowest to its highest value. */
export function divergingRamp(dark: boolean): string {
  return `linear-gradient(90deg, ${(dark ? DARK : LIGHT).map((c) => `rgb(${c.join(",")})`).join(", ")})`;
}
