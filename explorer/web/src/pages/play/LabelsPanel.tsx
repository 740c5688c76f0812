/** A probe on a person's own labels: a table or a motif in, the latents that tell it out. */
import { useMemo, useState } from "react";
import type { Schemas } from "../../api/client";
import type { SAE } from "../../api/queries";
import { CopyPython, Privacy, Result } from "../../live/parts";
import { useLive } from "../../live/run";
import { count, fixed, percent, plural, sig } from "../../lib/format";
import { Chip, Empty, Figure, Panel, Select, Tabs, Term } from "../../ui/basics";
import { LatentLink } from "../../ui/LatentLink";

type Labelled = Schemas["Labelled"];
const SAMPLE = "id\tlabel\tposition\nP01308\tmy site\t31\nP01308\tmy site\t96\nP69905\t\t\n";

export function LabelsPanel({ saes, sae, usable, onSae }: { saes: readonly SAE[]; sae: SAE; usable: boolean; onSae(id: string): void }) {
  const [by, setBy] = useState<"motif" | "tsv">("motif");
  const [motif, setMotif] = useState("C-x(2,4)-C");
  const [tsv, setTsv] = useState("");
  const [body, setBody] = useState<object | null>(null);
  const asked = useMemo(() => (body ? { method: "POST" as const, path: "labels", body } : null), [body]);
  const found = useLive<Labelled>(asked);
  const run = () => setBody(by === "motif" ? { sae: sae.id, motif, name: motif } : { sae: sae.id, tsv });
  return (
    <>
      <Panel title="A probe on my labels" note="Which latents tell what you marked? Thresholds come from the training part of the bundle's proteins, the latent from the validation part, and its score once from the test part; homologues are never split.">
        <div className="toolrow">
          {saes.length > 1 && <Select label="Dictionary" value={sae.id} onChange={(id) => { onSae(id); setBody(null); }} options={saes.map((s) => ({ value: s.id, label: s.name }))} />}
          <Tabs small label="Labels by" value={by} onChange={(v) => { setBy(v); setBody(null); }} options={[{ value: "motif", label: "a motif" }, { value: "tsv", label: "a table" }]} />
        </div>
        {!usable ? <Empty title="No probes of this dictionary">Its split and latents are not on this server. Run <code>python -m probes</code> and start it with <code>--probes</code>.</Empty> : (
          <form onSubmit={(e) => { e.preventDefault(); run(); }} className="labelform">
            {by === "motif" ? <label className="select"><span>PROSITE pattern</span><input className="field wide mono" value={motif} onChange={(e) => setMotif(e.target.value)} /></label> : (
              <label className="grow"><span className="note">Tab-separated, with the columns id, label and position (or start and end). Ids are accessions of the bundle. A line with an id alone says that the protein has none.</span>
                <textarea className="field mono" rows={6} value={tsv} placeholder={SAMPLE} spellCheck={false} onChange={(e) => setTsv(e.target.value)} /></label>
            )}
            <button type="submit" className="button primary" disabled={!(by === "motif" ? motif : tsv).trim()}>Find the latents</button>
          </form>
        )}
        <Privacy />
      </Panel>
      <Result of={found} asked={asked !== null && usable} onCancel={() => setBody(null)} empty={<Empty title="Nothing asked yet">Enter a motif, or paste a table of residues.</Empty>}>
        {(l) => <>
          {l.notes.length > 0 && <p className="note">{l.notes.join(". ")}. Computed in {fixed(l.seconds, 1)} s.</p>}
          {l.labels.map((one) => <Label key={one.label} of={one} />)}
          <CopyPython code={l.python} what="this table" />
        </>}
      </Result>
    </>
  );
}

function Label({ of }: { of: Labelled["labels"][number] }) {
  const positives = ["train", "validation", "test"].map((part) => `${count(of.n_positive[part])} in ${part}`).join(", ");
  if (of.left_out || !of.best || !of.best_latent) return <Panel title={of.label}><Empty title="Not scored">{of.left_out ?? "No latent tells it."}</Empty></Panel>;
  const { score } = of.best;
  return (
    <Panel title={of.label} note={`Residues: ${positives}.`}>
      <dl className="figures">
        <Figure name="Chosen latent"><LatentLink of={of.best_latent} /></Figure>
        <Figure name={<Term of="f1">F1 on unseen clusters</Term>} sub={score.f1_low !== null && `95 %: ${fixed(score.f1_low)} to ${fixed(score.f1_high)}`}>{fixed(score.f1)}</Figure>
        <Figure name={<Term of="precision">Precision</Term>}>{fixed(score.precision)}</Figure>
        <Figure name={<Term of="recall">Recall</Term>}>{fixed(score.recall)}</Figure>
        <Figure name={<Term of="auroc">AUROC</Term>}>{fixed(score.auroc)}</Figure>
        <Figure name="Base rate" sub={plural(of.n_clusters, "cluster")}>{percent(of.base_rate)}</Figure>
      </dl>
      <div className="scroll-x" tabIndex={0} role="region" aria-label="Latents by validation F1">
        <table>
          <thead><tr><th scope="col">Latent</th><th scope="col" className="n">F1 validation</th><th scope="col" className="n">F1 test</th><th scope="col" className="n">Precision</th><th scope="col" className="n">AUROC</th><th scope="col" className="n">Threshold</th></tr></thead>
          <tbody>{of.latents.map((l) => (
            <tr key={l.latent}><td><LatentLink of={l} /> {l.is_best && <Chip tone="accent">chosen</Chip>}</td><td className="n">{fixed(l.f1_validation)}</td><td className="n">{fixed(l.score.f1)}</td><td className="n">{fixed(l.score.precision)}</td><td className="n">{fixed(l.score.auroc)}</td><td className="n">{sig(l.threshold)}</td></tr>
          ))}</tbody>
        </table>
      </div>
    </Panel>
  );
}
