/** Which latents of a sequence are shown, and in which order. */
import type { Schemas } from "../../api/client";

export type PlayLatent = Schemas["PlayLatent"];

export interface Filters {
  q: string;
  range: readonly [number, number] | null;
  share: number;
  order: string;
}

export function arrange(latents: readonly PlayLatent[], { q, range, share, order }: Filters): PlayLatent[] {
  const words = q.toLowerCase().split(/\s+/).filter(Boolean);
  const kept = latents.filter((l) => {
    if (l.share_active > share + 1e-9) return false;
    const names = `${l.latent} ${l.label} ${l.kind} ${l.concept ?? ""}`.toLowerCase();
    if (!words.every((w) => names.includes(w))) return false;
    return !range || l.track.positions.some((p) => p >= range[0] && p <= range[1]);
  });
  const key: Record<string, (l: PlayLatent) => number> = { score: (l) => -l.score, max: (l) => -l.max / l.own_max, position: (l) => l.argmax, latent: (l) => l.latent };
  return kept.sort((a, b) => key[order]!(a) - key[order]!(b) || a.latent - b.latent);
}

/** Mutations as one types them, `A42V, C7S`; null where a word is none. */
export function parseMutations(text: string): string[] | null {
  const words = text.toUpperCase().split(/[\s,;]+/).filter(Boolean);
  return words.every((w) => /^[A-Z]\d{1,6}[A-Z]$/.test(w)) ? words : null;
}
