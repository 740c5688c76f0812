/** One collection: its name, what it is about, and its latents. */
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { BASE, segment, send, type Schemas } from "../../api/client";
import type { SAE } from "../../api/queries";
import { siteName } from "../../lib/depth";
import { count, download } from "../../lib/format";
import { latentHref } from "../../lib/links";
import { fileName, listCsv, listJsonl, readLatents, type LatentList } from "../../lib/lists";
import { Empty, Panel, Select } from "../../ui/basics";
import { Icon } from "../../ui/icons";
import { LatentLink } from "../../ui/LatentLink";
import { asEdit } from "../latent/AddToList";

type Edit = Schemas["ListEdit"];

/** The address of a latent, for people who open the file elsewhere. */
const page = (sae: string, latent: number): string => new URL(`${BASE.replace(/\/$/, "")}${latentHref(sae, latent)}`, window.location.origin).href;

export interface ListViewProps {
  list: LatentList;
  saes: readonly SAE[];
  onRemove(): void;
  removeError: Error | null;
}

export function ListView({ list, saes, onRemove, removeError }: ListViewProps) {
  const client = useQueryClient();
  const save = useMutation({
    mutationFn: (change: Partial<Edit>) => send<LatentList>("PUT", `lists/${segment(list.id)}`, { ...asEdit(list), ...change }),
    onSuccess: (kept) => kept && client.setQueryData<LatentList[]>(["lists"], (all) => all?.map((l) => (l.id === kept.id ? kept : l))),
  });
  const items = asEdit(list).items ?? [];
  const drop = (sae: string, latent: number) => save.mutate({ items: items.filter((i) => i.sae !== sae || i.latent !== latent) });
  const add = (sae: string, latents: readonly number[]) => {
    const held = new Set(items.filter((i) => i.sae === sae).map((i) => i.latent));
    save.mutate({ items: [...items, ...latents.filter((j) => !held.has(j)).map((latent) => ({ sae, latent }))] });
  };
  const error = save.error ?? removeError;
  return (
    <Panel className="listview" title={<Name key={list.name} name={list.name} onName={(name) => save.mutate({ name })} />}
      side={
        <>
          <button type="button" className="button small" disabled={!list.items.length} onClick={() => download(fileName(list.name, "csv"), listCsv(list, page), "text/csv")}><Icon name="download" size={13} /> CSV</button>
          <button type="button" className="button small" disabled={!list.items.length} onClick={() => download(fileName(list.name, "jsonl"), listJsonl(list, page), "application/jsonl")}><Icon name="download" size={13} /> JSON lines</button>
          <Remove onRemove={onRemove} />
        </>
      }>
      <Description key={list.description} text={list.description} onText={(description) => save.mutate({ description })} />
      <AddLatents saes={saes} busy={save.isPending} onAdd={add} />
      {error && <p className="wrong" role="alert">{error.message}</p>}
      {list.items.length === 0 ? <Empty title="Still empty">Add latents by number above, or with “List” on a latent’s page.</Empty> : (
        <ol className="listitems" aria-label="Latents of the list">
          {list.items.map((item) => (
            <li key={`${item.sae} ${item.latent}`}>
              <LatentLink of={item} />
              {item.kind && <small>{item.kind}</small>}
              {saes.length > 1 && <small className="from">{item.sae}</small>}
              <button type="button" className="iconbutton" aria-label={`Remove latent ${item.latent}`} title="Remove from the list" onClick={() => drop(item.sae, item.latent)}><Icon name="close" size={12} /></button>
            </li>
          ))}
        </ol>
      )}
      <p className="note changed">{count(list.items.length)} {list.items.length === 1 ? "latent" : "latents"}, changed {when(list.changed)}</p>
    </Panel>
  );
}

function when(iso: string): string {
  const date = new Date(iso);
  return Number.isNaN(date.getTime()) ? iso : date.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
}

/** A heading that is a field: changed on leaving it or with Enter, as it was with Escape. */
function Name({ name, onName }: { name: string; onName(name: string): void }) {
  const [value, setValue] = useState(name);
  const done = () => {
    const next = value.trim();
    if (next && next !== name) onName(next);
    else setValue(name);
  };
  return (
    <input className="heading" aria-label="Name of the list" value={value} maxLength={200} onChange={(e) => setValue(e.target.value)} onBlur={done}
      onKeyDown={(e) => {
        if (e.key === "Enter") e.currentTarget.blur();
        if (e.key === "Escape") setValue(name);
      }} />
  );
}

function Description({ text, onText }: { text: string; onText(text: string): void }) {
  const [value, setValue] = useState(text);
  return (
    <textarea className="field" rows={value.length > 120 ? 3 : 1} aria-label="What the list is about" placeholder="What is it about?" maxLength={5000} value={value}
      onChange={(e) => setValue(e.target.value)} onBlur={() => value !== text && onText(value)} />
  );
}

function Remove({ onRemove }: { onRemove(): void }) {
  const [asked, setAsked] = useState(false);
  return asked ? (
    <span className="group-of" role="group" aria-label="Remove this list?">
      <button type="button" className="button small danger" autoFocus onClick={onRemove}>Remove it</button>
      <button type="button" className="button small" onClick={() => setAsked(false)}>Keep</button>
    </span>
  ) : (
    <button type="button" className="button small" onClick={() => setAsked(true)}>Remove list</button>
  );
}

function AddLatents({ saes, busy, onAdd }: { saes: readonly SAE[]; busy: boolean; onAdd(sae: string, latents: readonly number[]): void }) {
  const [value, setValue] = useState("");
  const [id, setId] = useState(saes[0]?.id ?? "");
  const sae = saes.find((s) => s.id === id);
  if (!sae) return null;
  const { latents, wrong } = readLatents(value, sae.d_sae);
  return (
    <form className="addlatents" onSubmit={(e) => {
      e.preventDefault();
      if (!latents.length || wrong.length) return;
      onAdd(sae.id, latents);
      setValue("");
    }}>
      <input className="field" aria-label="Numbers of latents to add" placeholder="Add by number: 12, 45, 1378" maxLength={20_000} value={value} spellCheck={false} autoComplete="off"
        aria-invalid={wrong.length > 0} aria-describedby={wrong.length ? "wronglatents" : undefined} onChange={(e) => setValue(e.target.value)} />
      {saes.length > 1 && <Select label="of" value={id} onChange={setId} options={saes.map((s) => ({ value: s.id, label: `${siteName(s.site, s.block)}, ${s.d_sae}${s.k === null ? "" : `, k ${s.k}`} (${s.model})` }))} />}
      <button type="submit" className="button small" disabled={busy || !latents.length || wrong.length > 0}><Icon name="plus" size={13} /> Add</button>
      {wrong.length > 0 && <span id="wronglatents" className="wrong">{wrong.slice(0, 3).join(", ")}{wrong.length > 3 ? " and more are" : wrong.length > 1 ? " are" : " is"} none of its latents (0 to {sae.d_sae - 1})</span>}
    </form>
  );
}
