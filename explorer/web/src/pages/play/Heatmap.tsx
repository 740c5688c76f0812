/** Residues × latents of a sequence, with filters. */
import { useMemo } from "react";
import type { Schemas } from "../../api/client";
import { Heat } from "../../live/Heat";
import { CopyPython, RowName } from "../../live/parts";
import { activationScale } from "../../lib/colour";
import { count, fixed, percent, plural, sig } from "../../lib/format";
import { useTheme } from "../../lib/theme";
import type { useUrlState } from "../../lib/urlstate";
import { dense } from "../../strip/layout";
import { Empty, Panel, Select, Term } from "../../ui/basics";
import { Icon } from "../../ui/icons";
import { arrange } from "./arrange";
import type { SPEC } from "./state";

type Url = ReturnType<typeof useUrlState<typeof SPEC>>;

export interface HeatmapProps {
  encoded: Schemas["Encoded"];
  mutations: readonly string[];
  numbers: readonly (string | null)[] | null;
  state: Url[0];
  set: Url[1];
  hover: number | null;
  onHover(column: number | null): void;
}

export function Heatmap({ encoded, mutations, numbers, state, set, hover, onHover }: HeatmapProps) {
  const { dark } = useTheme();
  const { q, range, share, order } = state;
  const all = useMemo(() => arrange(encoded.latents, { q, range, share, order }), [encoded, q, range, share, order]);
  const rows = all.slice(0, state.n);
  const length = encoded.sequence.length;
  const cells = useMemo(() => rows.map((l) => ({ values: dense(l.track, length), scale: activationScale(l.own_max, dark) })), [rows.map((l) => l.latent).join(), length, dark]); // eslint-disable-line react-hooks/exhaustive-deps
  const marks = useMemo(() => new Set(mutations.map((m) => Number(m.slice(1, -1)) - 1)), [mutations.join()]); // eslint-disable-line react-hooks/exhaustive-deps
  const colour = useMemo(() => (row: number, column: number) => {
    const cell = cells[row];
    const value = cell?.values[column] ?? 0;
    return cell && value > 0 ? cell.scale.css(value) : null;
  }, [cells]);
  const say = (row: number, column: number) => {
    const l = rows[row]!;
    const number = numbers?.[column];
    const of = numbers ? ` (${number ? `${number} in the file` : "no coordinates"})` : "";
    return `${encoded.sequence[column]}${column + 1}${of}\nlatent ${l.latent}: ${sig(cells[row]!.values[column]!)} of ${sig(l.own_max)}\n${l.label}`;
  };
  return (
    <Panel title={<>{plural(encoded.latents.length, "latent")} fire on {count(length)} residues</>}
      side={<span className="legend"><span>silent</span><span className="ramp" /><span>its own maximum</span></span>}
      note={<>Ranked by <Term of="idf">rarity-weighted strength</Term>; each row has the one scale of its latent, to its maximum in the bundle. Click a row to look into it, a letter (or, where they do not fit, the scale) to mutate it. Arrow keys move.</>}>
      <Filters state={state} set={set} shown={rows.length} of={all.length} />
      {rows.length === 0 ? <Empty title="Nothing left">No latent passes these filters.</Empty> : (
        <Heat label={`Activation of ${rows.length} latents along the sequence`} sequence={encoded.sequence} zoom={state.z} marks={marks} hover={hover} onHover={onHover}
          names={rows.map((l) => <RowName key={l.latent} sae={encoded.sae} latent={l.latent} label={l.label} chosen={l.latent === state.latent} onChoose={() => set({ latent: l.latent })} />)}
          chosen={rows.findIndex((l) => l.latent === state.latent)} colour={colour} say={say}
          onChoose={(row) => set({ latent: rows[row]!.latent })}
          onPick={(row, column) => row < 0 && set({ mut: `${encoded.sequence[column]}${column + 1}` })} />
      )}
      <div className="toolrow">
        {all.length > rows.length && <button type="button" className="button small" onClick={() => set({ n: state.n + 40 })}>Show 40 more of {count(all.length)}</button>}
        <small className="quiet">{encoded.kept ? "From a moment ago" : `Computed in ${fixed(encoded.seconds, 2)} s`}; active on {percent(encoded.latents.reduce((t, l) => t + l.share_active, 0) / Math.max(1, encoded.latents.length))} of residues on average.</small>
      </div>
      <CopyPython code={encoded.python} what="this heatmap" />
    </Panel>
  );
}

function Filters({ state, set, shown, of }: { state: Url[0]; set: Url[1]; shown: number; of: number }) {
  return (
    <div className="toolrow">
      <label className="select"><span>Text or concept</span><input className="field" type="search" value={state.q} placeholder="label, concept or number" onChange={(e) => set({ q: e.target.value })} /></label>
      <label className="select"><span>Residues</span>
        <input className="field short" inputMode="numeric" aria-label="First residue" placeholder="from" value={state.range?.[0] ?? ""} onChange={(e) => set({ range: stretch(e.target.value, state.range?.[1]) })} />
        <input className="field short" inputMode="numeric" aria-label="Last residue" placeholder="to" value={state.range?.[1] ?? ""} onChange={(e) => set({ range: stretch(state.range?.[0], e.target.value) })} />
      </label>
      <label className="select"><span>Active on at most {percent(state.share)}</span><input type="range" min={0.01} max={1} step={0.01} value={state.share} onChange={(e) => set({ share: Number(e.target.value) })} /></label>
      <Select label="Order" value={state.order} onChange={(order) => set({ order })} options={[{ value: "score", label: "most telling" }, { value: "max", label: "strongest" }, { value: "position", label: "along the protein" }, { value: "latent", label: "number" }]} />
      <span className="group-of" role="group" aria-label="Zoom">
        <button type="button" className="iconbutton" aria-label="Smaller" onClick={() => set({ z: Math.max(3, (state.z || 8) - 3) })}><Icon name="minus" size={12} /></button>
        <button type="button" className="iconbutton" aria-label="Fit the width" onClick={() => set({ z: 0 })}><Icon name="fit" size={12} /></button>
        <button type="button" className="iconbutton" aria-label="Larger" onClick={() => set({ z: Math.min(24, (state.z || 8) + 3) })}><Icon name="plus" size={12} /></button>
      </span>
      <small className="quiet" role="status">{count(shown)} of {count(of)} shown</small>
    </div>
  );
}

/** Two ends as an interval, the lower first; nothing typed is no end. */
function stretch(from: string | number | undefined, to: string | number | undefined): readonly [number, number] | null {
  const number = (value: string | number | undefined) => (value === undefined || value === "" ? null : Number(value));
  const [a, b] = [number(from), number(to)];
  if (a === null && b === null) return null;
  const low = a === null || !Number.isFinite(a) ? 1 : a;
  const high = b === null || !Number.isFinite(b) ? Math.max(low, 99_999) : b;
  return [low, Math.max(low, high)];
}
