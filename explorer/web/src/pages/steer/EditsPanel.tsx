/** The edits, as chips that live in the address, and a form for one more. */
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Link } from "wouter";
import type { Schemas } from "../../api/client";
import { columnsQuery } from "../../api/queries";
import { formatEdit, formatEdits, isWhere, OPERATIONS, parseEdits, type Operation, type Unit } from "../../lib/edits";
import { percent, sig } from "../../lib/format";
import { latentHref } from "../../lib/links";
import { Panel, Select } from "../../ui/basics";
import { Icon } from "../../ui/icons";

export interface EditsPanelProps {
  sae: string;
  text: string;
  mask: string;
  error: "keep" | "drop";
  done: readonly Schemas["EditDone"][];
  onText(text: string): void;
  onMask(mask: string): void;
  onError(error: "keep" | "drop"): void;
}

export function EditsPanel({ sae, text, mask, error, done, onText, onMask, onError }: EditsPanelProps) {
  const { data: columns } = useQuery(columnsQuery(sae));
  const { edits, wrong } = parseEdits(text);
  const [latent, setLatent] = useState("");
  const [operation, setOperation] = useState<Operation>("set");
  const [strength, setStrength] = useState("1");
  const [unit, setUnit] = useState<Unit>("xmax");
  const [where, setWhere] = useState("all");
  const [hide, setHide] = useState(mask);
  const number = Number(latent);
  const known = columns && latent.trim() !== "" && Number.isInteger(number) && number >= 0 && number < columns.label.length;
  const right = known && (operation === "zero" || Number.isFinite(Number(strength))) && strength.trim() !== "" && isWhere(where);
  const add = () => {
    const edit = { latent: number, operation, strength: Number(strength), unit: operation === "scale" ? ("raw" as const) : unit, where: where.trim() };
    onText(formatEdits([...edits.filter((e) => !(e.latent === edit.latent && e.where === edit.where)), edit]));
    setLatent("");
  };
  return (
    <Panel title="Edits" note="The stream at the dictionary's site becomes x + decode(z′) − decode(z), and all later blocks run. Strengths are in the latent's own units or × its maximum on held-out residues.">
      <div className="editchips" role="list" aria-label="Edits">
        {edits.map((edit, i) => {
          const how = done[i];
          return (
            <span key={formatEdit(edit)} role="listitem" className="editchip">
              <code>{formatEdit(edit)}</code>
              <small title={columns?.label[edit.latent]}><Link href={latentHref(sae, edit.latent)}>{columns?.label[edit.latent] || "no label"}</Link>{how && ` · at ${how.n_edited}, ${percent(how.relative_norm)} of the stream`}</small>
              <button type="button" aria-label={`Remove ${formatEdit(edit)}`} onClick={() => onText(formatEdits(edits.filter((_, k) => k !== i)))}><Icon name="close" size={11} /></button>
            </span>
          );
        })}
        {wrong.map((w) => <span key={w} className="wrong" role="alert">“{w}” is no edit; write LATENT:set:1xmax@10-20</span>)}
      </div>
      <form className="editform" onSubmit={(e) => { e.preventDefault(); if (right) add(); }}>
        <label>Latent<input className="field short" inputMode="numeric" value={latent} placeholder="number" onChange={(e) => setLatent(e.target.value)} /></label>
        <label>Operation<select className="field" value={operation} onChange={(e) => setOperation(e.target.value as Operation)}>{OPERATIONS.map((o) => <option key={o}>{o}</option>)}</select></label>
        {operation !== "zero" && <label>{operation === "scale" ? "Factor" : "Strength"}<input className="field short" inputMode="decimal" value={strength} onChange={(e) => setStrength(e.target.value)} /></label>}
        {(operation === "set" || operation === "add") && <label>Unit<select className="field" value={unit} onChange={(e) => setUnit(e.target.value as Unit)}><option value="xmax">× its maximum{known ? ` (${sig(columns.max[number])})` : ""}</option><option value="raw">latent units</option></select></label>}
        <label>Where<input className="field" list="places" value={where} onChange={(e) => setWhere(e.target.value)} /></label>
        <datalist id="places"><option value="all" /><option value="active" /><option value="masked" /><option value="1-20" /></datalist>
        <button type="submit" className="button primary" disabled={!right}>Add</button>
        {known && <small className="quiet">{columns.label[number] || "no label"}</small>}
      </form>
      <div className="toolrow">
        <form className="select" onSubmit={(e) => { e.preventDefault(); onMask(hide.trim()); }}>
          <label htmlFor="mask">Hide residues</label>
          <input id="mask" className="field" value={hide} placeholder="none; all, or 10-20,25" onChange={(e) => setHide(e.target.value)} onBlur={() => onMask(hide.trim())} />
        </form>
        <Select label="What the SAE does not explain" value={error} onChange={onError} options={[{ value: "keep", label: "stays" }, { value: "drop", label: "is dropped where edited" }]} />
      </div>
    </Panel>
  );
}
