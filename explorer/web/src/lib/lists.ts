/** Collections of latents: what is written to files, and numbers that people paste. */
import type { Schemas } from "../api/client";
import { toCsv } from "./format";

export type LatentList = Schemas["LatentList"];

/** A list as a table; `page` gives the address of a latent. */
export function listCsv(list: LatentList, page: (sae: string, latent: number) => string): string {
  return toCsv(["sae", "latent", "label", "kind", "page"], list.items.map((i) => [i.sae, i.latent, i.label, i.kind, page(i.sae, i.latent)]));
}

/** A list as JSON lines, one latent a line. */
export function listJsonl(list: LatentList, page: (sae: string, latent: number) => string): string {
  return list.items.map(({ sae, latent, label, kind }) => JSON.stringify({ list: list.name, sae, latent, label, kind, page: page(sae, latent) }) + "\n").join("");
}

/** A name that every file system takes. */
export function fileName(name: string, ending: string): string {
  const plain = name.normalize("NFKD").replace(/[^\w.-]+/g, "-").replace(/^[-.]+|[-.]+$/g, "").slice(0, 60);
  return `${plain || "list"}.${ending}`;
}

/** Numbers of latents in a text ("12, 45 #1378"), each once; what fits none of them is told apart. */
export function readLatents(text: string, d_sae: number): { latents: number[]; wrong: string[] } {
  const latents = new Set<number>();
  const wrong: string[] = [];
  for (const word of text.split(/[\s,;]+/).filter(Boolean)) {
    const digits = /^#?(\d{1,9})$/.exec(word)?.[1];
    const value = digits === undefined ? NaN : Number(digits);
    if (value < d_sae) latents.add(value);
    else wrong.push(word);
  }
  return { latents: [...latents], wrong };
}
