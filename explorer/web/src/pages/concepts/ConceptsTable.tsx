/** Concepts as a table of which only the visible rows are laid out. */
import { useVirtualizer } from "@tanstack/react-virtual";
import { useEffect, useRef } from "react";
import { Link } from "wouter";
import { conceptName } from "../../lib/concept";
import { bestOf, kindName, scoreColours, type Sort, type Summary } from "../../lib/concepts";
import { count, fixed, percent } from "../../lib/format";
import type { TermKey } from "../../lib/glossary";
import { conceptHref } from "../../lib/links";
import { useTheme } from "../../lib/theme";
import { Term, Tip } from "../../ui/basics";
import { Icon } from "../../ui/icons";
import { LatentLink } from "../../ui/LatentLink";
import { Range } from "../latent/ConceptTable";

const ROW = 37;

export interface ConceptsTableProps {
  rows: readonly Summary[];
  saes: readonly string[];
  sort: Sort;
  onSort(sort: Sort): void;
}

export function ConceptsTable({ rows, saes, sort, onSort }: ConceptsTableProps) {
  const scroller = useRef<HTMLDivElement>(null);
  const virtual = useVirtualizer({ count: rows.length, getScrollElement: () => scroller.current, estimateSize: () => ROW, overscan: 12 });
  useEffect(() => {
    // In newer browsers scrollTo answers a promise, which is no clean-up.
    scroller.current?.scrollTo({ top: 0 });
  }, [rows]);
  const shown = virtual.getVirtualItems();
  const before = shown[0]?.start ?? 0;
  const after = virtual.getTotalSize() - (shown.at(-1)?.end ?? 0);
  const several = saes.length > 1;
  const span = several ? 8 : 7;
  const head = (name: Sort, label: string, term?: TermKey, numeric = true) => (
    <th scope="col" className={numeric ? "n" : ""} aria-sort={sort === name ? (name === "name" ? "ascending" : "descending") : undefined}>
      {term ? <Term of={term}>{label}</Term> : label} <button type="button" className="sort" aria-label={`Sort by ${label}`} onClick={() => onSort(name)}>{sort === name ? "" : "⇅"}</button>
    </th>
  );
  return (
    <div ref={scroller} className="tablescroll" tabIndex={0} role="region" aria-label="Concepts">
      <table aria-rowcount={rows.length + 1}>
        <thead>
          <tr>
            {head("name", "Concept", undefined, false)}
            {head("f1", "F1", "f1")}
            <th scope="col" className="wide">95 % interval</th>
            <th scope="col">Best latent</th>
            <th scope="col">Labels</th>
            {several && <th scope="col"><Tip text="F1 of each dictionary's best latent, in the order of the registry: dark is high.">Dictionaries</Tip></th>}
            {head("clusters", "Families", "clusters")}
            {head("positive", "Carriers")}
          </tr>
        </thead>
        <tbody>
          {before > 0 && <tr aria-hidden="true"><td colSpan={span} style={{ height: before, padding: 0 }} /></tr>}
          {shown.map(({ index }) => <Row key={rows[index]!.concept} at={index} concept={rows[index]!} saes={saes} several={several} />)}
          {after > 0 && <tr aria-hidden="true"><td colSpan={span} style={{ height: after, padding: 0 }} /></tr>}
        </tbody>
      </table>
    </div>
  );
}

function Row({ at, concept, saes, several }: { at: number; concept: Summary; saes: readonly string[]; several: boolean }) {
  const best = bestOf(concept.best);
  const found = Object.values(concept.best).filter((b) => b.found).length;
  return (
    <tr aria-rowindex={at + 2}>
      <td className="nameof">
        <Link href={conceptHref(concept.concept)} title={concept.concept}>{conceptName(concept.concept)}</Link>
        {found > 0 && (
          <span className="foundmark" title={several ? `Found by ${found} dictionaries on families they were not chosen on` : "Found on families it was not chosen on"}>
            <Icon name="check" size={12} />{several ? found : <span className="visually-hidden">found</span>}
          </span>
        )}
      </td>
      <td className="n">{best ? <b>{fixed(best.score.f1)}</b> : <small>–</small>}</td>
      <td className="wide">{best && <Range score={best.score} neuron={null} shuffled={null} />}</td>
      <td className="bestcell">{best ? <LatentLink of={best} query={concept.level === "residue" ? `?tab=true_positive&c=${encodeURIComponent(concept.concept)}` : ""} /> : <small>too rare to test</small>}</td>
      <td><small>{kindName(concept.kind)}</small></td>
      {several && <td><Cells concept={concept} saes={saes} /></td>}
      <td className="n">{count(concept.n_clusters)}</td>
      <td className="n" title={`${percent(concept.base_rate)} of the test part`}>{count(concept.n_positive)} <small>{concept.level === "residue" ? "residues" : "proteins"}</small></td>
    </tr>
  );
}

/** One cell a dictionary. */
function Cells({ concept, saes }: { concept: Summary; saes: readonly string[] }) {
  const { dark } = useTheme();
  const known = saes.filter((id) => concept.best[id]?.score.f1 != null);
  if (!known.length) return null;
  return (
    <span className="cells" role="img" aria-label={`F1 in ${known.length} of ${saes.length} dictionaries`} style={{ "--cell": `${Math.max(2, Math.min(9, Math.floor(180 / saes.length)))}px` } as React.CSSProperties}>
      {saes.map((id) => {
        const f1 = concept.best[id]?.score.f1;
        return <i key={id} title={f1 == null ? `${id}: not tested` : `${id}: F1 ${fixed(f1)}`} style={f1 == null ? undefined : { background: scoreColours(f1, dark).background }} />;
      })}
    </span>
  );
}
