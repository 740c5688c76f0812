/** One concept: which latents know it, in every dictionary, and against which baselines. */
import * as P from "@observablehq/plot";
import { useQuery } from "@tanstack/react-query";
import { useCallback, useMemo } from "react";
import { Link } from "wouter";
import { conceptQuery, saesQuery, type SAE, type Score } from "../api/queries";
import { BASE, type Schemas } from "../api/client";
import { DARK_STOPS, interpolate, LIGHT_STOPS } from "../lib/colour";
import { conceptName } from "../lib/concept";
import { count, fixed, percent } from "../lib/format";
import { latentHref, saeHref, unsegment } from "../lib/links";
import { useTheme } from "../lib/theme";
import { Chip, Empty, Figure, Panel, Problem, Skeleton, Term, useTitle } from "../ui/basics";
import { Icon } from "../ui/icons";
import { Plot } from "../ui/Plot";

type InSAE = Schemas["ConceptInSAE"];

export default function ConceptPage() {
  // The raw address: names may hold slashes and per cents, which a router would undo too soon.
  const concept = unsegment(window.location.pathname.slice(`${BASE}concepts/`.length));
  const { data, error, refetch } = useQuery(conceptQuery(concept));
  const { data: saes } = useQuery(saesQuery);
  useTitle(conceptName(concept));
  return (
    <main id="main" className="page">
      {error ? <Problem error={error} retry={() => void refetch()} /> : !data || !saes ? <div className="stack"><Skeleton lines={2} /><Skeleton lines={8} height={400} /></div> : (
        <div className="stack">
          <div className="latenthead">
            <nav className="crumbs" aria-label="Where this is"><Link href="/concepts">Concepts</Link><span aria-hidden="true">/</span><span>{data.concept}</span></nav>
            <h1>{conceptName(data.concept)}</h1>
            <p className="chips"><Chip tone="accent">labels from {data.kind}</Chip><Chip>of {data.level === "residue" ? "residues" : "whole proteins"}</Chip></p>
          </div>
          {data.saes.length === 0 && <Empty title="Not tested">No dictionary was probed for it.</Empty>}
          {data.saes.length > 1 && <Panel title="F1 by site and width" note="The best latent of each dictionary."><Heat rows={data.saes} saes={saes} /></Panel>}
          <div className="conceptgrid">
            {data.saes.map((row) => <InOne key={row.sae} row={row} concept={data.concept} sae={saes.find((s) => s.id === row.sae)} />)}
          </div>
        </div>
      )}
    </main>
  );
}

const BASELINES: [string, string][] = [
  ["neuron", "best neuron"], ["component", "best component (PCA)"], ["random", "random directions"], ["shuffled_labels", "shuffled labels"],
  ["shuffled_parent", "model with shuffled weights"], ["all_positive", "say yes everywhere"],
];

function InOne({ row, concept, sae }: { row: InSAE; concept: string; sae: SAE | undefined }) {
  const best = row.latents.find((l) => l.is_best) ?? row.latents[0];
  const query = `?c=${encodeURIComponent(concept)}&tab=`;
  return (
    <Panel title={<Link href={saeHref(row.sae)}>{sae?.name ?? row.sae}</Link>} className="inone">
      <dl className="figures">
        <Figure name="Residues">{count(row.n_positive)}</Figure>
        <Figure name={<Term of="clusters">Families</Term>}>{count(row.n_clusters)}</Figure>
        <Figure name={<Term of="baseRate">Base rate</Term>}>{percent(row.base_rate)}</Figure>
        {best && <Figure name={<Term of="f1">Best F1</Term>} sub={best.found ? <><Icon name="check" size={11} /> found</> : undefined}>{fixed(best.score.f1)}</Figure>}
      </dl>
      <ul className="baselines" aria-label="F1 against baselines">
        {best && <Line name={`latent ${best.latent}`} score={best.score} ours />}
        {BASELINES.map(([key, name]) => row.baselines[key] && <Line key={key} name={name} score={row.baselines[key]!} />)}
      </ul>
      {row.latents.length === 0 ? <Empty title="No latent">None fires on it better than by chance.</Empty> : (
        <div className="scroll-x" tabIndex={0} role="region" aria-label="Latents for this concept">
          <table>
            <thead><tr><th scope="col">Latent</th><th className="n" scope="col"><Term of="precision">Precision</Term></th><th className="n" scope="col"><Term of="recall">Recall</Term></th><th className="n" scope="col"><Term of="f1">F1</Term></th><th className="n" scope="col"><Term of="auroc">AUROC</Term></th><th scope="col"><span className="visually-hidden">Examples</span></th></tr></thead>
            <tbody>
              {row.latents.map((l) => (
                <tr key={l.latent}>
                  <td><Link href={latentHref(row.sae, l.latent)}><span className="number">{l.latent}</span> {l.label}</Link> <small>{l.kind}</small> {l.is_best && <Chip tone="accent">chosen</Chip>}</td>
                  <td className="n">{fixed(l.score.precision)}</td><td className="n">{fixed(l.score.recall)}</td><td className="n"><b>{fixed(l.score.f1)}</b></td><td className="n">{fixed(l.score.auroc)}</td>
                  <td className="rowactions"><Link className="button small" href={latentHref(row.sae, l.latent, `${query}true_positive`)}>hits</Link><Link className="button small" href={latentHref(row.sae, l.latent, `${query}near_miss`)}>near misses</Link></td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </Panel>
  );
}

function Line({ name, score, ours }: { name: string; score: Score; ours?: boolean }) {
  const at = (v: number) => `${100 * v}%`;
  return (
    <li className={ours ? "ours" : ""}>
      <span>{name}</span>
      <span className="scale" aria-hidden="true">
        {score.f1_low !== null && score.f1_high !== null && <i className="interval" style={{ left: at(score.f1_low), width: at(score.f1_high - score.f1_low) }} />}
        {score.f1 !== null && <i className="dot" style={{ left: at(score.f1) }} />}
      </span>
      <span className="value">{fixed(score.f1)}{score.f1_low !== null && <small> {fixed(score.f1_low)}–{fixed(score.f1_high)}</small>}</span>
    </li>
  );
}

function Heat({ rows, saes }: { rows: InSAE[]; saes: SAE[] }) {
  const { dark } = useTheme();
  const cells = useMemo(() => rows.flatMap((row) => {
    const sae = saes.find((s) => s.id === row.sae);
    const best = row.latents.find((l) => l.is_best) ?? row.latents[0];
    return sae && best?.score.f1 != null ? [{ site: sae.site, width: `${sae.d_sae}${sae.k ? ` · k ${sae.k}` : ""}`, f1: best.score.f1, order: sae.d_sae }] : [];
  }), [rows, saes]);
  const sites = [...new Set(cells.map((c) => c.site))].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  const widths = [...new Set([...cells].sort((a, b) => a.order - b.order).map((c) => c.width))];
  const key = `${sites.join()}|${widths.join()}`;
  const draw = useCallback((): P.PlotOptions => {
    const stops = dark ? DARK_STOPS : LIGHT_STOPS;
    const css = (t: number) => `rgb(${interpolate(stops, t).join(",")})`;
    return {
      marginLeft: 120, marginBottom: 36, padding: 0.06, x: { domain: sites, label: "site" }, y: { domain: widths, label: null },
      color: { type: "linear", domain: [0, 1], interpolate: css },
      marks: [P.cell(cells, { x: "site", y: "width", fill: "f1", rx: 4 }), P.text(cells, { x: "site", y: "width", text: (c: { f1: number }) => c.f1.toFixed(2), fill: (c: { f1: number }) => (dark === c.f1 > 0.55 ? "#111" : "#fff"), fontSize: 12 })],
    };
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [cells, key, dark]);
  return <Plot label="F1 of the best latent by site and width" height={60 + 44 * widths.length} draw={draw} />;
}
