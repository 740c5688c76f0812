/** Search: by the server, or in the page over the index of a static copy. */
import { get, staticMode, type Schemas } from "../api/client";
import { readAs } from "./motif";
import { conceptHref, latentHref, proteinHref, saeHref } from "./links";

type Results = Schemas["SearchResults"];
type Hit = Schemas["SearchHit"];

/** What a static copy is searched by. */
export interface SearchIndex {
  latents: [sae: string, latent: number, label: string][];
  concepts: string[];
  proteins: [accession: string, description: string][];
}

let index: Promise<SearchIndex> | null = null;

/** Answers to a query, best first. */
export async function search(q: string, sae: string | undefined, n: number, signal?: AbortSignal): Promise<Results> {
  if (!staticMode()) return get<Results>("search", { q, sae, n }, signal);
  index ??= get<SearchIndex>("search-index.json");
  return searchIndex(await index, q, sae, n);
}

/** Every word must occur; hits at the start of a word come first, those of this dictionary before others'. */
export function searchIndex(data: SearchIndex, query: string, sae: string | undefined, n: number): Results {
  const kind = readAs(query);
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const scored: { score: number; hit: Hit }[] = [];
  const rate = (text: string): number => {
    const low = ` ${text.toLowerCase()}`;
    let score = 0;
    for (const word of words) {
      const at = low.indexOf(word);
      if (at < 0) return -1;
      score += /[a-z0-9]/.test(low[at - 1]!) ? 1 : 2;
    }
    return score;
  };
  const add = (score: number, hit: Hit) => score >= 0 && scored.push({ score, hit });
  const id = kind === "latent" ? Number(query.replace(/\D/g, "")) : null;
  for (const [owner, latent, label] of data.latents) {
    const score = id === null ? rate(label) : latent === id ? 10 : -1;
    add(score < 0 ? -1 : score + (owner === sae ? 0.5 : 0), { type: "latent", title: label || `Latent ${latent}`, subtitle: `${owner} · ${latent}`, sae: owner, latent });
  }
  for (const concept of data.concepts) {
    const score = rate(concept);
    add(score < 0 ? -1 : score + 0.75, { type: "concept", title: concept, subtitle: "Concept", concept });
  }
  for (const [accession, description] of data.proteins)
    add(rate(`${accession} ${description}`), { type: "protein", title: accession, subtitle: description, accession });
  scored.sort((a, b) => b.score - a.score);
  return { query, read_as: kind, hits: scored.slice(0, n).map((s) => s.hit), total: scored.length };
}

/** Page of a hit. */
export function hitHref(hit: Hit): string {
  if (hit.type === "latent" && hit.sae && hit.latent != null) return latentHref(hit.sae, hit.latent);
  if (hit.type === "concept" && hit.concept) return conceptHref(hit.concept);
  if (hit.type === "protein" && hit.accession) {
    const href = proteinHref(hit.accession, hit.sae ?? undefined);
    return hit.position ? `${href}${href.includes("?") ? "&" : "?"}at=${hit.position}` : href;
  }
  return hit.sae ? saeHref(hit.sae) : "/";
}
