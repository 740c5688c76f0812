/** One concept: where it is known best, and what that is worth. */
import { useQuery } from "@tanstack/react-query";
import { useMemo } from "react";
import { Link } from "wouter";
import { BASE, type Schemas } from "../api/client";
import { conceptQuery, saesQuery, type SAE } from "../api/queries";
import { conceptName } from "../lib/concept";
import { kindName } from "../lib/concepts";
import { count, fixed, percent } from "../lib/format";
import { unsegment } from "../lib/links";
import { useUrlState } from "../lib/urlstate";
import { Chip, Figure, Problem, Skeleton, Term, useTitle } from "../ui/basics";
import { Icon } from "../ui/icons";
import { Heatmap } from "./concepts/Heatmap";
import { InSae } from "./concepts/InSae";
import { CONCEPT } from "./concepts/state";

type Detail = Schemas["ConceptDetail"];

export default function ConceptPage() {
  // The raw address: names may hold slashes and per cents, which a router would undo too soon.
  const concept = unsegment(window.location.pathname.slice(`${BASE}concepts/`.length));
  const { data, error, refetch } = useQuery(conceptQuery(concept));
  const { data: saes } = useQuery(saesQuery);
  useTitle(conceptName(concept), "Concepts");
  return (
    <main id="main" className="page stacked">
      {error ? <Problem error={error} retry={() => void refetch()} /> : !data || !saes ? <Skeleton lines={10} height={420} /> : <Shown detail={data} saes={saes} />}
    </main>
  );
}

function Shown({ detail, saes }: { detail: Detail; saes: readonly SAE[] }) {
  const [state, set] = useUrlState(CONCEPT);
  const scores = useMemo(
    () => new Map(detail.saes.flatMap((s) => {
      const best = s.latents.find((l) => l.is_best) ?? s.latents[0];
      return best ? [[s.sae, best] as const] : [];
    })),
    [detail],
  );
  const ranked = useMemo(() => [...scores.values()].sort((a, b) => (b.score.f1 ?? -1) - (a.score.f1 ?? -1)), [scores]);
  const chosen = detail.saes.find((s) => s.sae === state.sae) ?? detail.saes.find((s) => s.sae === ranked[0]?.sae) ?? detail.saes[0]!;
  const found = [...scores.values()].filter((s) => s.found).length;
  const title = conceptName(detail.concept);
  return (
    <>
      <div className="latenthead">
        <nav className="crumbs" aria-label="Where this is">
          <Link href="/concepts">Concepts</Link>
          <span aria-hidden="true">/</span>
          <Link href={`/concepts?kind=${encodeURIComponent(detail.kind)}`}>{kindName(detail.kind)}</Link>
        </nav>
        <div className="titlerow"><h1>{title}{title !== detail.concept && <code className="letters">{detail.concept}</code>}</h1></div>
        <p className="chips">
          <Chip tone="quiet">labels of {detail.level === "residue" ? "residues" : "whole proteins"}</Chip>
          {found > 0 ? <Chip tone="accent"><Icon name="check" size={12} /> <Term of="found">{detail.saes.length > 1 ? `found by ${found} of ${detail.saes.length} dictionaries` : "found on unseen families"}</Term></Chip>
            : <Chip>{scores.size ? "not found on unseen families" : "too rare to test"}</Chip>}
        </p>
        <dl className="figures">
          {ranked[0] && <Figure name={<Term of="f1">Best F1</Term>} sub={ranked[0].score.f1_low !== null && `${fixed(ranked[0].score.f1_low)}–${fixed(ranked[0].score.f1_high)}`}>{fixed(ranked[0].score.f1)}</Figure>}
          <Figure name="Carriers" sub="in the test part">{count(chosen.n_positive)} {detail.level === "residue" ? "residues" : "proteins"}</Figure>
          <Figure name={<Term of="clusters">Families</Term>}>{count(chosen.n_clusters)}</Figure>
          <Figure name={<Term of="baseRate">Base rate</Term>}>{percent(chosen.base_rate)}</Figure>
        </dl>
      </div>
      {detail.saes.length > 1 && <Heatmap saes={saes.filter((s) => detail.saes.some((d) => d.sae === s.id))} scores={scores} chosen={chosen.sae} onChoose={(sae) => set({ sae })} />}
      <InSae concept={detail.concept} level={detail.level} of={chosen} sae={saes.find((s) => s.id === chosen.sae)} several={detail.saes.length > 1} />
    </>
  );
}
