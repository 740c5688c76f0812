/** All latents of one dictionary: a map, histograms and a table that choose for each other. */
import { useQuery } from "@tanstack/react-query";
import { useCallback, useMemo, useState } from "react";
import { Link, useLocation, useParams } from "wouter";
import { apiUrl, get, segment, type Schemas } from "../api/client";
import { columnsQuery, useSae, type Columns, type SAE } from "../api/queries";
import { conceptName } from "../lib/concept";
import { count, download, fixed, percent, plural, sig, toCsv } from "../lib/format";
import { latentHref, unsegment } from "../lib/links";
import { useKeys } from "../lib/keys";
import { interval, number, oneOf, polygon, text, useUrlState, type Point } from "../lib/urlstate";
import { Chip, Figure, Panel, Problem, Select, Skeleton, Term, useTitle } from "../ui/basics";
import { Icon } from "../ui/icons";
import { AtlasMap } from "./atlas/AtlasMap";
import { BrushHistogram } from "./atlas/BrushHistogram";
import { LatentTable } from "./atlas/LatentTable";
import type { MapView } from "./atlas/pointmap";
import { choose, COLOUR_BY } from "./atlas/select";

const SPEC = {
  q: text(), kind: text(), concept: text(), by: oneOf(COLOUR_BY, "kind"), sort: text("-f1"),
  freq: interval(), f1: interval(), max: interval(), lasso: polygon(), dead: oneOf(["0", "1"], "0"),
  x: number(0, -5, 5), y: number(0, -5, 5), zoom: number(1, 0.6, 200),
};
const CLEAR = { q: "", kind: "", concept: "", freq: null, f1: null, max: null, lasso: [] } as const;

export default function Atlas() {
  const id = unsegment(useParams<{ id: string }>().id);
  const sae = useSae(id);
  const { data, error, refetch } = useQuery(columnsQuery(id));
  useTitle(sae?.name ?? id);
  return (
    <main id="main" className="page">
      {error ? <Problem error={error} retry={() => void refetch()} />
        : !data ? <div className="stack"><Skeleton lines={2} /><Skeleton lines={10} height={560} /></div>
        : <View id={id} sae={sae} columns={data} />}
    </main>
  );
}

function View({ id, sae, columns }: { id: string; sae: SAE | undefined; columns: Columns }) {
  const [state, set] = useUrlState(SPEC);
  const [, navigate] = useLocation();
  const [hover, setHover] = useState<number | null>(null);
  const { q, kind, concept, freq, f1, max, lasso, dead } = state;
  const chosen = useMemo(() => choose(columns, { q, kind, concept, frequency: freq, f1, max, lasso, dead: dead === "1" }), [columns, q, kind, concept, freq, f1, max, lasso, dead]);
  const kinds = useMemo(() => tally(columns.kind), [columns.kind]);
  const concepts = useMemo(() => tally(columns.concept), [columns.concept]);
  const view = useMemo<MapView>(() => ({ x: state.x, y: state.y, zoom: state.zoom }), [state.x, state.y, state.zoom]);
  const onView = useCallback((v: MapView) => set({ x: v.x, y: v.y, zoom: v.zoom }), [set]);
  const onLasso = useCallback((points: readonly Point[]) => set({ lasso: points }, { push: true }), [set]);
  const onOpen = useCallback((j: number) => navigate(latentHref(id, j)), [navigate, id]);
  const onSort = useCallback((sort: string) => set({ sort }), [set]);
  useKeys([{ key: "r", label: "Random latent, of those chosen", run: () => {
    const j = chosen[Math.floor(Math.random() * chosen.length)];
    if (j !== undefined) onOpen(j);
  } }, { key: "Escape", label: "Drop the lasso", run: () => set({ lasso: [] }) }]);
  const filtered = q || kind || concept || freq || f1 || max || lasso.length > 0;
  const probed = sae?.has.probes ?? columns.f1.some((v) => v !== null);
  return (
    <div className="stack">
      <AtlasHead id={id} sae={sae} />
      <Panel className="latentfilters" title={<>{plural(chosen.length, "latent")} <small>of {count(columns.label.length)}</small></>} side={
        <>
          {filtered && <button type="button" className="button small" onClick={() => set(CLEAR)}><Icon name="close" size={11} /> Clear filters</button>}
          <button type="button" className="button small" onClick={() => save(id, columns, chosen)}><Icon name="download" size={13} /> CSV of these</button>
          <a className="button small" href={apiUrl(`saes/${segment(id)}/latents.csv`)} download>all, every column</a>
        </>
      }>
        <div className="filterrow">
          <label className="select"><span>Text</span><input className="field" type="search" placeholder="label, concept, number" value={q} onChange={(e) => set({ q: e.target.value })} /></label>
          <Select label="Kind" value={kind} onChange={(v) => set({ kind: v })} options={[{ value: "", label: "any" }, ...kinds.map(([k, n]) => ({ value: k, label: `${k} (${n})` }))]} />
          {probed && <Select label="Best concept" value={concept} onChange={(v) => set({ concept: v })} options={[{ value: "", label: "any" }, ...concepts.map(([k, n]) => ({ value: k, label: `${conceptName(k)} (${n})` }))]} />}
          <label className="select"><input type="checkbox" checked={dead === "1"} onChange={(e) => set({ dead: e.target.checked ? "1" : "0" })} /> <span>show dead</span></label>
        </div>
        <div className="brushes">
          <BrushHistogram name="Frequency" label={<Term of="frequency">Fires on</Term>} values={columns.frequency} chosen={chosen} log show={percent} value={freq} onChange={(v) => set({ freq: v })} />
          <BrushHistogram name="Maximum" label={<Term of="max">Maximum</Term>} values={columns.max} chosen={chosen} log show={sig} value={max} onChange={(v) => set({ max: v })} />
          {probed && <BrushHistogram name="F1" label={<Term of="f1">F1 of best concept</Term>} values={columns.f1} chosen={chosen} log={false} show={fixed} value={f1} onChange={(v) => set({ f1: v })} />}
        </div>
      </Panel>
      <div className="atlasgrid">
        <AtlasMap columns={columns} chosen={chosen} by={state.by} view={view} lasso={lasso} hover={hover} probed={probed}
          onBy={(by) => set({ by })} onView={onView} onLasso={onLasso} onHover={setHover} onOpen={onOpen} />
        <Panel title="Table" className="tablepanel"><LatentTable sae={id} columns={columns} chosen={chosen} sort={state.sort} hover={hover} onSort={onSort} onHover={setHover} /></Panel>
      </div>
    </div>
  );
}

function tally(names: readonly (string | null)[]): [string, number][] {
  const counts = new Map<string, number>();
  for (const name of names) if (name) counts.set(name, (counts.get(name) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1]);
}

function save(id: string, c: Columns, chosen: readonly number[]): void {
  const header = ["latent", "label", "kind", "frequency", "protein_frequency", "max", "p99", "span", "concept", "f1", "precision", "confirmed", "x", "y"];
  const rows = chosen.map((j) => [j, c.label[j]!, c.kind[j]!, c.frequency[j]!, c.protein_frequency[j]!, c.max[j]!, c.p99[j]!, c.span[j] ?? null, c.concept[j] ?? null, c.f1[j] ?? null, c.precision[j] ?? null, c.confirmed[j]!, c.x?.[j] ?? null, c.y?.[j] ?? null]);
  download(`${id}-latents.csv`, toCsv(header, rows), "text/csv");
}

function AtlasHead({ id, sae }: { id: string; sae: SAE | undefined }) {
  return (
    <div className="latenthead">
      <nav className="crumbs" aria-label="Where this is"><Link href="/">Dictionaries</Link><span aria-hidden="true">/</span><span>{id}</span></nav>
      <h1>{sae ? `${sae.model}, ${sae.site}` : id}</h1>
      {sae && (
        <>
          <p className="chips"><Chip tone="accent">{sae.architecture}</Chip><Chip>{count(sae.d_sae)} latents</Chip>{sae.k !== null && <Chip>k = {sae.k}</Chip>}<Chip>{count(sae.n_proteins)} proteins</Chip><Provenance id={id} /></p>
          <dl className="figures">
            <Figure name={<Term of="fvu">FVU</Term>}>{fixed(sae.fvu, 3)}</Figure>
            <Figure name={<Term of="l0">L0</Term>}>{sig(sae.l0)}</Figure>
            {sae.loss_recovered !== null && <Figure name={<Term of="lossRecovered">Loss recovered</Term>}>{percent(sae.loss_recovered)}</Figure>}
            <Figure name={<Term of="dead">Dead</Term>}>{percent(sae.dead)}</Figure>
            {sae.n_found !== null && <Figure name={<Term of="found">Concepts found</Term>}>{count(sae.n_found)}</Figure>}
            {sae.n_f1_half !== null && <Figure name={<Term of="halfF1">with F1 &gt; 0.5</Term>}>{count(sae.n_f1_half)}</Figure>}
            {sae.n_confirmed !== null && <Figure name={<Term of="confirmed">Labels confirmed</Term>}>{count(sae.n_confirmed)}</Figure>}
          </dl>
        </>
      )}
    </div>
  );
}

/** Where a dictionary is from, as recorded. */
function Provenance({ id }: { id: string }) {
  const [open, setOpen] = useState(false);
  const { data, error } = useQuery({ queryKey: ["sae", id], queryFn: ({ signal }) => get<Schemas["SAEDetail"]>(`saes/${segment(id)}`, {}, signal), enabled: open, staleTime: Infinity });
  return (
    <details className="provenance" onToggle={(e) => setOpen(e.currentTarget.open)}>
      <summary>Where it is from</summary>
      {error ? <Problem error={error} /> : data ? <pre tabIndex={0}>{JSON.stringify({ weights: data.weights, ...data.provenance }, null, 2)}</pre> : <Skeleton lines={4} />}
    </details>
  );
}
