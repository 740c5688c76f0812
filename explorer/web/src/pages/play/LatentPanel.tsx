/** One latent with this sequence as its first example, and on the structure if there is one. */
import { useQuery } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import { Link } from "wouter";
import type { Schemas } from "../../api/client";
import { examplesQuery, type Example } from "../../api/queries";
import { activationScale } from "../../lib/colour";
import { percent, sig } from "../../lib/format";
import { latentHref } from "../../lib/links";
import { useTheme } from "../../lib/theme";
import { dense } from "../../strip/layout";
import { StripList } from "../../strip/StripList";
import type { Hover } from "../../strip/StripRow";
import { StructurePanel } from "../../structure/StructurePanel";
import { Chip, Empty, Panel, Problem, Skeleton } from "../../ui/basics";
import { ScaleLegend } from "../../ui/ScaleLegend";
import type { PlayLatent } from "./arrange";

const MINE = "\u25b8 ";

export interface LatentPanelProps {
  encoded: Schemas["Encoded"];
  latent: PlayLatent | null;
  name: string;
  structure: string | null;
  accession: string | null;
  hover: number | null;
  onHover(column: number | null): void;
}

export function LatentPanel({ encoded, latent, name, structure, accession, hover, onHover }: LatentPanelProps) {
  const values = useMemo(() => (latent ? dense(latent.track, encoded.sequence.length) : null), [latent, encoded]);
  const onStructure = useMemo(() => (position: number | null) => onHover(position === null ? null : position - 1), [onHover]);
  return (
    <>
      {latent ? <Examples encoded={encoded} latent={latent} name={name} /> : (
        <Panel title="A latent"><Empty title="None chosen">Click a row of the heatmap: the latent comes with your sequence as its first example, beside the proteins on which it fires most.</Empty></Panel>
      )}
      {(structure || accession) && (
        <StructurePanel accession={structure ? name : accession} pdb={structure} values={values} max={latent?.own_max ?? 1} peak={latent?.argmax ?? null}
          hover={hover === null ? null : hover + 1} onHover={onStructure} none="No structure." title={latent ? <>Latent {latent.latent} on the structure</> : "Structure"} />
      )}
    </>
  );
}

function Examples({ encoded, latent, name }: { encoded: Schemas["Encoded"]; latent: PlayLatent; name: string }) {
  const { dark } = useTheme();
  const { data, error, isPending } = useQuery(examplesQuery(encoded.sae, latent.latent, "top"));
  const [view, setView] = useState({ zoom: 0, centre: 0 });
  const [hover, setHover] = useState<Hover | null>(null);
  const scale = useMemo(() => activationScale(latent.own_max, dark), [latent.own_max, dark]);
  const mine: Example = useMemo(() => ({
    accession: `${MINE}${name}`, description: "your sequence", sequence: encoded.sequence, structure: false, max: latent.max, argmax: latent.argmax, focus: latent.argmax,
    track: latent.track, features: [], part: null,
  }), [encoded, latent, name]);
  const rows = useMemo(() => [mine, ...(data?.examples ?? []).slice(0, 8)], [mine, data]);
  return (
    <Panel title={<>Latent <Link href={latentHref(encoded.sae, latent.latent)}>{latent.latent}</Link></>} side={<ScaleLegend max={latent.own_max} />}>
      <p className="chips">
        <span>{latent.label || "no label"}</span>{latent.concept && <Chip>{latent.concept}</Chip>}
        <Chip tone="quiet">{sig(latent.max)} at {encoded.sequence[latent.argmax - 1]}{latent.argmax}</Chip><Chip tone="quiet">{percent(latent.share_active)} of residues</Chip>
        <Link className="button small" href={`/steer?sae=${encodeURIComponent(encoded.sae)}&seq=${encoded.sequence}&ops=${latent.latent}:set:1xmax`}>Steer with it</Link>
      </p>
      {error ? <Problem error={error} /> : isPending ? <Skeleton lines={6} /> : (
        <StripList sae={encoded.sae} examples={rows} scale={scale} align="max" zoom={view.zoom} centre={view.centre} motif="" lead={latent.concept ? [latent.concept] : []} selected={null} hover={hover} onHover={setHover} onView={(c) => setView({ ...view, ...c })} />
      )}
    </Panel>
  );
}
