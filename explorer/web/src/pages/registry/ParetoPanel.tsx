/** Sparsity against error of all dictionaries, coloured by depth; a click opens one. */
import * as P from "@observablehq/plot";
import { useCallback, useMemo } from "react";
import { useLocation } from "wouter";
import type { SAE } from "../../api/queries";
import { count, sig } from "../../lib/format";
import { saeHref } from "../../lib/links";
import { paretoFront } from "../../lib/pareto";
import { useTheme } from "../../lib/theme";
import { depthColours } from "../../lib/depth";
import { Empty, Panel, Term } from "../../ui/basics";
import { Plot } from "../../ui/Plot";
import { siteWords } from "./SaeCard";

type Known = SAE & { l0: number; fvu: number };

export function ParetoPanel({ saes }: { saes: readonly SAE[] }) {
  const { dark } = useTheme();
  const [, navigate] = useLocation();
  const known = useMemo(() => saes.filter((s): s is Known => s.l0 !== null && s.fvu !== null && s.l0 > 0), [saes]);
  const sites = useMemo(() => depthColours(known, dark), [known, dark]);
  const widths = useMemo(() => [...new Set(known.map((s) => s.d_sae))].sort((a, b) => a - b), [known]);
  const draw = useCallback(
    (width: number): P.PlotOptions => {
      const front = paretoFront(known.map((s) => ({ x: s.l0, y: s.fvu }))).map((i) => known[i]!);
      const colour = new Map(sites.map((s) => [s.name, s.colour]));
      const fill = (s: SAE) => colour.get(siteWords(s)) ?? "currentColor";
      const radius = (s: SAE) => 4 + 1.6 * widths.indexOf(s.d_sae);
      const describe = (s: Known) => `${s.model}, ${siteWords(s)}\n${count(s.d_sae)} latents${s.k === null ? "" : `, k ${s.k}`}\nL0 ${sig(s.l0)}, FVU ${sig(s.fvu)}${s.n_found === null ? "" : `\n${s.n_found} concepts found`}`;
      return {
        marginLeft: 46, marginBottom: 38, marginTop: 12, marginRight: 14,
        x: { label: "L0: latents active on a residue →", type: "log", ticks: [...new Set(known.map((s) => Math.round(s.l0)))].slice(0, Math.floor(width / 60)), tickFormat: (v: number) => String(v), labelAnchor: "center", inset: 18 },
        y: { label: "↑ FVU: share not explained", grid: true, ticks: 5, inset: 10, nice: true },
        marks: [
          P.line(known, { x: "l0", y: "fvu", z: (s: Known) => `${s.model} ${s.site} ${s.d_sae} ${s.architecture}`, sort: "l0", stroke: (s: Known) => fill(s), strokeOpacity: 0.4 }),
          P.line(front, { x: "l0", y: "fvu", stroke: "currentColor", strokeDasharray: "2,4", strokeWidth: 1.2, curve: "step-after" }),
          P.dot(known, { x: "l0", y: "fvu", r: radius, fill, stroke: "var(--card)", strokeWidth: 1.2 }),
          P.dot(known, P.pointer({ x: "l0", y: "fvu", r: (s: Known) => radius(s) + 3, stroke: "currentColor", strokeWidth: 1.6 })),
          P.tip(known, P.pointer({ x: "l0", y: "fvu", title: describe, fill: "var(--card)", stroke: "var(--line-2)", textPadding: 10, fontSize: 12 })),
        ],
        r: { type: "identity" },
        color: { type: "identity" },
      };
    },
    [known, sites, widths],
  );
  const onMount = useCallback(
    (figure: Element) => {
      const open = () => {
        const value = (figure as Element & { value?: SAE | null }).value;
        if (value) navigate(saeHref(value.id));
      };
      figure.addEventListener("click", open);
      return () => figure.removeEventListener("click", open);
    },
    [navigate],
  );
  return (
    <Panel title={<Term of="pareto">Sparsity against error</Term>} className="pareto" side={<small>click a dictionary to open it</small>}
      note="Each block has its own embeddings, so errors are best compared within one colour. The dotted line joins what no other dictionary beats in both.">
      {known.length === 0 ? <Empty title="Not measured">No dictionary here has both figures recorded.</Empty> : (
        <>
          <Plot height={300} draw={draw} onMount={onMount} label={`L0 against FVU of ${known.length} dictionaries; the same figures are in the table below`} />
          <p className="plotlegend">
            {sites.map(({ name, colour }) => <span key={name}><i className="swatch" style={{ background: colour }} /> {name}</span>)}
            {widths.length > 1 && <span className="sizes">size: {widths.map((w) => count(w)).join(" < ")} latents</span>}
          </p>
        </>
      )}
    </Panel>
  );
}
