/** Latents near this one, its proteins, and the same concept in other dictionaries. */
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { memo } from "react";
import { Link } from "wouter";
import { get, segment, type Schemas } from "../../api/client";
import { neighboursQuery, type LatentName } from "../../api/queries";
import { count, fixed, sig } from "../../lib/format";
import { latentHref, proteinHref } from "../../lib/links";
import { GLOSSARY } from "../../lib/glossary";
import { Empty, Panel, Problem, Skeleton, Tabs } from "../../ui/basics";

export const Neighbours = memo(function Neighbours({ sae, j, kind, onKind }: { sae: string; j: number; kind: "cosine" | "coactivation"; onKind(kind: "cosine" | "coactivation"): void }) {
  const { data, error, isPending } = useQuery(neighboursQuery(sae, j, kind));
  const most = Math.max(...(data ?? []).map((n) => (kind === "cosine" ? Math.abs(n.value) : n.value)), 1e-9);
  return (
    <Panel title="Neighbours" side={
      <Tabs small label="Neighbours by" value={kind} onChange={onKind} options={[
        { value: "cosine", label: "direction", title: GLOSSARY.cosine },
        { value: "coactivation", label: "firing together", title: GLOSSARY.coactivation },
      ]} />}>
      {error ? <Problem error={error} /> : isPending ? <Skeleton lines={6} /> : data.length === 0 ? <Empty title="None">No latent is close by this measure.</Empty> : (
        <ul className="neighbours">
          {data.map((n) => (
            <li key={n.latent}>
              <Link href={latentHref(sae, n.latent)}><span className="number">{n.latent}</span> {n.label}</Link>
              <span className="bar" aria-hidden="true"><i style={{ width: `${(100 * Math.abs(n.value)) / most}%` }} /></span>
              <span className="value">{kind === "cosine" ? fixed(n.value) : `×${sig(n.value, 2)}`}</span>
            </li>
          ))}
        </ul>
      )}
    </Panel>
  );
});

export const Elsewhere = memo(function Elsewhere({ names, many }: { names: readonly LatentName[]; many: boolean }) {
  if (!many) return null;
  return (
    <Panel title="The same concept elsewhere" note="Latents of the other dictionaries that training chose for this one's best concept.">
      {names.length === 0 ? <Empty title="None">No other dictionary has a latent for it.</Empty> : (
        <ul className="neighbours">
          {names.map((n) => (
            <li key={`${n.sae}/${n.latent}`}><Link href={latentHref(n.sae, n.latent)}><span className="number">{n.latent}</span> {n.label}</Link><small>{n.sae}</small></li>
          ))}
        </ul>
      )}
    </Panel>
  );
});

export const Proteins = memo(function Proteins({ sae, j, max }: { sae: string; j: number; max: number }) {
  const { data, error, isPending, fetchNextPage, hasNextPage, isFetchingNextPage } = useInfiniteQuery({
    queryKey: ["hits", sae, j],
    queryFn: ({ pageParam, signal }) => get<Schemas["ProteinHits"]>(`saes/${segment(sae)}/latents/${j}/proteins`, { cursor: pageParam }, signal),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (page) => page.next ?? undefined,
    staleTime: Infinity,
  });
  const hits = data?.pages.flatMap((page) => page.proteins) ?? [];
  return (
    <Panel title="All its proteins" side={data && <small>{count(data.pages[0]?.total)}</small>}>
      {error ? <Problem error={error} /> : isPending ? <Skeleton lines={6} /> : hits.length === 0 ? <Empty title="None" /> : (
        <div className="hits" tabIndex={0} role="region" aria-label="Proteins of this latent">
          <ul className="neighbours">
            {hits.map((h) => (
              <li key={h.accession}>
                <Link href={proteinHref(h.accession, sae)}>{h.accession}</Link>
                <small className="grow" title={h.description}>{h.description}</small>
                <span className="bar" aria-hidden="true"><i style={{ width: `${(100 * h.max) / max}%` }} /></span>
                <span className="value" title={`at residue ${h.argmax}`}>{sig(h.max)}</span>
              </li>
            ))}
          </ul>
          {hasNextPage && <button type="button" className="button small" disabled={isFetchingNextPage} onClick={() => void fetchNextPage()}>More</button>}
        </div>
      )}
    </Panel>
  );
});
