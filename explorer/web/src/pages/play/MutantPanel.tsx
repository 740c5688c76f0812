/** Wild type against mutant: latents that appear, vanish or change. */
import { useEffect, useMemo, useState } from "react";
import type { Schemas } from "../../api/client";
import { Heat } from "../../live/Heat";
import { CopyPython, Result, RowName } from "../../live/parts";
import { useLive } from "../../live/run";
import { divergingRamp, divergingScale } from "../../lib/diverging";
import { count, fixed, plural, sig } from "../../lib/format";
import { useTheme } from "../../lib/theme";
import { dense } from "../../strip/layout";
import { Chip, Empty, Panel } from "../../ui/basics";
import { parseMutations } from "./arrange";

type Mutated = Schemas["Mutated"];
const AMINO = [..."ACDEFGHIKLMNPQRSTVWY"];
const MOST = 30;

export interface MutantPanelProps {
  encoded: Schemas["Encoded"];
  text: string;
  onText(text: string): void;
  chosen: number;
  onChoose(latent: number): void;
  zoom: number;
  hover: number | null;
  onHover(column: number | null): void;
}

export function MutantPanel({ encoded, text, onText, chosen, onChoose, zoom, hover, onHover }: MutantPanelProps) {
  const [draft, setDraft] = useState(text);
  useEffect(() => setDraft(text), [text]);
  const mutations = parseMutations(text);
  const residue = /^([A-Z])(\d+)$/.exec(text);
  const asked = useMemo(() => (mutations?.length ? { method: "POST" as const, path: "mutate", body: { sae: encoded.sae, sequence: encoded.sequence, mutations } } : null), [encoded.sae, encoded.sequence, mutations?.join()]); // eslint-disable-line react-hooks/exhaustive-deps
  const found = useLive<Mutated>(asked);
  const wrong = draft.trim() !== "" && parseMutations(draft) === null && !/^[A-Z]\d+$/i.test(draft.trim());
  return (
    <Panel title="Wild type against mutant" note="Type a substitution such as C96S (several with commas), or click a letter above the heatmap and choose what it becomes.">
      <form className="toolrow" onSubmit={(e) => { e.preventDefault(); onText(draft.trim().toUpperCase()); }}>
        <label className="select"><span>Mutation</span><input className="field" value={draft} placeholder="A42V" aria-invalid={wrong} onChange={(e) => setDraft(e.target.value)} /></label>
        <button type="submit" className="button small primary" disabled={wrong || !draft.trim()}>Compare</button>
        {text && <button type="button" className="button small" onClick={() => onText("")}>Clear</button>}
        {wrong && <span className="wrong" role="alert">Write the residue that is there, its position and the new one: A42V.</span>}
      </form>
      {residue && (
        <div className="residues" role="group" aria-label={`What ${text} becomes`}>
          <span>{text} becomes</span>
          {AMINO.filter((a) => a !== residue[1]).map((a) => <button key={a} type="button" className="iconbutton mono" onClick={() => onText(`${text}${a}`)}>{a}</button>)}
        </div>
      )}
      <Result of={found} asked={asked !== null} empty={residue ? null : <Empty title="No mutation yet">Latents that appear, vanish or change will be listed here.</Empty>}>
        {(m) => <Changes of={m} chosen={chosen} onChoose={onChoose} zoom={zoom} hover={hover} onHover={onHover} />}
      </Result>
    </Panel>
  );
}

function Changes({ of, chosen, onChoose, zoom, hover, onHover }: { of: Mutated; chosen: number; onChoose(latent: number): void; zoom: number; hover: number | null; onHover(column: number | null): void }) {
  const { dark } = useTheme();
  const [most, setMost] = useState(MOST);
  const rows = of.latents.slice(0, most);
  const length = of.sequence.length;
  const cells = useMemo(() => of.latents.slice(0, most).map((l) => {
    const [before, after] = [dense(l.before, length), dense(l.after, length)];
    return { before, after, scale: divergingScale(l.own_max / 2, dark) };
  }), [of, most, length, dark]);
  const marks = useMemo(() => new Set(of.positions.map((p) => p - 1)), [of]);
  const colour = useMemo(() => (row: number, column: number) => {
    const cell = cells[row];
    const change = cell ? cell.after[column]! - cell.before[column]! : 0;
    return cell && change !== 0 ? cell.scale.css(change) : null;
  }, [cells]);
  const number = (outcome: string) => of.latents.filter((l) => l.outcome === outcome).length;
  if (!of.latents.length) return <Empty title="No difference">No latent changes by as much as a hundredth of its maximum.</Empty>;
  return (
    <>
      <p className="chips" role="status">
        <Chip tone="accent">{number("appears")} appear</Chip><Chip tone="warn">{number("vanishes")} vanish</Chip><Chip>{number("changes")} change</Chip>
        <small className="quiet">{plural(of.n_same, "latent")} change by less than a hundredth of their maximum. Computed in {fixed(of.seconds, 2)} s.</small>
        <span className="legend"><span>falls by half its maximum</span><span className="ramp" style={{ background: divergingRamp(dark) }} /><span>rises</span></span>
      </p>
      <Heat label={`Change of ${rows.length} latents along the sequence`} sequence={of.mutant} zoom={zoom} marks={marks} colour={colour} hover={hover} onHover={onHover}
        chosen={rows.findIndex((l) => l.latent === chosen)} onChoose={(row) => onChoose(rows[row]!.latent)}
        say={(row, column) => {
          const l = rows[row]!;
          return `${of.sequence[column]}${column + 1}${of.sequence[column] === of.mutant[column] ? "" : of.mutant[column]}\nlatent ${l.latent} ${l.outcome}: ${sig(cells[row]!.before[column]!)} → ${sig(cells[row]!.after[column]!)}\n${l.label}`;
        }}
        names={rows.map((l) => <span key={l.latent} className="outcome" data-outcome={l.outcome} title={l.outcome}><i aria-label={l.outcome}>{l.outcome === "appears" ? "+" : l.outcome === "vanishes" ? "−" : "~"}</i><RowName sae={of.sae} latent={l.latent} label={l.label} chosen={l.latent === chosen} onChoose={() => onChoose(l.latent)} /></span>)} />
      {of.latents.length > most && <button type="button" className="button small" onClick={() => setMost(most + MOST)}>Show {MOST} more of {count(of.latents.length)}</button>}
      <CopyPython code={of.python} what="this comparison" />
    </>
  );
}
