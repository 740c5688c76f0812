/** Every substitution, and what one latent makes of it. */
import { useMemo, useState } from "react";
import type { Schemas } from "../../api/client";
import { Heat } from "../../live/Heat";
import { CopyPython, Result } from "../../live/parts";
import { useLive } from "../../live/run";
import { divergingRamp, divergingScale } from "../../lib/diverging";
import { count, download, sig, toCsv } from "../../lib/format";
import { useTheme } from "../../lib/theme";
import { Panel, Tabs } from "../../ui/basics";
import type { PlayLatent } from "./arrange";

type Scanned = Schemas["Scanned"];

export function ScanPanel({ encoded, latent, zoom, onMutate }: { encoded: Schemas["Encoded"]; latent: PlayLatent; zoom: number; onMutate(mutation: string): void }) {
  const length = encoded.sequence.length;
  const [whole, setWhole] = useState(false);
  const [asking, setAsking] = useState(false);
  const [from, to] = whole ? [1, length] : [Math.max(1, latent.argmax - 10), Math.min(length, latent.argmax + 10)];
  const asked = useMemo(() => (asking ? { method: "POST" as const, path: "scan", body: { sae: encoded.sae, sequence: encoded.sequence, latent: latent.latent, start: from, end: to } } : null), [asking, encoded, latent, from, to]);
  const found = useLive<Scanned>(asked);
  const passes = 19 * (to - from + 1);
  return (
    <Panel title={`Substitution scan of latent ${latent.latent}`} note="Every residue is replaced by each of the other 19, and the model runs anew each time. Closing the page stops it.">
      <div className="toolrow">
        <Tabs small label="Residues" value={whole ? "all" : "near"} onChange={(v) => { setWhole(v === "all"); setAsking(false); }} options={[{ value: "near", label: `${latent.argmax - from} around its peak` }, { value: "all", label: `all ${count(length)}` }]} />
        {!asking && <button type="button" className="button small primary" onClick={() => setAsking(true)}>Scan {count(passes)} mutants</button>}
      </div>
      <Result of={found} asked={asked !== null} onCancel={() => setAsking(false)} height={90}>{(s) => <Scan of={s} zoom={zoom} onMutate={onMutate} />}</Result>
    </Panel>
  );
}

function Scan({ of, zoom, onMutate }: { of: Scanned; zoom: number; onMutate(mutation: string): void }) {
  const { dark } = useTheme();
  const [read, setRead] = useState<"max" | "value_at">("max");
  const table = of[read];
  const wild = read === "max" ? of.wild_max : of.wild_at;
  const sequence = of.sequence.slice(of.start - 1, of.start - 1 + table.length);
  const limit = Math.max(...table.flat().map((v) => Math.abs(v - wild)), of.own_max / 20);
  const colour = useMemo(() => {
    const scale = divergingScale(limit, dark);
    return (row: number, column: number) => scale.css(of[read][column]![row]! - wild);
  }, [of, read, wild, limit, dark]);
  const save = () => download(`scan-latent-${of.latent}.csv`, toCsv(["position", "residue", ...of.letters], table.map((row, i) => [of.start + i, sequence[i]!, ...row])), "text/csv");
  return (
    <>
      <div className="toolrow">
        <Tabs<"max" | "value_at"> small label="What is read" value={read} onChange={setRead} options={[{ value: "max", label: "its maximum" }, { value: "value_at", label: `at ${of.sequence[of.at - 1]}${of.at}` }]} />
        <span className="legend"><span>−{sig(limit)}</span><span className="ramp" style={{ background: divergingRamp(dark) }} /><span>+{sig(limit)}</span></span>
        <button type="button" className="button small" onClick={save}>CSV</button>
      </div>
      <Heat label={`Latent ${of.latent} under every substitution`} sequence={sequence} first={of.start} rowHeight={13} zoom={zoom} colour={colour}
        names={[...of.letters].map((l) => <b key={l} className="mono">{l}</b>)} dot={(row, column) => of.letters[row] === sequence[column]}
        say={(row, column) => `${sequence[column]}${of.start + column}${of.letters[row]}\n${sig(wild)} → ${sig(table[column]![row]!)}`}
        onPick={(row, column) => row >= 0 && of.letters[row] !== sequence[column] && onMutate(`${sequence[column]}${of.start + column}${of.letters[row]}`)} />
      <small className="quiet">Unchanged it is {sig(wild)}. A click takes a substitution as the mutant.</small>
      <CopyPython code={of.python} what="this scan" />
    </>
  );
}
