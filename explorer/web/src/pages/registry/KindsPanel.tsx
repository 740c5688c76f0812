/** What sorts of latents a dictionary has, each with one to look at. */
import { useQuery } from "@tanstack/react-query";
import { useMemo } from "react";
import { Link } from "wouter";
import { columnsQuery, type SAE } from "../../api/queries";
import { count, percent } from "../../lib/format";
import { kindsOf, KIND_WORDS } from "../../lib/latentkinds";
import { saeHref } from "../../lib/links";
import { LatentLink } from "../../ui/LatentLink";
import { Panel, Problem, Skeleton, Tip } from "../../ui/basics";

export function KindsPanel({ sae }: { sae: SAE }) {
  const { data, error } = useQuery(columnsQuery(sae.id));
  const kinds = useMemo(() => (data ? kindsOf(data) : []), [data]);
  const most = Math.max(1, ...kinds.map((k) => k.n));
  return (
    <Panel title="What kinds of latents there are" side={<Link href={saeHref(sae.id)}>{`All ${count(sae.d_sae)} latents`}</Link>}
      note="Sorted by how each fires along proteins, with one of each to look at.">
      {error ? <Problem error={error} /> : !data ? <Skeleton lines={8} /> : (
        <ul className="kinds">
          {kinds.map(({ kind, n, example }) => (
            <li key={kind}>
              <span className="name">{KIND_WORDS[kind] ? <Tip text={KIND_WORDS[kind]}>{kind}</Tip> : kind}</span>
              <span className="amount" title={percent(n / sae.d_sae)}><span className="bar"><i style={{ width: `${(100 * n) / most}%` }} /></span> {count(n)}</span>
              {example !== null ? <LatentLink of={{ sae: sae.id, latent: example, label: data.label[example] ?? "" }} /> : <span />}
            </li>
          ))}
        </ul>
      )}
    </Panel>
  );
}
