/**
 * Colours: one sequential scale for activation (its lightness changes evenly, so it reads without
 * hue), and the eight of Okabe and Ito (2008) for categories.
 */

export type Rgb = readonly [number, number, number];

/** Stops of the scale on light paper: from the paper's own colour to near black. */
export const LIGHT_STOPS: readonly Rgb[] = [
  [250, 243, 228], [250, 217, 168], [245, 174, 108], [230, 121, 74], [196, 68, 66], [144, 31, 65], [84, 14, 54],
];
/** On dark paper: from the paper's own colour to near white. */
export const DARK_STOPS: readonly Rgb[] = [
  [42, 36, 48], [84, 32, 74], [137, 41, 82], [190, 63, 72], [229, 111, 70], [247, 172, 104], [253, 236, 192],
];

/** Okabe and Ito's colours, in the order that we hand them out (black is for text). */
export const CATEGORIES: readonly string[] = [
  "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442",
];
/** What is none of the named categories. */
export const OTHER = "#9aa0a3";

/** Colour of t in 0 … 1, clipped, between evenly spaced stops. */
export function interpolate(stops: readonly Rgb[], t: number): Rgb {
  const place = Math.min(1, Math.max(0, Number.isFinite(t) ? t : 0)) * (stops.length - 1);
  const low = Math.min(stops.length - 2, Math.floor(place));
  const a = stops[low]!;
  const b = stops[low + 1]!;
  const f = place - low;
  const mix = (i: 0 | 1 | 2) => Math.round(a[i] + (b[i] - a[i]) * f);
  return [mix(0), mix(1), mix(2)];
}

export interface Scale {
  /** Value at the end of the scale; the start is 0. */
  readonly max: number;
  rgb(value: number): Rgb;
  css(value: number): string;
  /** Colour of a letter drawn upon the value's colour. */
  ink(value: number): string;
}

const TABLE = 256;

/** The one absolute scale of a latent: 0 … max, the same on every tab, strip and structure. */
export function activationScale(max: number, dark: boolean): Scale {
  const stops = dark ? DARK_STOPS : LIGHT_STOPS;
  const top = max > 0 ? max : 1;
  const table = Array.from({ length: TABLE }, (_, i) => interpolate(stops, i / (TABLE - 1)));
  const css = table.map(([r, g, b]) => `rgb(${r},${g},${b})`);
  const ink = table.map((rgb) => readableInk(rgb));
  const index = (value: number) => Math.min(TABLE - 1, Math.max(0, Math.round((value / top) * (TABLE - 1)) || 0));
  return {
    max: top,
    rgb: (value) => table[index(value)]!,
    css: (value) => css[index(value)]!,
    ink: (value) => ink[index(value)]!,
  };
}

/** Relative luminance, WCAG 2. */
export function luminance([r, g, b]: Rgb): number {
  const linear = (c: number) => {
    const s = c / 255;
    return s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4;
  };
  return 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
}

/** Contrast of two colours, 1 … 21, WCAG 2. */
export function contrast(a: Rgb, b: Rgb): number {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y) as [number, number];
  return (high + 0.05) / (low + 0.05);
}

const DARK_INK: Rgb = [8, 6, 8];
const LIGHT_INK: Rgb = [255, 255, 255];

/** Dark or light letters, whichever stands out more. */
export function readableInk(on: Rgb): string {
  const best = contrast(on, DARK_INK) >= contrast(on, LIGHT_INK) ? DARK_INK : LIGHT_INK;
  return `rgb(${best.join(",")})`;
}

/** Hand out colours to names in order; those beyond the palette are OTHER. */
export function categoryColours(names: readonly string[]): Map<string, string> {
  return new Map(names.map((name, i) => [name, CATEGORIES[i] ?? OTHER]));
}

/** Colour of an amino acid in a logo, by chemistry (colour-blind safe, dark enough on paper). */
export function residueColour(letter: string, dark: boolean): string {
  const group = RESIDUE_GROUP[letter] ?? "other";
  return (dark ? RESIDUE_DARK : RESIDUE_LIGHT)[group];
}

type Group = "hydrophobic" | "aromatic" | "acidic" | "basic" | "polar" | "special" | "other";
const RESIDUE_GROUP: Record<string, Group> = {
  A: "hydrophobic", V: "hydrophobic", I: "hydrophobic", L: "hydrophobic", M: "hydrophobic",
  F: "aromatic", W: "aromatic", Y: "aromatic", D: "acidic", E: "acidic", K: "basic", R: "basic",
  H: "basic", S: "polar", T: "polar", N: "polar", Q: "polar", G: "special", P: "special", C: "special",
};
const RESIDUE_LIGHT: Record<Group, string> = {
  hydrophobic: "#2b2f33", aromatic: "#8a5a00", acidic: "#b8400a", basic: "#00629b", polar: "#007a59",
  special: "#a14a7d", other: "#6b7075",
};
const RESIDUE_DARK: Record<Group, string> = {
  hydrophobic: "#dfe3e6", aromatic: "#f0b23c", acidic: "#f58a4b", basic: "#64bdf0", polar: "#3fcf9f",
  special: "#e79bc4", other: "#a3a9ae",
};
