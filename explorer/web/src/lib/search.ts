/** Search: by the server, or in the page over the index of a static copy. */
import { get, staticMode, type Schemas } from "../api/client";
import { readAs } from "./motif";
import { conceptHref, latentHref, proteinHref, saeHref } from "./links";

type Results = Schemas["SearchResults"];
type Hit = Schemas["SearchHit"];

/** What a static copy is searched by. */
export interface SearchIndex {
  /** Merit: above 1 for an annotation that is confirmed and precise, else the F1 of the best concept. */
  latents: [sae: string, latent: number, label: string, concepts: string, merit: number][];
  concepts: string[];
  proteins: [accession: string, description: string][];
  /** People's words for UniProt's keys, and for ligands. */
  features: Record<string, string>;
  ligands: Record<string, string>;
}

let index: Promise<SearchIndex> | null = null;

/** Answers to a query, best first. */
export async function search(q: string, sae: string | undefined, n: number, signal?: AbortSignal): Promise<Results> {
  if (!staticMode()) return get<Results>("search", { q, sae, n }, signal);
  index ??= get<SearchIndex>("search-index.json");
  return searchIndex(await index, q, sae, n);
}

/** How well a text has every word of a query, −1 where it lacks one; a start of a word counts twice. */
function rate(text: string, words: string[]): number {
  const low = ` ${text.toLowerCase()}`;
  let score = 0;
  for (const word of words) {
    let at = low.indexOf(word);
    if (at < 0) return -1;
    while (at >= 0 && /[a-z0-9]/.test(low[at - 1]!)) at = low.indexOf(word, at + 1);
    score += at < 0 ? 1 : 2;
  }
  return words.length ? score / words.length : -1;
}

const escaped = (word: string) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

/** Whether a name of a concept has a key or a ligand's symbol as a whole word: ZN_FING is one, Zn of Zn(2+) another. */
function hasWord(text: string, word: string): boolean {
  return new RegExp(`(^|[^a-z0-9_])${escaped(word.toLowerCase())}($|[^a-z0-9_])`).test(text.toLowerCase());
}

/** As the server does it (`server/query.py`): how well a name of a concept is what people call it by. */
export function rateConcept(data: Pick<SearchIndex, "features" | "ligands">, text: string, words: string[]): number {
  const direct = rate(text, words);
  if (direct >= 0 || words.some((word) => word.length < 3)) return direct;
  const keys = Object.entries(data.features).filter(([, known]) => words.every((word) => known.split(" ").some((name) => name.startsWith(word))));
  if (keys.some(([key]) => hasWord(text, key))) return 2;
  const isLigand = (word: string) => word in data.ligands;
  if (!words.some(isLigand)) return -1;
  return words.every((word) => (isLigand(word) ? hasWord(text, data.ligands[word]!) : rate(text, [word]) >= 0)) ? 2 : -1;
}

/** Every word must occur; hits at the start of a word come first, of these the concepts, and latents by merit. */
export function searchIndex(data: SearchIndex, query: string, sae: string | undefined, n: number): Results {
  const kind = readAs(query);
  const words = query.toLowerCase().replace(/α/g, "alpha ").replace(/β/g, "beta ").split(/[\s-]+/).filter(Boolean);
  const scored: { score: number; merit: number; hit: Hit }[] = [];
  const add = (score: number, hit: Hit, merit = 0) => score >= 0 && scored.push({ score, merit, hit });
  const id = kind === "latent" ? Number(query.replace(/\D/g, "")) : null;
  for (const [owner, latent, label, concepts, merit] of data.latents) {
    const named = concepts.split("; ").filter(Boolean);
    const best = Math.max(rate(label, words), ...named.map((name) => rateConcept(data, name, words)));
    const score = id === null ? best : latent === id ? 10 : -1;
    add(score < 0 ? -1 : score + (owner === sae ? 0.5 : 0), { type: "latent", title: label || `Latent ${latent}`, subtitle: `${owner} · ${latent}`, sae: owner, latent }, merit);
  }
  for (const concept of data.concepts) {
    const score = rateConcept(data, concept, words);
    add(score < 0 ? -1 : score + 0.75, { type: "concept", title: concept, subtitle: "Concept", concept });
  }
  for (const [accession, description] of data.proteins)
    add(rate(`${accession} ${description}`, words), { type: "protein", title: accession, subtitle: description, accession });
  scored.sort((a, b) => b.score - a.score || b.merit - a.merit);
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
