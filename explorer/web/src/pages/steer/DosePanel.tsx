/** Dose-response of the first edit's latent beside matched controls. */
import * as P from "@observablehq/plot";
import { useCallback, useMemo, useState } from "react";
import type { Schemas } from "../../api/client";
import { CopyPython, Result } from "../../live/parts";
import { useLive } from "../../live/run";
import type { Edit } from "../../lib/edits";
import { download, fixed, sig, toCsv } from "../../lib/format";
import { Empty, Panel, Select, Tabs } from "../../ui/basics";
import { Plot } from "../../ui/Plot";

type Swept = Schemas["Swept"];
const COLOURS: Record<string, string> = { latent: "#0072B2", "random latent": "#D55E00", "random direction": "#8c8c8c" };

export function DosePanel({ sae, target, edit, error }: { sae: string; target: object; edit: Edit; error: "keep" | "drop" }) {
  const [body, setBody] = useState<object | null>(null);
  const [where, setWhere] = useState<"masked" | "all" | "active">("masked");
  const [letter, setLetter] = useState("");
  const operation = edit.operation === "zero" ? "set" : edit.operation;
  const asked = useMemo(() => (body ? { method: "POST" as const, path: "steer/sweep", body } : null), [body]);
  const found = useLive<Swept>(asked);
  const run = () => setBody({ sae, ...target, latent: edit.latent, operation, where, amino_acid: letter || null, error_term: error });
  return (
    <Panel title={`Dose-response of latent ${edit.latent}`} note="Any push changes the predictions. The same norm at the same residues is given to random latents that fire as often, and to random directions: only what exceeds those says something of this latent.">
      <form className="toolrow" onSubmit={(e) => { e.preventDefault(); run(); }}>
        <Select<"masked" | "all" | "active"> label="Residues" value={where} onChange={setWhere} options={[{ value: "masked", label: "a tenth, masked" }, { value: "all", label: "all" }, { value: "active", label: "where it fires" }]} />
        <label className="select"><span>Follow</span><select value={letter} onChange={(e) => setLetter(e.target.value)}><option value="">what it raises most</option>{[..."ACDEFGHIKLMNPQRSTVWY"].map((a) => <option key={a}>{a}</option>)}</select></label>
        <button type="submit" className="button small primary">{body ? "Run again" : "Run"}</button>
      </form>
      <Result of={found} asked={asked !== null} onCancel={() => setBody(null)} empty={<Empty title="Not run yet">Six strengths, ten random latents and ten random directions; some seconds.</Empty>}>{(s) => <Dose of={s} />}</Result>
    </Panel>
  );
}

interface Point {
  arm: string;
  kind: string;
  x: number;
  y: number;
}

function Dose({ of }: { of: Swept }) {
  const [by, setBy] = useState<"strength" | "kl">("strength");
  const column = of.letters.indexOf(of.amino_acid);
  const points = useMemo(() => of.arms.flatMap((arm): Point[] => arm.kl.flatMap((kl, i) => {
    const y = arm.delta_log_p[i]?.[column] ?? null;
    if (y === null || kl === null || (by === "strength" && i >= of.multiples.length)) return [];
    return [{ arm: `${arm.kind} ${arm.number}`, kind: arm.kind, x: by === "strength" ? of.multiples[i]! : kl, y }];
  })), [of, column, by]);
  const draw = useCallback((width: number): P.PlotOptions => {
    const [own, others] = [points.filter((p) => p.kind === "latent"), points.filter((p) => p.kind !== "latent")];
    return {
      marginLeft: 46, marginBottom: 38, marginTop: 14,
      x: { label: by === "strength" ? "strength, × its maximum →" : "KL(base ‖ steered), nats →", labelAnchor: "center", ...(by === "kl" ? { type: "sqrt" as const } : {}), ticks: Math.max(3, Math.floor(width / 90)) },
      y: { label: `↑ Δ log p of ${of.amino_acid}, nats`, grid: true, nice: true, ticks: 5 },
      marks: [
        P.ruleY([0], { stroke: "currentColor", strokeOpacity: 0.4 }),
        ...["random direction", "random latent"].map((kind) => P.line(others.filter((p) => p.kind === kind), { x: "x", y: "y", z: "arm", sort: "x", stroke: COLOURS[kind]!, strokeOpacity: 0.6, strokeWidth: 1, strokeDasharray: kind === "random latent" ? "none" : "3,2" })),
        P.line(own, { x: "x", y: "y", sort: "x", stroke: COLOURS.latent!, strokeWidth: 2.6 }),
        P.dot(own, { x: "x", y: "y", fill: COLOURS.latent!, r: 3.5 }),
        P.tip(points, P.pointer({ x: "x", y: "y", title: (p: Point) => `${p.arm}\nΔ log p ${sig(p.y)} at ${sig(p.x)}`, fill: "var(--card)", stroke: "var(--line-2)" })),
      ],
    };
  }, [points, by, of]);
  const save = () => download("dose-response.csv", toCsv(["arm", "number", "multiple", "kl", ...of.letters], of.arms.flatMap((a) => of.multiples.map((m, i) => [a.kind, a.number, m, a.kl[i] ?? null, ...(a.delta_log_p[i] ?? [])]))), "text/csv");
  return (
    <>
      <p role="status">{of.verdict}</p>
      <div className="toolrow">
        <Tabs<"strength" | "kl"> small label="Against" value={by} onChange={setBy} options={[{ value: "strength", label: "at equal norm" }, { value: "kl", label: "at equal KL" }]} />
        <span className="legend"><i className="swatch" style={{ background: COLOURS.latent }} /> latent {of.latent}<i className="swatch" style={{ background: COLOURS["random latent"] }} /> random latents<i className="swatch" style={{ background: COLOURS["random direction"] }} /> random directions</span>
        <button type="button" className="button small" onClick={save}>CSV</button>
      </div>
      <Plot label={`Dose-response of latent ${of.latent}`} height={270} draw={draw} />
      <small className="quiet">Computed in {fixed(of.seconds, 1)} s{of.chosen_here && "; the amino acid was chosen and is shown on the same residues, so its height flatters"}.</small>
      <CopyPython code={of.python} what="this figure" />
    </>
  );
}
