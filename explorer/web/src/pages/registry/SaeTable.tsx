/** Many dictionaries as a table. */
import { useMemo } from "react";
import { Link } from "wouter";
import type { SAE } from "../../api/queries";
import { count, fixed, percent, sig } from "../../lib/format";
import type { TermKey } from "../../lib/glossary";
import { saeHref } from "../../lib/links";
import { Panel, Term } from "../../ui/basics";
import { siteWords } from "./SaeCard";
import type { SortKey } from "./state";

interface Column {
  key: SortKey;
  name: string;
  term: TermKey;
  show(sae: SAE): string;
  /** Whether small is good, so that a first click puts small ones first. */
  small?: boolean;
}

const COLUMNS: readonly Column[] = [
  { key: "d_sae", name: "Latents", term: "width", show: (s) => count(s.d_sae) },
  { key: "k", name: "k", term: "k", show: (s) => count(s.k), small: true },
  { key: "l0", name: "L0", term: "l0", show: (s) => fixed(s.l0, 1), small: true },
  { key: "fvu", name: "FVU", term: "fvu", show: (s) => sig(s.fvu), small: true },
  { key: "loss_recovered", name: "Loss recovered", term: "lossRecovered", show: (s) => percent(s.loss_recovered) },
  { key: "dead", name: "Dead", term: "dead", show: (s) => percent(s.dead), small: true },
  { key: "n_found", name: "Found", term: "found", show: (s) => count(s.n_found) },
  { key: "n_f1_half", name: "F1 > 0.5", term: "halfF1", show: (s) => count(s.n_f1_half) },
  { key: "n_confirmed", name: "Confirmed", term: "confirmed", show: (s) => count(s.n_confirmed) },
];

const collator = new Intl.Collator("en", { numeric: true });

/** Dictionaries in order; unknown values last either way. */
export function sorted(saes: readonly SAE[], key: SortKey, up: boolean): SAE[] {
  const named = (a: SAE, b: SAE) => collator.compare(a.model, b.model) || (a.block ?? 1e9) - (b.block ?? 1e9) || a.d_sae - b.d_sae || (a.k ?? 0) - (b.k ?? 0);
  if (key === "name") return [...saes].sort((a, b) => (up ? -named(a, b) : named(a, b)));
  const small = COLUMNS.find((c) => c.key === key)?.small ?? false;
  const sign = small === up ? -1 : 1;
  return [...saes].sort((a, b) => {
    const [x, y] = [a[key], b[key]];
    if (x === null || y === null) return x === y ? named(a, b) : x === null ? 1 : -1;
    return sign * (x - y) || named(a, b);
  });
}

export interface SaeTableProps {
  saes: readonly SAE[];
  sort: SortKey;
  up: boolean;
  onSort(key: SortKey): void;
}

export function SaeTable({ saes, sort, up, onSort }: SaeTableProps) {
  const rows = useMemo(() => sorted(saes, sort, up), [saes, sort, up]);
  const shown = COLUMNS.filter((c) => saes.some((s) => s[c.key as Exclude<SortKey, "name">] !== null));
  const weights = [...new Set(saes.map((s) => s.weights))];
  const aria = (column: { key: SortKey; small?: boolean }) => (sort !== column.key ? undefined : Boolean(column.small) !== up ? "ascending" : "descending");
  return (
    <Panel title="Dictionaries" side={<small>{count(saes.length)}</small>} note={weights.length === 1 ? <>Model weights: {weights[0]}</> : undefined}>
      <div className="scroll-x" tabIndex={0} role="region" aria-label="Dictionaries">
        <table className="saes">
          <thead>
            <tr>
              <th scope="col" aria-sort={aria({ key: "name", small: true })}><button type="button" className="sort" onClick={() => onSort("name")}>Model and site</button></th>
              {shown.map((c) => (
                <th key={c.key} scope="col" className="n" aria-sort={aria(c)}>
                  <Term of={c.term}>{c.name}</Term> <button type="button" className="sort" aria-label={`Sort by ${c.name}`} onClick={() => onSort(c.key)}>{sort === c.key ? "" : "⇅"}</button>
                </th>
              ))}
              <th scope="col" className="n">Proteins</th>
              {weights.length > 1 && <th scope="col">Weights</th>}
            </tr>
          </thead>
          <tbody>
            {rows.map((sae) => (
              <tr key={sae.id}>
                <td><Link href={saeHref(sae.id)} title={sae.id}><b>{sae.model}</b> {siteWords(sae)}</Link> <small>{sae.architecture}</small></td>
                {shown.map((c) => <td key={c.key} className="n">{c.show(sae)}</td>)}
                <td className="n">{count(sae.n_proteins)}</td>
                {weights.length > 1 && <td className="weightscell" title={sae.weights}>{sae.weights}</td>}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </Panel>
  );
}
