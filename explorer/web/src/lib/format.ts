/** Numbers and names as people read them. */

const THIN = "\u202f";

/** A whole number with thin spaces: 12 345. */
export function count(n: number | null | undefined): string {
  if (n === null || n === undefined || !Number.isFinite(n)) return "–";
  const digits = Math.abs(Math.round(n)).toString();
  const grouped = digits.length > 4 ? digits.replace(/\B(?=(\d{3})+$)/g, THIN) : digits;
  return n < 0 ? `−${grouped}` : grouped;
}

/** Three significant digits, without an exponent where that is short. */
export function sig(x: number | null | undefined, digits = 3): string {
  if (x === null || x === undefined || !Number.isFinite(x)) return "–";
  if (x === 0) return "0";
  const size = Math.abs(x);
  if (size >= 1e5 || size < 1e-3) return minus(x.toExponential(Math.max(0, digits - 2))).replace("e", "e").replace("e+", "e");
  const text = size >= 10 ** digits ? Math.round(x).toString() : Number(x.toPrecision(digits)).toString();
  return minus(text);
}

/** A fixed number of decimals. */
export function fixed(x: number | null | undefined, decimals = 2): string {
  return x === null || x === undefined || !Number.isFinite(x) ? "–" : minus(x.toFixed(decimals));
}

/** A share as per cent: 0.0123 is 1.23 %. */
export function percent(x: number | null | undefined): string {
  if (x === null || x === undefined || !Number.isFinite(x)) return "–";
  const value = 100 * x;
  if (value === 0) return "0 %";
  if (value < 0.001) return "< 0.001 %";
  if (value >= 99.95 && value < 100) return "> 99.9 %";
  return `${Number(value.toPrecision(value >= 10 ? 3 : 2))} %`;
}

function minus(text: string): string {
  return text.replace(/^-/, "−");
}

/** "1 protein", "2 proteins". */
export function plural(n: number, one: string, many = `${one}s`): string {
  return `${count(n)} ${n === 1 ? one : many}`;
}

/** A file's or tab's title from parts, the most particular first. */
export function title(...parts: (string | undefined | null)[]): string {
  return [...parts.filter(Boolean), "Protein latents"].join(" · ");
}

/** Rows as CSV; a cell that a spreadsheet could take for a formula is quoted with an apostrophe. */
export function toCsv(header: string[], rows: (string | number | boolean | null)[][]): string {
  const cell = (value: string | number | boolean | null): string => {
    if (value === null) return "";
    let text = String(value);
    if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
    return /[",\n\r]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
  };
  return [header, ...rows].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}

/** Give the browser a text to save. */
export function download(name: string, text: string, type: string): void {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
