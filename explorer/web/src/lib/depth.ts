/** Colours of places in a model by depth: one ordered scale (viridis), as blocks are ordered. */
import { interpolate, type Rgb } from "./colour";

const VIRIDIS: readonly Rgb[] = [[68, 1, 84], [65, 68, 135], [42, 120, 142], [34, 168, 132], [122, 209, 81], [253, 231, 37]];

interface Sited {
  site: string;
  block: number | null;
}

/** Name and colour of each site, shallow first; the ends that the paper would swallow are left out. */
export function depthColours(saes: readonly Sited[], dark: boolean): { name: string; colour: string }[] {
  const depths = new Map<string, number>();
  for (const { site, block } of saes) depths.set(siteName(site, block), block ?? Infinity);
  const names = [...depths].sort((a, b) => (a[1] === b[1] ? (a[0] < b[0] ? -1 : 1) : a[1] - b[1])).map(([name]) => name);
  const [from, to] = dark ? [0.25, 1] : [0, 0.82];
  return names.map((name, i) => {
    const t = names.length > 1 ? i / (names.length - 1) : 0.4;
    return { name, colour: `rgb(${interpolate(VIRIDIS, from + t * (to - from)).join(",")})` };
  });
}

/** Where in the model a dictionary reads, in words. */
export function siteName(site: string, block: number | null): string {
  return block === 0 ? "embedding" : block === null ? site : `block ${block}`;
}
