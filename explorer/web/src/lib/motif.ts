/**
 * Motifs in PROSITE's syntax: `C-x(2,4)-C`, `[ST]-x-{P}`, `<M` at the start, `K>` at the end.
 * The server searches; the page uses this to say what it read and to mark matches on the strips.
 */

/** A position, or a run of them. */
export interface Element {
  /** Letters that are allowed, or refused where `not`; "" for any. */
  letters: string;
  not: boolean;
  min: number;
  max: number;
}

export interface Motif {
  elements: Element[];
  start: boolean;
  end: boolean;
}

/** Why a text is no motif: one sentence. */
export class MotifError extends Error {}

const AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY";
export const MAX_REPEAT = 100;
export const MAX_ELEMENTS = 100;
const ELEMENT = /^(?:([A-Zx])|\[([A-Z]+)\]|\{([A-Z]+)\})(?:\((\d{1,3})(?:,(\d{1,3}))?\))?$/;

/** Read a motif, or throw MotifError. */
export function parseMotif(text: string): Motif {
  let body = text.trim().replace(/\.$/, "").replace(/\s+/g, "");
  const start = body.startsWith("<");
  const end = body.endsWith(">");
  body = body.slice(start ? 1 : 0, end ? -1 : undefined);
  if (!body) throw new MotifError("A motif needs at least one position, such as C-x(2)-C.");
  const parts = body.split("-");
  if (parts.length > MAX_ELEMENTS) throw new MotifError(`A motif may have ${MAX_ELEMENTS} positions; this one has ${parts.length}.`);
  return { elements: parts.map(readElement), start, end };
}

function readElement(part: string): Element {
  const upper = part.replace(/^[a-wyz]/, (c) => c.toUpperCase()).replace(/^X/, "x");
  const match = ELEMENT.exec(upper);
  if (!match) throw new MotifError(`“${part}” is no position of a motif; write a letter, x, [ST] or {P}, then perhaps (2) or (2,4).`);
  const [, letter, some, none, from, to] = match;
  const letters = letter === "x" ? "" : (letter ?? some ?? none ?? "");
  for (const c of letters) if (!AMINO_ACIDS.includes(c)) throw new MotifError(`${c} is not one of the twenty amino acids.`);
  const min = from === undefined ? 1 : Number(from);
  const max = to === undefined ? min : Number(to);
  if (max > MAX_REPEAT) throw new MotifError(`A position may repeat ${MAX_REPEAT} times; here ${max}.`);
  if (min > max || max === 0) throw new MotifError(`(${min},${max}) has no number between its ends.`);
  return { letters, not: none !== undefined, min, max };
}

/** Its regular expression. */
export function motifRegex(motif: Motif): string {
  const one = ({ letters, not, min, max }: Element): string => {
    const set = letters === "" ? "[A-Z]" : not ? `[^${letters}]` : letters.length > 1 ? `[${letters}]` : letters;
    return set + (min === 1 && max === 1 ? "" : min === max ? `{${min}}` : `{${min},${max}}`);
  };
  return (motif.start ? "^" : "") + motif.elements.map(one).join("") + (motif.end ? "$" : "");
}

/** First and last residue of each match, from 0; overlapping ones too, one for each start. */
export function motifMatches(motif: Motif, sequence: string, limit = 1000): [number, number][] {
  const found: [number, number][] = [];
  const shortest = motif.elements.reduce((sum, e) => sum + e.min, 0);
  for (let i = 0; i + shortest <= sequence.length && found.length < limit; i++) {
    if (motif.start && i > 0) break;
    const stop = reach(motif, sequence, i);
    if (stop > i) found.push([i, stop - 1]);
  }
  return found;
}

/** Farthest end of a match that starts at i, or −1: sets of ends, so no pattern is slow. */
function reach(motif: Motif, sequence: string, i: number): number {
  let ends = new Set([i]);
  for (const { letters, not, min, max } of motif.elements) {
    const next = new Set<number>();
    for (const from of ends) {
      for (let n = 0; n <= max; n++) {
        if (n >= min) next.add(from + n);
        const c = sequence[from + n];
        if (c === undefined || (letters !== "" && letters.includes(c) === not)) break;
      }
    }
    ends = next;
    if (ends.size === 0) return -1;
  }
  if (motif.end) return ends.has(sequence.length) ? sequence.length : -1;
  return Math.max(...ends);
}

/** The motif in words: "C, 2 to 4 of any, C". */
export function motifWords({ elements, start, end }: Motif): string {
  const words = elements.map(({ letters, not, min, max }) => {
    const what = letters === "" ? "any" : (not ? "not " : "") + [...letters].join(" or ");
    if (min === 1 && max === 1) return what;
    return `${min === max ? min : `${min} to ${max}`} × ${what}`;
  });
  return [start ? "at the start" : "", ...words, end ? "at the end" : ""].filter(Boolean).join(", ");
}

export type ReadAs = "text" | "latent" | "accession" | "motif" | "sequence" | "nothing";

const UNIPROT = /^(?:[OPQ]\d[A-Z\d]{3}\d|[A-NR-Z]\d(?:[A-Z][A-Z\d]{2}\d){1,2})$/i;
const PDB = /^\d[A-Z\d]{3}(?:[_.:-]?[A-Z\d])?$/i;

/** What a query is probably meant as; the server has the last word. */
export function readAs(query: string): ReadAs {
  const text = query.trim();
  if (!text) return "nothing";
  if (/^(?:#|latent\s*)?\d+$/i.test(text)) return "latent";
  if (UNIPROT.test(text) || PDB.test(text)) return "accession";
  if (/^<?[A-Zx[{][^ ]*>?\.?$/.test(text) && /[-[\]{}<>()]/.test(text)) {
    try {
      parseMotif(text);
      return "motif";
    } catch {
      return /[[\]{}()]/.test(text) ? "motif" : "text";
    }
  }
  if (text.length >= 10 && /^[ACDEFGHIKLMNPQRSTVWYXBZUO]+$/.test(text)) return "sequence";
  return "text";
}
