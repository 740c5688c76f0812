/** Sequences that the edited model writes, judged by the unedited one, beside controls. */
import { useMemo, useState } from "react";
import type { Schemas } from "../../api/client";
import { CopyPython, Result } from "../../live/parts";
import { useLive } from "../../live/run";
import { count, download, fixed, percent, sig, toCsv } from "../../lib/format";
import { Empty, Panel, Tabs } from "../../ui/basics";

type Varied = Schemas["Varied"];
type Arm = Varied["arms"][number];

export function VariantsPanel({ sae, target, ops, error, limit }: { sae: string; target: object; ops: string; error: "keep" | "drop"; limit: number }) {
  const [n, setN] = useState("20");
  const [positions, setPositions] = useState("");
  const [temperature, setTemperature] = useState("1");
  const [body, setBody] = useState<object | null>(null);
  const asked = useMemo(() => (body ? { method: "POST" as const, path: "steer/variants", body } : null), [body]);
  const found = useLive<Varied>(asked);
  const run = () => setBody({ sae, ...target, edits: ops, error_term: error, n: Number(n), positions: positions.trim() || null, temperature: Number(temperature), controls: Math.min(10, Number(n)) });
  const right = Number(n) >= 1 && Number(n) <= limit && Number(temperature) >= 0;
  return (
    <Panel title="Variants" note="Residues are masked, the edited model fills them in, and the unedited model judges: does the latent rise on the new sequence (re-activation), and how likely is it (pseudo-perplexity)? Controls use the same random numbers.">
      <form className="toolrow" onSubmit={(e) => { e.preventDefault(); if (right) run(); }}>
        <label className="select"><span>Number</span><input className="field short" inputMode="numeric" value={n} onChange={(e) => setN(e.target.value)} /></label>
        <label className="select"><span>Residues</span><input className="field" value={positions} placeholder="15 % at random, or 10-20" onChange={(e) => setPositions(e.target.value)} /></label>
        <label className="select"><span>Temperature</span><input className="field short" inputMode="decimal" value={temperature} onChange={(e) => setTemperature(e.target.value)} /></label>
        <button type="submit" className="button small primary" disabled={!right}>{body ? "Write again" : "Write"}</button>
      </form>
      <Result of={found} asked={asked !== null} onCancel={() => setBody(null)} empty={<Empty title="None written yet">Twenty variants and their controls take some ten seconds.</Empty>}>{(v) => <Variants of={v} />}</Result>
    </Panel>
  );
}

const mean = (values: (number | null | undefined)[]): number => {
  const there = values.filter((v): v is number => v !== null && v !== undefined);
  return there.reduce((a, b) => a + b, 0) / (there.length || 1);
};

function Variants({ of }: { of: Varied }) {
  const [shown, setShown] = useState(of.arms[0]!.name);
  const arm = of.arms.find((a) => a.name === shown) ?? of.arms[0]!;
  const latents = Object.keys(of.arms[0]!.variants[0]?.rise ?? {});
  const rise = (a: Arm, j: string) => mean(a.variants.map((v) => v.rise[j]));
  const fasta = () => download("variants.fasta", of.arms.flatMap((a) => a.variants.map((v) => `>${a.name.replace(/ /g, "_")}_${v.index} identity=${v.identity.toFixed(3)}\n${v.sequence}\n`)).join(""), "text/plain");
  const csv = () => download("variants.csv", toCsv(["arm", "index", "sequence", "changes", "identity", "pseudo_perplexity", ...latents.map((j) => `rise_${j}`)], of.arms.flatMap((a) => a.variants.map((v) => [a.name, v.index, v.sequence, v.changed.length, v.identity, v.pseudo_perplexity, ...latents.map((j) => v.rise[j] ?? null)]))), "text/csv");
  return (
    <>
      <div className="scroll-x" tabIndex={0} role="region" aria-label="Variants by arm">
        <table>
          <thead><tr><th scope="col">Made by</th><th scope="col" className="n">Variants</th><th scope="col" className="n">Identity</th>{latents.map((j) => <th key={j} scope="col" className="n">Rise of {j}</th>)}<th scope="col" className="n">Pseudo-perplexity</th></tr></thead>
          <tbody>{of.arms.map((a) => (
            <tr key={a.name}><th scope="row">{a.name === "steered" ? "the edited model" : a.name === "no edit" ? "the model itself" : `${a.name}, same norm`}</th><td className="n">{count(a.variants.length)}</td><td className="n">{percent(mean(a.variants.map((v) => v.identity)))}</td>{latents.map((j) => <td key={j} className="n">{sig(rise(a, j))}</td>)}<td className="n">{fixed(mean(a.variants.map((v) => v.pseudo_perplexity)), 1)}</td></tr>
          ))}</tbody>
        </table>
      </div>
      <p className="note">The input has a pseudo-perplexity of {fixed(of.input_pseudo_perplexity, 1)}. Rise: mean activation over residues, less the input’s. Computed in {fixed(of.seconds, 1)} s.</p>
      <div className="toolrow">
        <Tabs small label="Variants of" value={arm.name} onChange={setShown} options={of.arms.map((a) => ({ value: a.name, label: a.name }))} />
        <button type="button" className="button small" onClick={fasta}>FASTA</button>
        <button type="button" className="button small" onClick={csv}>CSV</button>
        <button type="button" className="button small" onClick={() => download("variants.json", JSON.stringify(of, null, 1), "application/json")}>JSON</button>
      </div>
      <div className="tablescroll tall" tabIndex={0} role="region" aria-label="Sequences">
        <table><tbody>{arm.variants.map((v) => (
          <tr key={v.index}><td className="n">{v.index + 1}</td><td className="n">{percent(v.identity)}</td><td className="variantseq"><Marked text={v.sequence} at={new Set(v.changed)} /></td></tr>
        ))}</tbody></table>
      </div>
      <CopyPython code={of.python} what="this table" />
    </>
  );
}

function Marked({ text, at }: { text: string; at: ReadonlySet<number> }) {
  return <>{[...text].map((letter, i) => (at.has(i + 1) ? <mark key={i}>{letter}</mark> : letter))}</>;
}
