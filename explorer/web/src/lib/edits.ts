/** Edits as the command line writes them: `123:set:1.5xmax@10-20;40:zero`. */
export const OPERATIONS = ["set", "add", "scale", "zero"] as const;
export type Operation = (typeof OPERATIONS)[number];
export type Unit = "xmax" | "raw";

export interface Edit {
  latent: number;
  operation: Operation;
  strength: number;
  unit: Unit;
  /** `all`, `active`, `masked`, or ranges counted from 1. */
  where: string;
}

const FORM = /^\s*(\d{1,9})\s*:\s*(set|add|scale|zero)\s*(?::\s*(-?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)(xmax)?\s*)?(?:@\s*([\w,\- ]+?)\s*)?$/i;
const PLACES = /^(all|active|masked|\d{1,6}(-\d{1,6})?(\s*,\s*\d{1,6}(-\d{1,6})?)*)$/;

/** One edit, or null where the text is none. */
export function parseEdit(text: string): Edit | null {
  const found = FORM.exec(text);
  if (!found) return null;
  const operation = found[2]!.toLowerCase() as Operation;
  const where = found[5] ?? "all";
  if (!PLACES.test(where) || (operation === "zero") !== (found[3] === undefined)) return null;
  if (operation === "scale" && found[4]) return null;
  return { latent: Number(found[1]), operation, strength: Number(found[3] ?? 0), unit: found[4] ? "xmax" : "raw", where };
}

/** Edits of a text; what can't be read is left out and named. */
export function parseEdits(text: string): { edits: Edit[]; wrong: string[] } {
  const edits: Edit[] = [];
  const wrong: string[] = [];
  for (const part of text.split(";")) {
    if (!part.trim()) continue;
    const edit = parseEdit(part);
    if (edit) edits.push(edit);
    else wrong.push(part.trim());
  }
  return { edits, wrong };
}

/** An edit as text. */
export function formatEdit(edit: Edit): string {
  const strength = edit.operation === "zero" ? "" : `:${Number(edit.strength.toPrecision(6))}${edit.unit === "xmax" && edit.operation !== "scale" ? "xmax" : ""}`;
  const where = edit.where === "all" ? "" : `@${edit.where.replace(/\s/g, "")}`;
  return `${edit.latent}:${edit.operation}${strength}${where}`;
}

export const formatEdits = (edits: readonly Edit[]): string => edits.map(formatEdit).join(";");

/** Whether a text says where an edit applies. */
export const isWhere = (text: string): boolean => PLACES.test(text.trim());
