/** Recorded settings as rows to read. */

export interface Section {
  name: string;
  rows: [key: string, value: string][];
}

const MOST_ROWS = 80;

/** Top-level groups of a record, each with its settings as `a.b` rows; what was left unset is left out. */
export function flatten(record: Record<string, unknown>): Section[] {
  const loose: [string, string][] = [];
  const sections: Section[] = [];
  for (const [name, value] of Object.entries(record)) {
    if (value !== null && typeof value === "object") {
      const rows: [string, string][] = [];
      walk("", value, rows);
      if (rows.length) sections.push({ name, rows: rows.slice(0, MOST_ROWS) });
    } else if (value !== null && value !== "") loose.push([name, show(value)]);
  }
  return loose.length ? [{ name: "record", rows: loose }, ...sections] : sections;
}

function walk(path: string, value: unknown, rows: [string, string][]): void {
  if (value === null || value === undefined || value === "") return;
  if (typeof value !== "object") rows.push([path, show(value)]);
  else if (Array.isArray(value) && value.every((v) => v === null || typeof v !== "object")) {
    if (value.length) rows.push([path, value.map(show).join(", ")]);
  } else
    for (const [key, inner] of Object.entries(value)) {
      const single = Array.isArray(value) && value.length === 1;
      walk(single ? path : path ? `${path}.${key}` : key, inner, rows);
    }
}

function show(value: unknown): string {
  if (value === true) return "yes";
  if (value === false) return "no";
  return String(value);
}
