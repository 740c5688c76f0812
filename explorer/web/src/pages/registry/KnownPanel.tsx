/** The annotations that are known best, as ways in. */
import { useQuery } from "@tanstack/react-query";
import { useMemo } from "react";
import { Link } from "wouter";
import { conceptsQuery, type SAE } from "../../api/queries";
import { conceptName } from "../../lib/concept";
import { bestOf, choose, statusOf } from "../../lib/concepts";
import { count, fixed } from "../../lib/format";
import { conceptHref } from "../../lib/links";
import { LatentLink } from "../../ui/LatentLink";
import { Empty, Panel, Problem, Skeleton, Term } from "../../ui/basics";

const ROWS = 12;

export function KnownPanel({ saes }: { saes: readonly SAE[] }) {
  const { data, error } = useQuery(conceptsQuery);
  const rows = useMemo(() => {
    const known = choose(data ?? [], { q: "", kinds: [], status: "found", sort: "f1" });
    // Single amino acids are what every dictionary finds: they are shown only where there is little else.
    const rest = known.filter((c) => c.kind !== "amino acid");
    return (rest.length >= 4 ? rest : known).slice(0, ROWS);
  }, [data]);
  const found = useMemo(() => (data ?? []).filter((c) => statusOf(c) === "found").length, [data]);
  return (
    <Panel title={<Term of="found">Concepts it finds</Term>} side={data && data.length > 0 && <Link href="/concepts">{`All ${count(data.length)} concepts`}</Link>}
      note={data && data.length > 0 && <>{count(found)} annotations have a latent that picks them out on protein families it was not chosen on. The best, single amino acids left out:</>}>
      {error ? <Problem error={error} /> : !data ? <Skeleton lines={6} /> : rows.length === 0 ? (
        <Empty title={saes.some((s) => s.has.probes) ? "None found" : "Not probed"}>
          {saes.some((s) => s.has.probes) ? "No latent picked out an annotation on unseen families." : "This bundle was built without annotations; `python -m probes` tests latents against them."}
        </Empty>
      ) : (
        <ul className="known">
          {rows.map((c) => {
            const best = bestOf(c.best)!;
            return (
              <li key={c.concept}>
                <Link href={conceptHref(c.concept)} className="name">{conceptName(c.concept)}</Link>
                <LatentLink of={best} query={`?tab=true_positive&c=${encodeURIComponent(c.concept)}`} />
                <span className="f1"><span className="bar"><i style={{ width: `${100 * (best.score.f1 ?? 0)}%` }} /></span> <Term of="f1">{fixed(best.score.f1)}</Term></span>
              </li>
            );
          })}
        </ul>
      )}
    </Panel>
  );
}
