/** All dictionaries that are served, and answers to a search. */
import * as P from "@observablehq/plot";
import { useQuery } from "@tanstack/react-query";
import { createColumnHelper, flexRender, getCoreRowModel, getSortedRowModel, useReactTable } from "@tanstack/react-table";
import { useCallback, useMemo } from "react";
import { Link, useLocation } from "wouter";
import { conceptsQuery, saesQuery, type SAE } from "../api/queries";
import { conceptName } from "../lib/concept";
import { CATEGORIES } from "../lib/colour";
import { count, fixed, percent, sig } from "../lib/format";
import { conceptHref, latentHref, saeHref } from "../lib/links";
import { useKeys } from "../lib/keys";
import { text, useUrlState } from "../lib/urlstate";
import { Chip, Empty, Figure, Panel, Problem, Skeleton, Term, useTitle } from "../ui/basics";
import { Plot } from "../ui/Plot";
import { Results } from "./registry/Results";
import { Starts } from "./registry/Starts";

const SPEC = { q: text(), in: text(), sort: text("-n_f1_half") };

export function Registry() {
  const [state, set] = useUrlState(SPEC);
  return (
    <main id="main" className="page">
      {state.q ? <Results q={state.q} inside={state.in} onInside={(sae) => set({ in: sae })} /> : <Overview sort={state.sort} onSort={(sort) => set({ sort })} />}
    </main>
  );
}

function Overview({ sort, onSort }: { sort: string; onSort(sort: string): void }) {
  const { data, error, isPending, refetch } = useQuery(saesQuery);
  const [, navigate] = useLocation();
  useTitle("Dictionaries");
  useKeys([
    { key: "r", label: "Random latent", run: () => {
      const sae = data?.[Math.floor(Math.random() * data.length)];
      if (sae) navigate(latentHref(sae.id, Math.floor(Math.random() * sae.d_sae)));
    } },
  ]);
  if (error) return <Problem error={error} retry={() => void refetch()} />;
  if (isPending) return <Skeleton lines={10} height={400} />;
  if (data.length === 0) return <Empty title="No dictionary">Build a bundle with `python -m explorer build` and name it to `python -m explorer serve`.</Empty>;
  const many = data.length > 1;
  return (
    <div className="stack">
      <div className="pagehead intro">
        <h1>What a protein language model knows, one latent at a time</h1>
        <p>Each dictionary (<Term of="sae">sparse autoencoder</Term>) rewrites what the model thinks of a residue as a few active <Term of="latent">latents</Term>. Open one, or search for what you know: a concept, a protein, a motif.</p>
      </div>
      {many ? (
        <div className="registrygrid">
          <Panel title="Dictionaries" className="wide"><SaeTable saes={data} sort={sort} onSort={onSort} /></Panel>
          <Panel title={<Term of="pareto">Sparse or faithful</Term>}><Pareto saes={data} /></Panel>
        </div>
      ) : <SaeCard sae={data[0]!} />}
      <Starts sae={data[0]!} />
      <BestConcepts saes={data} />
    </div>
  );
}

/** The only dictionary, in full. */
function SaeCard({ sae }: { sae: SAE }) {
  return (
    <section className="panel saecard" aria-label={sae.name}>
      <div>
        <h2><Link href={saeHref(sae.id)}>{sae.model}, {sae.site}</Link></h2>
        <p className="chips"><Chip tone="accent">{sae.architecture}</Chip><Chip>{count(sae.d_sae)} latents</Chip>{sae.k !== null && <Chip>k = {sae.k}</Chip>}</p>
        <p className="note">{count(sae.n_proteins)} proteins, {count(sae.n_residues)} residues. Weights: {sae.weights}</p>
        <p className="cardlinks"><Link className="button primary" href={saeHref(sae.id)}>Open the map</Link><Link className="button" href="/concepts">Concepts</Link></p>
      </div>
      <dl className="figures">
        <Figure name={<Term of="fvu">FVU</Term>}>{fixed(sae.fvu, 3)}</Figure>
        <Figure name={<Term of="l0">L0</Term>}>{sig(sae.l0)}</Figure>
        {sae.loss_recovered !== null && <Figure name={<Term of="lossRecovered">Loss recovered</Term>}>{percent(sae.loss_recovered)}</Figure>}
        <Figure name={<Term of="dead">Dead</Term>}>{percent(sae.dead)}</Figure>
        {sae.n_found !== null && <Figure name={<Term of="found">Concepts found</Term>}>{count(sae.n_found)}</Figure>}
        {sae.n_f1_half !== null && <Figure name={<Term of="halfF1">with F1 &gt; 0.5</Term>}>{count(sae.n_f1_half)}</Figure>}
        {sae.n_confirmed !== null && <Figure name={<Term of="confirmed">Labels confirmed</Term>}>{count(sae.n_confirmed)}</Figure>}
      </dl>
    </section>
  );
}

const column = createColumnHelper<SAE>();
const COLUMNS = [
  column.accessor("name", { header: "Dictionary", cell: ({ row: { original: s } }) => <><Link href={saeHref(s.id)}>{s.model} · {s.site}</Link> <small>{s.architecture}</small></> }),
  column.accessor("d_sae", { header: () => <Term of="width">Width</Term>, cell: (c) => count(c.getValue()) }),
  column.accessor("k", { header: () => <Term of="k">k</Term>, cell: (c) => c.getValue() ?? "–" }),
  column.accessor("l0", { header: () => <Term of="l0">L0</Term>, cell: (c) => sig(c.getValue()) }),
  column.accessor("fvu", { header: () => <Term of="fvu">FVU</Term>, cell: (c) => fixed(c.getValue(), 3) }),
  column.accessor("loss_recovered", { header: () => <Term of="lossRecovered">Loss rec.</Term>, cell: (c) => percent(c.getValue()) }),
  column.accessor("dead", { header: () => <Term of="dead">Dead</Term>, cell: (c) => percent(c.getValue()) }),
  column.accessor("n_found", { header: () => <Term of="found">Found</Term>, cell: (c) => count(c.getValue()) }),
  column.accessor("n_f1_half", { header: () => <Term of="halfF1">F1 &gt; 0.5</Term>, cell: (c) => count(c.getValue()) }),
];

function SaeTable({ saes, sort, onSort }: { saes: SAE[]; sort: string; onSort(sort: string): void }) {
  const sorting = useMemo(() => [{ id: sort.replace(/^-/, ""), desc: sort.startsWith("-") }].filter((s) => COLUMNS.some((c) => (c as { accessorKey?: string }).accessorKey === s.id)), [sort]);
  const table = useReactTable({
    data: saes, columns: COLUMNS, state: { sorting }, getCoreRowModel: getCoreRowModel(), getSortedRowModel: getSortedRowModel(), sortDescFirst: true,
    onSortingChange: (update) => {
      const next = (typeof update === "function" ? update(sorting) : update)[0];
      onSort(next ? `${next.desc ? "-" : ""}${next.id}` : "");
    },
  });
  return (
    <div className="scroll-x" tabIndex={0} role="region" aria-label="Dictionaries">
      <table>
        <thead>
          {table.getHeaderGroups().map((group) => (
            <tr key={group.id}>
              {group.headers.map((header, i) => {
                const now = header.column.getIsSorted();
                return (
                  <th key={header.id} scope="col" className={i ? "n" : ""} aria-sort={now === "asc" ? "ascending" : now === "desc" ? "descending" : undefined}>
                    {flexRender(header.column.columnDef.header, header.getContext())}{" "}
                    <button type="button" className="sort" aria-label={`Sort by ${header.id}`} onClick={header.column.getToggleSortingHandler()}>{now ? "" : "⇅"}</button>
                  </th>
                );
              })}
            </tr>
          ))}
        </thead>
        <tbody>
          {table.getRowModel().rows.map((row) => (
            <tr key={row.id}>{row.getVisibleCells().map((cell, i) => <td key={cell.id} className={i ? "n" : ""}>{flexRender(cell.column.columnDef.cell, cell.getContext())}</td>)}</tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Pareto({ saes }: { saes: SAE[] }) {
  const [, navigate] = useLocation();
  const points = useMemo(() => saes.filter((s) => s.fvu !== null && s.l0 !== null), [saes]);
  const sites = useMemo(() => [...new Set(points.map((s) => s.site))].sort((a, b) => a.localeCompare(b, "en", { numeric: true })), [points]);
  const draw = useCallback((): P.PlotOptions => ({
    marginLeft: 44, marginBottom: 38, grid: true,
    x: { type: "log", label: "L0, active latents per residue →", tickFormat: "~s" },
    y: { label: "↑ FVU, unexplained", zero: true },
    color: { domain: sites, range: sites.map((_, i) => CATEGORIES[i % CATEGORIES.length]!), legend: false },
    marks: [
      P.dot(points, { x: "l0", y: "fvu", fill: "site", r: 6, stroke: "var(--card)", strokeWidth: 1.5 }),
      P.text(points, { x: "l0", y: "fvu", text: (s: SAE) => `${s.site} · ${s.d_sae}`, dy: -13, fontSize: 11, fill: "var(--ink-2)" }),
      P.tip(points, P.pointer({ x: "l0", y: "fvu", title: (s: SAE) => `${s.name}\nFVU ${fixed(s.fvu, 3)}, L0 ${sig(s.l0)}`, fill: "var(--card)", stroke: "var(--line-2)" })),
    ],
  }), [points, sites]);
  const onMount = useCallback((figure: Element) => {
    const click = () => {
      const sae = (figure as Element & { value?: SAE }).value;
      if (sae) navigate(saeHref(sae.id));
    };
    figure.addEventListener("click", click);
    return () => figure.removeEventListener("click", click);
  }, [navigate]);
  if (points.length === 0) return <Empty title="Not measured">No dictionary records its FVU and L0.</Empty>;
  return (
    <>
      <Plot label={`FVU against L0 of ${points.length} dictionaries`} height={300} draw={draw} onMount={onMount} />
      <ul className="conceptlegend">{sites.map((s, i) => <li key={s}><i className="swatch" style={{ background: CATEGORIES[i % CATEGORIES.length] }} /> {s}</li>)}</ul>
    </>
  );
}

/** A way in: what the dictionaries know best. */
function BestConcepts({ saes }: { saes: SAE[] }) {
  const { data } = useQuery({ ...conceptsQuery, enabled: saes.some((s) => s.has.probes) });
  const best = useMemo(() => (data ?? [])
    .flatMap((c) => Object.values(c.best).map((b) => ({ ...c, hit: b })))
    .filter((c) => c.hit.found !== false && c.hit.score.f1 !== null && !/^amino/.test(c.kind))
    .sort((a, b) => b.hit.score.f1! - a.hit.score.f1!)
    .filter((c, i, all) => all.findIndex((o) => o.concept === c.concept) === i)
    .slice(0, 18), [data]);
  if (best.length === 0) return null;
  return (
    <Panel title="What is known best" side={<Link href="/concepts">All concepts</Link>} note="Annotations that one latent predicts on protein families it was not chosen on, by F1.">
      <ul className="bestconcepts">
        {best.map((c) => (
          <li key={c.concept}>
            <Link href={conceptHref(c.concept)}>{conceptName(c.concept)}</Link>
            <span className="bar" aria-hidden="true"><i style={{ width: `${100 * c.hit.score.f1!}%` }} /></span>
            <span className="value">{fixed(c.hit.score.f1)}</span>
            <Link className="by" href={latentHref(c.hit.sae, c.hit.latent)} title={c.hit.label}>latent {c.hit.latent}</Link>
          </li>
        ))}
      </ul>
    </Panel>
  );
}
