/** What the edits did: Δlog p, KL, logos and the likeliest residues. */
import { useCallback, useMemo, useState } from "react";
import type { Schemas } from "../../api/client";
import { Heat } from "../../live/Heat";
import { CopyPython } from "../../live/parts";
import { activationScale } from "../../lib/colour";
import { divergingRamp, divergingScale } from "../../lib/diverging";
import { count, download, fixed, percent, sig, toCsv } from "../../lib/format";
import { useTheme } from "../../lib/theme";
import { Figure, Panel, Tabs, useWidth } from "../../ui/basics";
import { Logo } from "../../ui/Logo";
import { Icon } from "../../ui/icons";

type Steered = Schemas["Steered"];
type Show = "dlogp" | "steered" | "base";

export function Effect({ of, show, zoom, onShow, onZoom }: { of: Steered; show: Show; zoom: number; onShow(show: Show): void; onZoom(zoom: number): void }) {
  const { dark } = useTheme();
  const [hover, setHover] = useState<number | null>(null);
  const limit = useMemo(() => Math.max(...of.delta_log_p.flat().map(Math.abs), 0.01), [of]);
  const table = show === "dlogp" ? of.delta_log_p : show === "steered" ? of.steered_log_p : of.base_log_p;
  const colour = useMemo(() => {
    const [diverging, scale] = [divergingScale(limit, dark), activationScale(1, dark)];
    return (row: number, column: number) => (show === "dlogp" ? diverging.css(table[column]![row]!) : scale.css(Math.exp(table[column]![row]!)));
  }, [table, limit, dark, show]);
  const kl = useMemo(() => {
    const scale = activationScale(Math.max(...of.kl, 1e-6), dark);
    return (_: number, column: number) => scale.css(of.kl[column]!);
  }, [of, dark]);
  const edited = useMemo(() => new Set(of.edited.map((p) => p - 1)), [of]);
  const say = (row: number, column: number) => `${of.sequence[column]}${column + 1} → ${of.letters[row]}\nΔlog p ${sig(of.delta_log_p[column]![row]!)}\np ${percent(Math.exp(of.base_log_p[column]![row]!))} → ${percent(Math.exp(of.steered_log_p[column]![row]!))}`;
  const save = (kind: "csv" | "json") =>
    kind === "json" ? download("steered.json", JSON.stringify(of, null, 1), "application/json")
      : download("delta_log_p.csv", toCsv(["position", "residue", ...of.letters], of.delta_log_p.map((row, i) => [i + 1, of.sequence[i]!, ...row])), "text/csv");
  return (
    <Panel title="Change of the predictions" className="effect"
      side={<>
        <Tabs<Show> small label="What is shown" value={show} onChange={onShow} options={[{ value: "dlogp", label: "Δ log p" }, { value: "steered", label: "steered p" }, { value: "base", label: "base p" }]} />
        <button type="button" className="button small" onClick={() => save("csv")}><Icon name="download" size={12} /> CSV</button>
        <button type="button" className="button small" onClick={() => save("json")}><Icon name="download" size={12} /> JSON</button>
      </>}
      note="A row for each amino acid, a column for each residue; dots are the residues that are there, bars above mark edited ones. Natural logarithms, over the 20 amino acids.">
      <dl className="figures">
        <Figure name="Mean |Δ log p|" sub="nats">{sig(of.summary.mean_abs_delta_log_p)}</Figure>
        <Figure name="Mean KL" sub="base ‖ steered, nats">{sig(of.summary.mean_kl)}</Figure>
        <Figure name="Likeliest residue changed" sub={`of ${count(of.sequence.length)}`}>{count(of.summary.argmax_changes)}</Figure>
        <Figure name="Edited" sub="residues">{count(of.summary.edited_residues)}</Figure>
        <Figure name="Edit's norm" sub="of the stream's">{percent(of.summary.relative_edit_norm)}</Figure>
      </dl>
      <div className="toolrow">
        {show === "dlogp" ? <span className="legend"><span>−{sig(limit)}</span><span className="ramp" style={{ background: divergingRamp(dark) }} /><span>+{sig(limit)}</span></span>
          : <span className="legend"><span>p = 0</span><span className="ramp" /><span>1</span></span>}
        <span className="group-of" role="group" aria-label="Zoom">
          <button type="button" className="iconbutton" aria-label="Smaller" onClick={() => onZoom(Math.max(3, (zoom || 12) - 3))}><Icon name="minus" size={12} /></button>
          <button type="button" className="iconbutton" aria-label="Fit the width" onClick={() => onZoom(0)}><Icon name="fit" size={12} /></button>
          <button type="button" className="iconbutton" aria-label="Larger" onClick={() => onZoom(Math.min(24, (zoom || 8) + 3))}><Icon name="plus" size={12} /></button>
        </span>
        <small className="quiet">Computed in {fixed(of.seconds, 2)} s.</small>
      </div>
      <Heat label="Δ log p of 20 amino acids along the sequence" sequence={of.sequence} rowHeight={15} zoom={zoom} marks={edited} colour={colour} say={say} hover={hover} onHover={setHover}
        names={[...of.letters].map((l) => <b key={l} className="mono">{l}</b>)} dot={(row, column) => of.letters[row] === of.sequence[column]} />
      <Heat label="KL divergence along the sequence" sequence={of.sequence} rowHeight={18} zoom={zoom} colour={kl} hover={hover} onHover={setHover}
        say={(_, column) => `${of.sequence[column]}${column + 1}\nKL ${sig(of.kl[column])} nats`} names={[<b key="kl" className="mono">KL</b>]} />
      <Changed of={of} />
      <Logos of={of} at={hover} />
      <CopyPython code={of.python} what="this heatmap" />
    </Panel>
  );
}

/** The likeliest residues, with those that differ marked. */
function Changed({ of }: { of: Steered }) {
  const places = [...of.argmax_after].flatMap((letter, i) => (letter === of.argmax_before[i] ? [] : [i]));
  return (
    <details className="python" open={places.length > 0 && places.length < 40}>
      <summary>Likeliest residues: {count(places.length)} changed{places.length > 0 && `, such as ${places.slice(0, 5).map((i) => `${of.argmax_before[i]}${i + 1}${of.argmax_after[i]}`).join(", ")}`}</summary>
      <p className="diffseq">{[...of.argmax_after].map((letter, i) => (letter === of.argmax_before[i] ? letter : <mark key={i} title={`${of.argmax_before[i]}${i + 1}${letter}`}>{letter}</mark>))}</p>
    </details>
  );
}

const SPAN = 24;

/** Base and steered probabilities as logos, around a residue. */
function Logos({ of, at }: { of: Steered; at: number | null }) {
  const [box, width] = useWidth<HTMLDivElement>();
  const strongest = useMemo(() => of.kl.reduce((best, v, i) => (v > of.kl[best]! ? i : best), 0), [of]);
  const [kept, setKept] = useState<number | null>(null);
  const centre = kept ?? strongest;
  const from = Math.max(0, Math.min(of.sequence.length - 2 * SPAN - 1, centre - SPAN));
  const to = Math.min(of.sequence.length, from + 2 * SPAN + 1);
  const logo = useCallback((table: number[][]): Schemas["Logo"] => {
    const frequencies = table.slice(from, to).map((row) => row.map(Math.exp));
    const bits = frequencies.map((row) => Math.log2(20) + row.reduce((h, p) => h + (p > 0 ? p * Math.log2(p) : 0), 0));
    return { first: from - centre, letters: of.letters, frequencies, bits };
  }, [of, from, to, centre]);
  return (
    <div ref={box} className="logopair">
      <h3>Base and steered, residues {from + 1} to {to} (tinted: {of.sequence[centre]}{centre + 1}{kept === null && ", where KL is highest"})
        {at !== null && at !== centre && <button type="button" className="button small" onClick={() => setKept(at)}>Centre on {of.sequence[at]}{at + 1}</button>}
      </h3>
      <label className="select"><span>Residue</span><input type="range" min={1} max={of.sequence.length} value={centre + 1} onChange={(e) => setKept(Number(e.target.value) - 1)} aria-label="Residue in the middle of the logos" /></label>
      {width > 40 && <><Logo logo={logo(of.base_log_p)} width={width} height={84} label="Base logo" /><Logo logo={logo(of.steered_log_p)} width={width} height={84} label="Steered logo" /></>}
    </div>
  );
}
