/** One protein: its annotations over the latents that fire on it. */
import { useQuery } from "@tanstack/react-query";
import { useCallback, useMemo, useState } from "react";
import { Link, useLocation, useParams } from "wouter";
import { columnsQuery, proteinLatentsQuery, proteinQuery, saesQuery, type SAE } from "../api/queries";
import type { Schemas } from "../api/client";
import { count, plural } from "../lib/format";
import { latentHref, unsegment } from "../lib/links";
import { useKeys } from "../lib/keys";
import { interval, number, oneOf, text, useUrlState } from "../lib/urlstate";
import { dense } from "../strip/layout";
import { StructurePanel } from "../structure/StructurePanel";
import { Chip, Empty, Panel, Problem, Select, Skeleton, Term, useTitle } from "../ui/basics";
import { Icon } from "../ui/icons";
import { Tracks } from "./protein/Tracks";

const SPEC = {
  sae: text(), q: text(), range: interval(), latent: number(-1, -1, 1e9), z: number(0, 0, 28), at: number(0, 0, 100_000), m: text(),
  order: oneOf(["score", "max", "position", "latent"], "score"),
};

type ProteinLatent = Schemas["ProteinLatent"];

export default function ProteinPage() {
  const accession = unsegment(useParams<{ acc: string }>().acc);
  const [state, set] = useUrlState(SPEC);
  const { data: protein, error, refetch } = useQuery(proteinQuery(accession));
  const { data: saes } = useQuery(saesQuery);
  const sae = saes?.find((s) => s.id === state.sae && protein?.saes.includes(s.id)) ?? saes?.find((s) => protein?.saes.includes(s.id));
  useTitle(accession, protein?.description);
  return (
    <main id="main" className="page">
      {error ? <Problem error={error} retry={() => void refetch()} />
        : !protein ? <div className="stack"><Skeleton lines={2} /><Skeleton lines={10} height={460} /></div>
        : <div className="stack">
            <div className="latenthead">
              <nav className="crumbs" aria-label="Where this is"><Link href="/">Dictionaries</Link><span aria-hidden="true">/</span><span>protein</span></nav>
              <div className="pagehead">
                <h1><span className="mono accession">{protein.accession}</span> {protein.description}</h1>
                {(protein.saes.length > 1) && sae && <Select label="Latents of" value={sae.id} onChange={(id) => set({ sae: id, latent: -1 })} options={(saes ?? []).filter((s) => protein.saes.includes(s.id)).map((s) => ({ value: s.id, label: s.name }))} />}
              </div>
              <p className="chips">
                <Chip>{count(protein.sequence.length)} residues</Chip>
                {protein.structure && <Chip tone="accent">structure</Chip>}
                {protein.url && <CopyUrl url={protein.url} />}
              </p>
            </div>
            {sae ? <Latents protein={protein} sae={sae} state={state} set={set} /> : saes && <Empty title="No dictionary">No dictionary that is served has this protein.</Empty>}
          </div>}
    </main>
  );
}

/** The page requests nothing from elsewhere: the address is only given to copy. */
function CopyUrl({ url }: { url: string }) {
  const [copied, setCopied] = useState(false);
  return (
    <button type="button" className="chip quiet copy" title="Copy this address" onClick={() => void navigator.clipboard.writeText(url).then(() => setCopied(true))}>
      {copied ? "copied" : url} <Icon name={copied ? "check" : "share"} size={11} />
    </button>
  );
}

type Set = ReturnType<typeof useUrlState<typeof SPEC>>;

function Latents({ protein, sae, state, set }: { protein: Schemas["ProteinDetail"]; sae: SAE; state: Set[0]; set: Set[1] }) {
  const { data, error, isPending, refetch } = useQuery(proteinLatentsQuery(protein.accession, sae.id));
  // The scale of a latent is its own, over all proteins: the same as on its page.
  const { data: columns } = useQuery(columnsQuery(sae.id));
  const [hover, setHover] = useState<number | null>(null);
  const [, navigate] = useLocation();
  const { q, range, order } = state;
  const rows = useMemo(() => arrange(data?.latents ?? [], q, range, order), [data, q, range, order]);
  const chosen = rows.find((l) => l.latent === state.latent) ?? rows[0] ?? null;
  const step = (by: number) => {
    const i = rows.findIndex((l) => l.latent === chosen?.latent);
    const next = rows[Math.min(rows.length - 1, Math.max(0, i + by))];
    if (next) set({ latent: next.latent });
  };
  useKeys([
    { key: "j", label: "Next latent of this protein", run: () => step(1) },
    { key: "k", label: "Previous latent of this protein", run: () => step(-1) },
    { key: "Enter", label: "Open the chosen latent", run: () => chosen && navigate(latentHref(sae.id, chosen.latent, `?p=${encodeURIComponent(protein.accession)}`)) },
  ]);
  const values = useMemo(() => (chosen?.track ? dense(chosen.track, protein.sequence.length) : null), [chosen, protein]);
  const onStructureHover = useCallback((position: number | null) => setHover(position), []);
  return (
    <div className="proteingrid">
      <Panel className="examples" title={<>{data ? plural(data.total, "active latent") : "Active latents"}</>}
        side={<>
          {range && <button type="button" className="chip accent copy" onClick={() => set({ range: null })}>residues {range[0]}–{range[1]} <Icon name="close" size={10} /></button>}
          <label className="select"><span>Text</span><input className="field" type="search" value={q} placeholder="label or number" onChange={(e) => set({ q: e.target.value })} /></label>
          <Select label="Order" value={order} onChange={(o) => set({ order: o })} options={[{ value: "score", label: "most telling" }, { value: "max", label: "strongest" }, { value: "position", label: "along the protein" }, { value: "latent", label: "number" }]} />
        </>}
        note={<>Ranked by <Term of="idf">rarity-weighted strength</Term>. Drag over the axis to see only the latents of a stretch; click a row to put it on the structure.</>}>
        {error ? <Problem error={error} retry={() => void refetch()} /> : isPending ? <Skeleton lines={10} height={420} />
          : <Tracks sae={sae.id} protein={protein} rows={rows} maxima={columns?.max} chosen={chosen?.latent ?? null} range={range} zoom={state.z} at={state.at} motif={state.m} hover={hover}
              onHover={setHover} onChoose={(latent) => set({ latent })} onRange={(r) => set({ range: r })} onView={(z, at) => set({ z, at })} />}
      </Panel>
      <aside className="latentside">
        <StructurePanel accession={protein.structure ? protein.accession : null} values={values} max={chosen ? (columns?.max[chosen.latent] ?? chosen.max) : 1} peak={chosen?.argmax ?? null}
          hover={hover} onHover={onStructureHover} none="No structure of this protein is in the bundle."
          title={chosen ? <>Latent <Link href={latentHref(sae.id, chosen.latent, `?p=${encodeURIComponent(protein.accession)}`)}>{chosen.latent}</Link> on the structure</> : "Structure"} />
        <Panel title="Sequence"><Sequence text={protein.sequence} values={values} hover={hover} onHover={setHover} /></Panel>
      </aside>
    </div>
  );
}

/** Latents that pass the filters, in the order asked for. */
export function arrange(latents: readonly ProteinLatent[], q: string, range: readonly [number, number] | null, order: string): ProteinLatent[] {
  const words = q.toLowerCase().split(/\s+/).filter(Boolean);
  const kept = latents.filter((l) => {
    if (words.length && !words.every((w) => `${l.latent} ${l.label} ${l.kind}`.toLowerCase().includes(w))) return false;
    if (!range) return true;
    return l.track ? l.track.positions.some((p) => p >= range[0] && p <= range[1]) : l.argmax >= range[0] && l.argmax <= range[1];
  });
  const key: Record<string, (l: ProteinLatent) => number> = { score: (l) => -l.score, max: (l) => -l.max, position: (l) => l.argmax, latent: (l) => l.latent };
  return kept.sort((a, b) => key[order]!(a) - key[order]!(b) || a.latent - b.latent);
}

/** Letters in blocks of ten, to read and to copy. */
function Sequence({ text, values, hover, onHover }: { text: string; values: Float32Array | null; hover: number | null; onHover(position: number | null): void }) {
  const blocks = text.match(/.{1,10}/g) ?? [];
  return (
    <div className="sequence mono" onMouseLeave={() => onHover(null)} tabIndex={0} role="region" aria-label="Sequence">
      {blocks.map((block, b) => (
        <span key={b} className="block" data-from={10 * b + 1}>
          {[...block].map((letter, i) => {
            const position = 10 * b + i + 1;
            return <span key={i} className={`${(values?.[position - 1] ?? 0) > 0 ? "on" : ""}${hover === position ? " here" : ""}`} onMouseEnter={() => onHover(position)}>{letter}</span>;
          })}
        </span>
      ))}
    </div>
  );
}
