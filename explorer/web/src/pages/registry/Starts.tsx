/** Latents to begin with: labels that were confirmed, one of each sort. */
import { useQuery } from "@tanstack/react-query";
import { useMemo } from "react";
import { Link } from "wouter";
import { columnsQuery, latentQuery, type Columns, type SAE } from "../../api/queries";
import { fixed } from "../../lib/format";
import { latentHref } from "../../lib/links";
import { splitLabel } from "../../lib/label";
import { Panel, useWidth } from "../../ui/basics";
import { Logo } from "../../ui/Logo";

const NAMED = new Set(["annotation", "concept", "amino acid", "amino-acid class"]);

/** The best of each name: confirmed labels by precision, then kinds not yet shown by F1. */
export function starts(columns: Columns, most: number): number[] {
  const name = (j: number) => splitLabel(columns.label[j]!)[0].replace(/\s*\(.*$/, "");
  const order = columns.label.map((_, j) => j).filter((j) => columns.frequency[j]! > 0);
  const named = (j: number) => (NAMED.has(columns.label_source[j]!) ? 1 : /motif|every|stretch|terminus/.test(columns.label[j]!) ? 0.6 : 0);
  const worth = (j: number) => named(j) + (columns.confirmed[j] ? 0.6 : 0) + 0.5 * (columns.precision[j] ?? 0) + 0.3 * (columns.f1[j] ?? 0);
  order.sort((a, b) => worth(b) - worth(a) || a - b);
  const seen = new Set<string>();
  const chosen: number[] = [];
  for (const j of order) {
    const key = name(j).toLowerCase();
    if (seen.has(key)) continue;
    seen.add(key);
    chosen.push(j);
    if (chosen.length === most) break;
  }
  return chosen;
}

export function Starts({ sae }: { sae: SAE }) {
  const { data } = useQuery(columnsQuery(sae.id));
  const chosen = useMemo(() => (data ? starts(data, 12) : []), [data]);
  if (!data || chosen.length === 0) return null;
  return (
    <Panel title="Good places to start" note={sae.has.probes ? "One latent of each name, those first whose label held on protein families that were not used to choose it." : "One latent of each name."}>
      <ul className="starts">
        {chosen.map((j) => <StartCard key={j} sae={sae.id} j={j} columns={data} />)}
      </ul>
    </Panel>
  );
}

function StartCard({ sae, j, columns }: { sae: string; j: number; columns: Columns }) {
  const { data } = useQuery(latentQuery(sae, j));
  const [box, width] = useWidth<HTMLDivElement>();
  const [words] = splitLabel(columns.label[j]!);
  return (
    <li>
      <Link href={latentHref(sae, j)} className="startcard">
        <span className="name"><span className="number">{j}</span> {words!.replace(/ \((?:precision|F1)[^)]*\)$/, "")}</span>
        <div ref={box} className="mini">{data?.logo && width > 20 && <Logo logo={data.logo} width={width} height={54} label={`Logo of latent ${j}`} />}</div>
        <small>{columns.kind[j]}{columns.precision[j] != null && ` · precision ${fixed(columns.precision[j])}`}</small>
      </Link>
    </li>
  );
}
