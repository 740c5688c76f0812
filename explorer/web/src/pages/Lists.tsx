/** Collections of latents. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Link } from "wouter";
import { apiUrl, segment, send, type Schemas } from "../api/client";
import { useCapabilities } from "../api/queries";
import { download, plural, toCsv } from "../lib/format";
import { latentHref } from "../lib/links";
import { text, useUrlState } from "../lib/urlstate";
import { Chip, Empty, Panel, Problem, Skeleton, useTitle } from "../ui/basics";
import { Icon } from "../ui/icons";
import { asEdit, listsQuery } from "./latent/AddToList";

type List = Schemas["LatentList"];
const SPEC = { list: text() };

export default function Lists() {
  const { notes } = useCapabilities();
  useTitle("Lists");
  return (
    <main id="main" className="page">
      {notes ? <All /> : <Empty title="No lists here">This server keeps no notes; one of your own does: `python -m explorer serve`.</Empty>}
    </main>
  );
}

function All() {
  const [state, set] = useUrlState(SPEC);
  const [name, setName] = useState("");
  const client = useQueryClient();
  const { data, error, isPending, refetch } = useQuery(listsQuery);
  const done = () => void client.invalidateQueries({ queryKey: ["lists"] });
  const make = useMutation({
    mutationFn: () => send<List>("POST", "lists", { name: name.trim(), description: "", items: [] }),
    onSuccess: (list) => {
      setName("");
      done();
      if (list) set({ list: list.id });
    },
  });
  const shown = data?.find((l) => l.id === state.list) ?? data?.[0];
  if (error) return <Problem error={error} retry={() => void refetch()} />;
  if (isPending) return <Skeleton lines={6} />;
  return (
    <div className="stack">
      <div className="pagehead">
        <h1>Lists</h1>
        <span className="cardlinks">
          <a className="button" href={apiUrl("notes.jsonl")} download><Icon name="download" size={13} /> All notes (JSONL)</a>
        </span>
      </div>
      <div className="listgrid">
        <Panel title="Your lists">
          <ul className="listnames">
            {data.map((l) => (
              <li key={l.id}><button type="button" aria-current={l.id === shown?.id ? "true" : undefined} onClick={() => set({ list: l.id }, { push: true })}>{l.name} <small>{l.items.length}</small></button></li>
            ))}
          </ul>
          <form className="newlist" onSubmit={(e) => { e.preventDefault(); if (name.trim()) make.mutate(); }}>
            <input className="field" aria-label="Name of a new list" placeholder="New list" maxLength={200} value={name} onChange={(e) => setName(e.target.value)} />
            <button type="submit" className="button small" disabled={!name.trim()}>Make</button>
          </form>
          {make.error && <p className="wrong">{make.error.message}</p>}
        </Panel>
        {shown ? <One key={shown.id} list={shown} done={done} /> : <Panel title="No list yet"><Empty title="Nothing collected">Make one here, then add latents with the List button of their pages.</Empty></Panel>}
      </div>
    </div>
  );
}

function One({ list, done }: { list: List; done(): void }) {
  const [edit, setEdit] = useState({ name: list.name, description: list.description });
  const path = `lists/${segment(list.id)}`;
  const put = useMutation({ mutationFn: (body: Schemas["ListEdit"]) => send("PUT", path, body), onSuccess: done });
  const remove = useMutation({ mutationFn: () => send("DELETE", path), onSuccess: done });
  const save = () => {
    if (edit.name.trim() && (edit.name !== list.name || edit.description !== list.description)) put.mutate({ ...asEdit(list), ...edit, name: edit.name.trim() });
  };
  return (
    <Panel className="onelist" title={plural(list.items.length, "latent")} side={
      <>
        <button type="button" className="button small" disabled={list.items.length === 0} onClick={() => download(`${list.name}.csv`, toCsv(["dictionary", "latent", "label", "kind"], list.items.map((i) => [i.sae, i.latent, i.label, i.kind])), "text/csv")}><Icon name="download" size={13} /> CSV</button>
        <button type="button" className="button small" onClick={() => window.confirm(`Remove the list “${list.name}”?`) && remove.mutate()}>Remove list</button>
      </>
    }>
      <input className="field listtitle" aria-label="Name" maxLength={200} value={edit.name} onChange={(e) => setEdit({ ...edit, name: e.target.value })} onBlur={save} />
      <textarea className="field" rows={2} aria-label="Description" placeholder="What is it for?" maxLength={5000} value={edit.description} onChange={(e) => setEdit({ ...edit, description: e.target.value })} onBlur={save} />
      {(put.error ?? remove.error) && <p className="wrong">{(put.error ?? remove.error)?.message}</p>}
      {list.items.length === 0 ? <Empty title="Empty">Add latents with the List button of their pages.</Empty> : (
        <ul className="neighbours listitems">
          {list.items.map((i) => (
            <li key={`${i.sae}/${i.latent}`}>
              <Link href={latentHref(i.sae, i.latent)}><span className="number">{i.latent}</span> {i.label}</Link>
              <Chip>{i.kind}</Chip><small>{i.sae}</small>
              <button type="button" className="iconbutton" aria-label={`Take ${i.latent} out`} title="Take out" onClick={() => put.mutate({ ...asEdit(list), items: asEdit(list).items?.filter((o) => o.sae !== i.sae || o.latent !== i.latent) })}><Icon name="close" size={12} /></button>
            </li>
          ))}
        </ul>
      )}
    </Panel>
  );
}
