/** How near the two dictionaries are, and every latent beside its nearest. */
import * as P from "@observablehq/plot";
import { useQuery } from "@tanstack/react-query";
import { useCallback, useMemo, useState } from "react";
import type { Schemas } from "../../api/client";
import { columnsQuery, type SAE } from "../../api/queries";
import { CopyPython } from "../../live/parts";
import { count, download, fixed, percent, toCsv } from "../../lib/format";
import { Figure, Panel } from "../../ui/basics";
import { LatentLink } from "../../ui/LatentLink";
import { Plot } from "../../ui/Plot";
import { binned } from "./splits";

type Compared = Schemas["Compared"];
const BINS = 40;
const STEP = 60;

export function MatchesPanel({ of, a, b, q, chosen, onQuery, onPair }: { of: Compared; a: SAE; b: SAE; q: string; chosen: number; onQuery(q: string): void; onPair(la: number, lb: number): void }) {
  const { data: first } = useQuery(columnsQuery(a.id));
  const { data: second } = useQuery(columnsQuery(b.id));
  const [most, setMost] = useState(STEP);
  const rows = useMemo(() => {
    const words = q.toLowerCase().split(/\s+/).filter(Boolean);
    const label = (j: number, other: number) => `${j} ${first?.label[j] ?? ""} ${other} ${second?.label[other] ?? ""}`.toLowerCase();
    return of.forth.other.map((other, j) => ({ j, other, value: of.forth.value[j] ?? null, mutual: other >= 0 && of.back.other[other] === j }))
      .filter((r) => r.other >= 0 && words.every((w) => label(r.j, r.other).includes(w)))
      .sort((x, y) => (y.value ?? -1) - (x.value ?? -1));
  }, [of, q, first, second]);
  const draw = useCallback((): P.PlotOptions => {
    const bars = (["forth", "back"] as const).flatMap((side) => binned(of[side].value, BINS).map((n, i) => ({ side: side === "forth" ? "of the first" : "of the second", from: i / BINS, to: (i + 1) / BINS, n })));
    return {
      marginLeft: 46, marginBottom: 36, x: { label: `${of.by} with the nearest →`, domain: [0, 1], labelAnchor: "center" }, y: { label: "↑ latents", grid: true, ticks: 4 },
      color: { domain: ["of the first", "of the second"], range: ["#0072B2", "#E69F00"], legend: true },
      marks: [P.rectY(bars, { x1: "from", x2: "to", y1: 0, y2: "n", fill: "side", fillOpacity: 0.5, stroke: "side", inset: 0.5 }), P.ruleX([of.same], { strokeDasharray: "3,3", stroke: "currentColor" }), P.ruleY([0])],
    };
  }, [of]);
  const save = () => download("matches.csv", toCsv(["latent", "label", "nearest", "nearest_label", of.by, "mutual"], rows.map((r) => [r.j, first?.label[r.j] ?? "", r.other, second?.label[r.other] ?? "", r.value, r.mutual])), "text/csv");
  return (
    <Panel title="Matches" note={`Because ${of.why}.`} side={<button type="button" className="button small" onClick={save}>CSV</button>}>
      <dl className="figures">
        <Figure name="In both" sub={`${of.by} of ${of.same} or more`}>{percent(of.shared)}</Figure>
        <Figure name="Each other's nearest" sub="pairs">{count(of.n_mutual)}</Figure>
        <Figure name={`Mean ${of.by}`} sub="with the nearest">{fixed(of.mean)}</Figure>
      </dl>
      <Plot label={`Histogram of ${of.by} with the nearest latent`} height={210} draw={draw} />
      <div className="toolrow">
        <label className="select"><span>Text</span><input className="field" type="search" value={q} placeholder="label or number" onChange={(e) => onQuery(e.target.value)} /></label>
        <small className="quiet" role="status">{count(rows.length)} latents</small>
      </div>
      <div className="tablescroll tall scroll-x" tabIndex={0} role="region" aria-label="Latents beside their nearest">
        <table className="pairs">
          <thead><tr><th scope="col">First</th><th scope="col" className="n">{of.by}</th><th scope="col">Its nearest in the second</th><th scope="col"><span className="visually-hidden">Look at both</span></th></tr></thead>
          <tbody>{rows.slice(0, most).map((r) => (
            <tr key={r.j} aria-selected={r.j === chosen}>
              <td><LatentLink of={{ sae: a.id, latent: r.j, label: first?.label[r.j] ?? "" }} /></td><td className="n" title={r.mutual ? "each is the other's nearest" : undefined}>{fixed(r.value)}{r.mutual ? " ⇄" : ""}</td>
              <td><LatentLink of={{ sae: b.id, latent: r.other, label: second?.label[r.other] ?? "" }} /></td><td><button type="button" className="button small" onClick={() => onPair(r.j, r.other)}>Both</button></td>
            </tr>
          ))}</tbody>
        </table>
      </div>
      {rows.length > most && <button type="button" className="button small" onClick={() => setMost(most + STEP)}>Show {STEP} more</button>}
      <CopyPython code={of.python} what="this table" />
    </Panel>
  );
}
