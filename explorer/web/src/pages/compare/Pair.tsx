/** Two latents side by side on the same proteins. */
import { useQueries, useQuery } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import type { Schemas } from "../../api/client";
import { alongQuery, examplesQuery, latentQuery, type SAE } from "../../api/queries";
import { activationScale } from "../../lib/colour";
import { sig } from "../../lib/format";
import { useTheme } from "../../lib/theme";
import { StripList } from "../../strip/StripList";
import type { Hover } from "../../strip/StripRow";
import { Empty, Panel, Problem, Skeleton } from "../../ui/basics";
import { LatentLink } from "../../ui/LatentLink";
import { ScaleLegend } from "../../ui/ScaleLegend";

const ROWS = 8;

export function Pair({ of, a, b, la, lb }: { of: Schemas["Compared"]; a: SAE; b: SAE; la: number; lb: number }) {
  const known = la >= 0 && la < a.d_sae;
  const other = lb >= 0 ? lb : (of.forth.other[la] ?? -1);
  return (
    <Panel title="Two latents on the same proteins">
      {!known || other < 0 ? <Empty title="No pair chosen">Press “Both” beside a match.</Empty> : <Both a={a} b={b} la={la} lb={other} />}
    </Panel>
  );
}

function Both({ a, b, la, lb }: { a: SAE; b: SAE; la: number; lb: number }) {
  const top = useQuery(examplesQuery(a.id, la, "top"));
  const first = useQuery(latentQuery(a.id, la));
  const second = useQuery(latentQuery(b.id, lb));
  const examples = useMemo(() => (top.data?.examples ?? []).slice(0, ROWS), [top.data]);
  const along = useQueries({ queries: examples.map((e) => ({ ...alongQuery(b.id, lb, e.accession), retry: false })) });
  const theirs = along.flatMap((q) => (q.data ? [q.data] : []));
  const error = top.error ?? first.error ?? second.error;
  if (error) return <Problem error={error} />;
  if (!top.data || !first.data || !second.data) return <Skeleton lines={8} />;
  return (
    <>
      <Side sae={a.id} latent={first.data} examples={examples} />
      {along.some((q) => q.isPending) ? <Skeleton lines={6} /> : theirs.length === 0 ? <Empty title="Other proteins">The second bundle has none of these.</Empty> : <Side sae={b.id} latent={second.data} examples={theirs} />}
    </>
  );
}

function Side({ sae, latent, examples }: { sae: string; latent: Schemas["LatentDetail"]; examples: Schemas["Example"][] }) {
  const { dark } = useTheme();
  const [hover, setHover] = useState<Hover | null>(null);
  const [view, setView] = useState({ zoom: 0, centre: 0 });
  const scale = useMemo(() => activationScale(latent.max, dark), [latent.max, dark]);
  return (
    <div className="pairside">
      <div className="toolrow"><LatentLink of={latent} /><small className="quiet">maximum {sig(latent.max)}</small><ScaleLegend max={latent.max} /></div>
      <StripList sae={sae} examples={examples} scale={scale} align="start" zoom={view.zoom} centre={view.centre} motif="" lead={[]} selected={null} hover={hover} onHover={setHover} onView={(c) => setView({ ...view, ...c })} />
    </div>
  );
}
