/** Collections of latents that people keep. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { apiUrl, segment, send } from "../api/client";
import { saesQuery, useCapabilities } from "../api/queries";
import { plural } from "../lib/format";
import type { LatentList } from "../lib/lists";
import { text, useUrlState } from "../lib/urlstate";
import { Empty, Panel, Problem, Skeleton, useTitle } from "../ui/basics";
import { Icon } from "../ui/icons";
import { listsQuery } from "./latent/AddToList";
import { ListView } from "./lists/ListView";

const SPEC = { list: text() };



export default function Lists() {
  const { mode, notes } = useCapabilities();
  useTitle("Lists");
  return (
    <main id="main" className="page stacked">
      <div className="pageintro">
        <h1>Lists</h1>
        <p className="note">Latents that belong together, to come back to or to hand on. They are kept on this server, beside your notes; whoever opens it sees them.</p>
        {notes && <p><a className="button small" href={apiUrl("notes.jsonl")} download="notes.jsonl"><Icon name="download" size={13} /> Your notes as JSON lines</a></p>}
      </div>
      {notes ? <Shown /> : (
        <Empty title="Nothing is kept here">
          {mode === "static" ? "This is a static copy, where nothing can be written; `python -m explorer serve` keeps lists." : "This server was started with --read-only; without it, it keeps lists."}
        </Empty>
      )}
    </main>
  );
}

function Shown() {
  const [{ list: id }, set] = useUrlState(SPEC);
  const client = useQueryClient();
  const { data: lists, error, refetch } = useQuery(listsQuery);
  const { data: saes } = useQuery(saesQuery);
  const again = () => client.invalidateQueries({ queryKey: ["lists"] });
  const create = useMutation({
    mutationFn: (name: string) => send<LatentList>("POST", "lists", { name, description: "", items: [] }),
    onSuccess: async (made) => {
      await again();
      if (made) set({ list: made.id }, { push: true });
    },
  });
  const remove = useMutation({
    mutationFn: (list: LatentList) => send("DELETE", `lists/${segment(list.id)}`),
    onSuccess: async () => {
      set({ list: "" });
      await again();
    },
  });
  if (error) return <Problem error={error} retry={() => void refetch()} />;
  if (!lists || !saes) return <Skeleton lines={6} height={300} />;
  const chosen = lists.find((l) => l.id === id) ?? (id ? undefined : lists[0]);
  return (
    <div className="listspage">
      <Panel title={plural(lists.length, "list")} className="listnames">
        <NewList onMake={(name) => create.mutate(name)} busy={create.isPending} />
        {create.error && <p className="wrong" role="alert">{create.error.message}</p>}
        <ul>
          {lists.map((l) => (
            <li key={l.id}>
              <button type="button" aria-current={l.id === chosen?.id ? "true" : undefined} onClick={() => set({ list: l.id }, { push: true })}>
                <span>{l.name}</span> <small>{plural(l.items.length, "latent")}</small>
              </button>
            </li>
          ))}
        </ul>
      </Panel>
      {chosen ? <ListView key={chosen.id} list={chosen} saes={saes} onRemove={() => remove.mutate(chosen)} removeError={remove.error} />
        : id ? <Panel title="Not here"><Empty title="No such list">It may have been removed. Choose another, or make one.</Empty></Panel>
        : (
          <Panel title="Your first list">
            <Empty title="No list yet">Name one on the left, or open a latent and press “List”: everything you collect shows here, and leaves as CSV or JSON lines.</Empty>
          </Panel>
        )}
    </div>
  );
}

function NewList({ onMake, busy }: { onMake(name: string): void; busy: boolean }) {
  const [name, setName] = useState("");
  return (
    <form className="newlist" onSubmit={(e) => {
      e.preventDefault();
      if (!name.trim()) return;
      onMake(name.trim());
      setName("");
    }}>
      <input className="field" aria-label="Name of a new list" placeholder="New list" maxLength={200} value={name} onChange={(e) => setName(e.target.value)} />
      <button type="submit" className="button small" disabled={busy || !name.trim()}><Icon name="plus" size={13} /> Make</button>
    </form>
  );
}
