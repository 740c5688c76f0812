/** One dictionary: what it is of, how good it is, and how it was made. */
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Link, useLocation } from "wouter";
import { get, segment, type Schemas } from "../../api/client";
import type { SAE } from "../../api/queries";
import { count, fixed, percent, sig } from "../../lib/format";
import { latentHref, saeHref } from "../../lib/links";
import { siteName } from "../../lib/depth";
import { flatten } from "../../lib/provenance";
import { Chip, Figure, Panel, Problem, Skeleton, Term } from "../../ui/basics";
import { Icon } from "../../ui/icons";

/** Where in the model a dictionary reads, in words. */
export const siteWords = ({ site, block }: Pick<SAE, "site" | "block">): string => siteName(site, block);

export function SaeCard({ sae }: { sae: SAE }) {
  const [, navigate] = useLocation();
  return (
    <Panel
      className="saecard"
      title={<Link href={saeHref(sae.id)}>{sae.model} · {siteWords(sae)}</Link>}
      side={
        <>
          <button type="button" className="button" onClick={() => navigate(latentHref(sae.id, Math.floor(Math.random() * sae.d_sae)))}>
            <Icon name="dice" size={14} /> Random latent
          </button>
          <Link href={saeHref(sae.id)} className="button primary">Open the atlas</Link>
        </>
      }
    >
      <p className="weights">
        <Chip tone="quiet">{sae.architecture}</Chip>
        <span><b>Model weights</b> {sae.weights}</span>
      </p>
      <div className="saebody">
        <Gauge sae={sae} />
        <Figures sae={sae} />
      </div>
      <Provenance sae={sae} />
    </Panel>
  );
}

function Figures({ sae }: { sae: SAE }) {
  return (
    <dl className="figures">
      <Figure name={<Term of="width">Latents</Term>} sub={<Term of="dead">{`${percent(sae.dead)} dead`}</Term>}>{count(sae.d_sae)}</Figure>
      <Figure name={<Term of="l0">L0</Term>} sub={sae.k !== null && <>at most <Term of="k">k = {sae.k}</Term></>}>{fixed(sae.l0, 1)}</Figure>
      <Figure name={<Term of="fvu">FVU</Term>}>{sig(sae.fvu)}</Figure>
      {sae.loss_recovered !== null && <Figure name={<Term of="lossRecovered">Loss recovered</Term>}>{percent(sae.loss_recovered)}</Figure>}
      {sae.n_found !== null && <Figure name={<Term of="found">Concepts found</Term>} sub={sae.n_f1_half !== null && <Term of="halfF1">{`${count(sae.n_f1_half)} with F1 > 0.5`}</Term>}>{count(sae.n_found)}</Figure>}
      {sae.n_confirmed !== null && <Figure name={<Term of="confirmed">Labels confirmed</Term>} sub="latents">{count(sae.n_confirmed)}</Figure>}
      <Figure name="Shown on" sub={`${count(sae.n_residues)} residues`}>{count(sae.n_proteins)} proteins</Figure>
    </dl>
  );
}

/** The trade-off in one line each: how few latents speak, and how much of the embedding they say. */
function Gauge({ sae }: { sae: SAE }) {
  const explained = sae.fvu === null ? null : Math.min(1, Math.max(0, 1 - sae.fvu));
  const active = sae.l0 === null ? null : sae.l0 / sae.d_sae;
  return (
    <dl className="gauge">
      {active !== null && (
        <div>
          <dt><Term of="l0">{`${sig(sae.l0)} of ${count(sae.d_sae)} latents`}</Term> speak for a residue</dt>
          <dd><Meter share={active} label={percent(active)} /></dd>
        </div>
      )}
      {explained !== null && (
        <div>
          <dt>and together they say <Term of="fvu">{`${percent(explained)} of its embedding`}</Term></dt>
          <dd><Meter share={explained} label={percent(explained)} /></dd>
        </div>
      )}
    </dl>
  );
}

function Meter({ share, label }: { share: number; label: string }) {
  return <span className="meter" role="img" aria-label={label}><i style={{ width: `${100 * share}%` }} /></span>;
}

function Provenance({ sae }: { sae: SAE }) {
  const [open, setOpen] = useState(false);
  const { data, error } = useQuery({
    queryKey: ["sae", sae.id],
    queryFn: ({ signal }) => get<Schemas["SAEDetail"]>(`saes/${segment(sae.id)}`, {}, signal),
    enabled: open,
    staleTime: Infinity,
  });
  return (
    <details className="made" onToggle={(e) => setOpen(e.currentTarget.open)}>
      <summary>How it was made</summary>
      {error ? <Problem error={error} /> : !data ? open && <Skeleton lines={4} /> : (
        <div className="provenancegroups">
          {flatten(data.provenance).map(({ name, rows }) => (
            <section key={name}>
              <h3>{name}</h3>
              <dl>{rows.map(([key, value]) => <div key={key}><dt>{key}</dt><dd>{value}</dd></div>)}</dl>
            </section>
          ))}
        </div>
      )}
    </details>
  );
}
