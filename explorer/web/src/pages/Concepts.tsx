/** Every concept that was tested, and how well each dictionary knows it. */
import { useQuery } from "@tanstack/react-query";
import { useVirtualizer } from "@tanstack/react-virtual";
import { useMemo, useRef } from "react";
import { Link } from "wouter";
import { conceptsQuery, saesQuery, type SAE } from "../api/queries";
import type { Schemas } from "../api/client";
import { activationScale } from "../lib/colour";
import { conceptName } from "../lib/concept";
import { count, fixed, percent, plural } from "../lib/format";
import { conceptHref, latentHref } from "../lib/links";
import { useTheme } from "../lib/theme";
import { oneOf, text, useUrlState } from "../lib/urlstate";
import { Chip, Empty, Panel, Problem, Select, Skeleton, Term, useTitle } from "../ui/basics";
import { ScaleLegend } from "../ui/ScaleLegend";

const SPEC = { q: text(), kind: text("annotations"), level: oneOf(["", "residue", "protein"], ""), found: oneOf(["0", "1"], "0"), sort: oneOf(["f1", "name", "residues", "families"], "f1") };
type Concept = Schemas["ConceptSummary"];

const bestF1 = (c: Concept) => Math.max(-1, ...Object.values(c.best).map((b) => b.score.f1 ?? -1));

/** Concepts that pass the filters, in the order asked for. */
export function pick(concepts: readonly Concept[], state: { q: string; kind: string; level: string; found: string; sort: string }): Concept[] {
  const words = state.q.toLowerCase().split(/\s+/).filter(Boolean);
  const kept = concepts.filter((c) =>
    (state.kind === "all" || (state.kind === "annotations" ? !c.kind.startsWith("amino") : c.kind === state.kind)) && (!state.level || c.level === state.level) &&
    (state.found === "0" || Object.values(c.best).some((b) => b.found)) &&
    words.every((w) => `${c.concept} ${conceptName(c.concept)} ${c.kind}`.toLowerCase().includes(w)));
  const by: Record<string, (a: Concept, b: Concept) => number> = {
    f1: (a, b) => bestF1(b) - bestF1(a), name: (a, b) => conceptName(a.concept).localeCompare(conceptName(b.concept), "en"),
    residues: (a, b) => b.n_positive - a.n_positive, families: (a, b) => b.n_clusters - a.n_clusters,
  };
  return kept.sort(by[state.sort]);
}

export default function Concepts() {
  const [state, set] = useUrlState(SPEC);
  const { data, error, isPending, refetch } = useQuery(conceptsQuery);
  const { data: saes } = useQuery(saesQuery);
  useTitle("Concepts");
  const rows = useMemo(() => pick(data ?? [], state), [data, state]);
  const kinds = useMemo(() => [...new Set((data ?? []).map((c) => c.kind))], [data]);
  const probed = (saes ?? []).filter((s) => s.has.probes);
  return (
    <main id="main" className="page">
      <div className="stack">
        <div className="pagehead"><h1>Concepts</h1></div>
        {error ? <Problem error={error} retry={() => void refetch()} /> : isPending ? <Skeleton lines={12} height={480} />
          : data.length === 0 ? <Empty title="No concepts">The bundles were built without probes: `python -m explorer build --probes …` adds them.</Empty>
          : (
            <Panel title={<>{plural(rows.length, "concept")} <small>of {count(data.length)}</small></>} side={<ScaleLegend max={1} label="F1" />}
              note={<>Annotations of residues, tested on protein families that were not used to choose the latent. <Term of="f1">F1</Term> of the best latent of each dictionary.</>}>
              <div className="filterrow">
                <label className="select"><span>Text</span><input className="field" type="search" placeholder="zinc, helix, domain" value={state.q} onChange={(e) => set({ q: e.target.value })} /></label>
                <Select label="Labels from" value={state.kind} onChange={(kind) => set({ kind })} options={[{ value: "annotations", label: "all but amino acids" }, { value: "all", label: "everything" }, ...kinds.map((k) => ({ value: k, label: k }))]} />
                <Select label="Of" value={state.level} onChange={(level) => set({ level })} options={[{ value: "", label: "residues and proteins" }, { value: "residue", label: "residues" }, { value: "protein", label: "proteins" }]} />
                <Select label="Order" value={state.sort} onChange={(sort) => set({ sort })} options={[{ value: "f1", label: "best known" }, { value: "name", label: "name" }, { value: "residues", label: "most residues" }, { value: "families", label: "most families" }]} />
                <label className="select"><input type="checkbox" checked={state.found === "1"} onChange={(e) => set({ found: e.target.checked ? "1" : "0" })} /> <span><Term of="found">found</Term> only</span></label>
              </div>
              <ConceptRows rows={rows} saes={probed} />
            </Panel>
          )}
      </div>
    </main>
  );
}

const ROW = 36;

function ConceptRows({ rows, saes }: { rows: readonly Concept[]; saes: readonly SAE[] }) {
  const { dark } = useTheme();
  const scale = useMemo(() => activationScale(1, dark), [dark]);
  const scroller = useRef<HTMLDivElement>(null);
  const virtual = useVirtualizer({ count: rows.length, getScrollElement: () => scroller.current, estimateSize: () => ROW, overscan: 12 });
  const grid = { gridTemplateColumns: `minmax(220px, 2fr) 100px 84px 74px 80px ${saes.length === 1 ? "minmax(260px, 2fr)" : `repeat(${saes.length}, minmax(110px, 1fr))`}` };
  const wide = { minWidth: 590 + 120 * saes.length };
  return (
    <div className="latenttable concepttable" ref={scroller} tabIndex={0} role="table" aria-label="Concepts" aria-rowcount={rows.length}>
      <div role="rowgroup" className="head" style={wide}>
        <div role="row" className="row" style={grid}>
          <div role="columnheader">Concept</div><div role="columnheader">Labels from</div><div role="columnheader" className="n">Residues</div>
          <div role="columnheader" className="n"><Term of="clusters">Families</Term></div><div role="columnheader" className="n"><Term of="baseRate">Base rate</Term></div>
          {saes.map((s) => <div role="columnheader" key={s.id} title={s.name}>{saes.length === 1 ? "Best latent" : `${s.site} · ${s.d_sae}`}</div>)}
        </div>
      </div>
      {rows.length === 0 && <Empty title="No concept is left">Loosen a filter.</Empty>}
      <div role="rowgroup" style={{ height: virtual.getTotalSize(), position: "relative", ...wide }}>
        {virtual.getVirtualItems().map(({ index, start }) => {
          const c = rows[index]!;
          return (
            <div role="row" className="row" key={c.concept} style={{ ...grid, transform: `translateY(${start}px)` }}>
              <div role="cell"><Link href={conceptHref(c.concept)} title={c.concept}>{conceptName(c.concept)}</Link></div>
              <div role="cell"><Chip>{c.kind}</Chip></div>
              <div role="cell" className="n">{count(c.n_positive)}</div><div role="cell" className="n">{count(c.n_clusters)}</div><div role="cell" className="n">{percent(c.base_rate)}</div>
              {saes.map((s) => {
                const best = c.best[s.id];
                const f1 = best?.score.f1 ?? null;
                return (
                  <div role="cell" key={s.id}>
                    {best && saes.length === 1 ? (
                      <span className="onebest">
                        <i className="swatch" style={{ background: scale.css(f1 ?? 0) }} /> <b>{fixed(f1)}</b>
                        <Link href={latentHref(s.id, best.latent)} title={best.label}><span className="number">{best.latent}</span> {best.label}</Link>
                        {best.found && <Chip tone="accent">found</Chip>}
                      </span>
                    ) : best && f1 !== null ? (
                      <Link className="heat" href={latentHref(s.id, best.latent)} title={`${best.latent} ${best.label}`} style={{ background: scale.css(f1), color: scale.ink(f1) }}>
                        {fixed(f1)} {saes.length <= 4 && <span>{best.latent}{best.found ? " ✓" : ""}</span>}
                      </Link>
                    ) : <small>–</small>}
                  </div>
                );
              })}
            </div>
          );
        })}
      </div>
    </div>
  );
}
