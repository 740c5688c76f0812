/** Paste, drop or name a sequence. */
import { useRef, useState } from "react";
import { send, type Schemas } from "../api/client";
import type { SAE } from "../api/queries";
import { count, plural } from "../lib/format";
import { Select } from "../ui/basics";
import { STARTS } from "./examples";
import { Privacy } from "./parts";

export type SequenceRecord = Schemas["SequenceRecord"];

export interface Chosen {
  seq: string;
  acc: string;
  name: string;
}

export interface SequenceInputProps {
  saes: readonly SAE[];
  sae: SAE;
  limits: Schemas["LiveLimits"];
  chosen: Chosen;
  records: readonly SequenceRecord[];
  onSae(id: string): void;
  onRecords(records: SequenceRecord[]): void;
  onChoose(chosen: Chosen): void;
}

const MOST_BYTES = 12_000_000;

export function SequenceInput({ saes, sae, limits, chosen, records, onSae, onRecords, onChoose }: SequenceInputProps) {
  const [draft, setDraft] = useState(chosen.seq);
  const [wrong, setWrong] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const [over, setOver] = useState(false);
  const [acc, setAcc] = useState(chosen.acc);
  const file = useRef<HTMLInputElement>(null);
  const take = async (text: string, name = "") => {
    setBusy(true);
    setWrong(null);
    try {
      const found = await send<Schemas["Uploaded"]>("POST", "sequences", { text, name });
      const all = found!.records;
      onRecords(all);
      onChoose({ seq: all[0]!.sequence, acc: "", name: all[0]!.id });
      if (all.length === 1) setDraft(all[0]!.sequence);
    } catch (error) {
      setWrong(error instanceof Error ? error.message : "This could not be read.");
    } finally {
      setBusy(false);
    }
  };
  const open = async (given: File | undefined) => {
    if (!given) return;
    if (given.size > MOST_BYTES) setWrong(`${given.name} has ${count(given.size / 1e6)} MB; at most 12 are taken.`);
    else await take(await given.text(), given.name);
  };
  return (
    <div className="sequenceinput" data-over={over || undefined}
      onDragOver={(e) => { e.preventDefault(); setOver(true); }} onDragLeave={() => setOver(false)}
      onDrop={(e) => { e.preventDefault(); setOver(false); void open(e.dataTransfer.files[0]); }}>
      <div className="inputrow">
        <label className="grow">
          <span className="visually-hidden">Sequence, FASTA, PDB or mmCIF</span>
          <textarea className="field mono" rows={4} spellCheck={false} value={draft} aria-invalid={wrong !== null}
            placeholder={"Paste a sequence or FASTA, or drop a FASTA, PDB or mmCIF file here"}
            onChange={(e) => setDraft(e.target.value)}
            onKeyDown={(e) => e.key === "Enter" && (e.ctrlKey || e.metaKey) && void take(draft)} />
        </label>
        <div className="inputactions">
          <button type="button" className="button primary" disabled={busy || !draft.trim()} onClick={() => void take(draft)}>{busy ? "Reading…" : "Run"}</button>
          <button type="button" className="button" onClick={() => file.current?.click()}>File…</button>
          <input ref={file} type="file" hidden aria-label="File with sequences" accept=".fasta,.fa,.faa,.txt,.pdb,.ent,.cif,.mmcif" onChange={(e) => { void open(e.target.files?.[0]); e.target.value = ""; }} />
        </div>
      </div>
      {wrong && <p className="wrong" role="alert">{wrong}</p>}
      <div className="toolrow">
        {saes.length > 1 && <Select label="Dictionary" value={sae.id} onChange={onSae} options={saes.map((s) => ({ value: s.id, label: s.name }))} />}
        {records.length > 1 && (
          <label className="select"><span>{plural(records.length, "record")}</span>
            <select value={records.findIndex((r) => r.sequence === chosen.seq && r.id === chosen.name)} onChange={(e) => {
              const record = records[Number(e.target.value)]!;
              onChoose({ seq: record.sequence, acc: "", name: record.id });
            }}>
              {records.map((r, i) => <option key={i} value={i}>{r.id} ({r.sequence.length})</option>)}
            </select>
          </label>
        )}
        <form className="select" onSubmit={(e) => { e.preventDefault(); if (acc.trim()) { onRecords([]); setWrong(null); onChoose({ seq: "", acc: acc.trim(), name: acc.trim() }); } }}>
          <label htmlFor="accession">Accession in the bundle</label>
          <input id="accession" className="field short" value={acc} placeholder="such as 1ECA_A" onChange={(e) => setAcc(e.target.value)} />
          <button type="submit" className="button small" disabled={!acc.trim()}>Take</button>
        </form>
        <span className="select">
          <span>Try</span>
          {STARTS.map((s) => (
            <button key={s.id} type="button" className="chip quiet copy" onClick={() => { setDraft(s.sequence); onRecords([]); setWrong(null); onChoose({ seq: s.sequence, acc: "", name: s.id }); }}>{s.name}</button>
          ))}
        </span>
      </div>
      <p className="note">At most {count(limits.max_residues)} residues, {count(limits.max_records)} records.</p>
      <Privacy />
    </div>
  );
}
