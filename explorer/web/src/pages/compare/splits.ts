/** What splits and merges: several latents of one dictionary whose nearest is one latent of the other. */
import type { Schemas } from "../../api/client";

type Found = Schemas["Matches"];

export interface Split {
  /** Latent that splits, of the dictionary that is matched against. */
  latent: number;
  /** Those that it splits into, the nearest first. */
  into: { latent: number; value: number }[];
}

/** Latents that are the nearest of two or more, each at least `least` near; those with most parts first. */
export function splits(of: Found, least: number): Split[] {
  const into = new Map<number, { latent: number; value: number }[]>();
  of.other.forEach((other, latent) => {
    const value = of.value[latent];
    if (other < 0 || value === null || value === undefined || value < least) return;
    into.set(other, [...(into.get(other) ?? []), { latent, value }]);
  });
  return [...into]
    .filter(([, parts]) => parts.length > 1)
    .map(([latent, parts]) => ({ latent, into: parts.sort((a, b) => b.value - a.value) }))
    .sort((a, b) => b.into.length - a.into.length || b.into[0]!.value - a.into[0]!.value);
}

/** Counts of values in equal bins from 0 to 1; what is below counts as 0. */
export function binned(values: readonly (number | null)[], bins: number): number[] {
  const counts = new Array<number>(bins).fill(0);
  for (const v of values) if (v !== null) counts[Math.min(bins - 1, Math.max(0, Math.floor(v * bins)))]!++;
  return counts;
}
