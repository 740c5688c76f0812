/** Put a latent in a collection. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useRef, useState } from "react";
import { get, segment, send, type Schemas } from "../../api/client";
import { useCapabilities } from "../../api/queries";
import { Icon } from "../../ui/icons";

type LatentList = Schemas["LatentList"];

export const listsQuery = { queryKey: ["lists"], queryFn: () => get<LatentList[]>("lists") };

/** A list as it is written back. */
export const asEdit = (list: LatentList): Schemas["ListEdit"] => ({
  name: list.name,
  description: list.description,
  items: list.items.map(({ sae, latent }) => ({ sae, latent })),
});

export function AddToList({ sae, latent }: { sae: string; latent: number }) {
  const { notes } = useCapabilities();
  const [open, setOpen] = useState(false);
  const [name, setName] = useState("");
  const box = useRef<HTMLDivElement>(null);
  const client = useQueryClient();
  const { data: lists } = useQuery({ ...listsQuery, enabled: notes && open });
  const change = useMutation({
    mutationFn: async (list: LatentList | null) => {
      if (!list) return send("POST", "lists", { name: name.trim(), description: "", items: [{ sae, latent }] });
      const edit = asEdit(list);
      const has = list.items.some((i) => i.sae === sae && i.latent === latent);
      const items = has ? edit.items?.filter((i) => i.sae !== sae || i.latent !== latent) : [...(edit.items ?? []), { sae, latent }];
      return send("PUT", `lists/${segment(list.id)}`, { ...edit, items });
    },
    onSuccess: () => {
      setName("");
      void client.invalidateQueries({ queryKey: ["lists"] });
    },
  });
  useEffect(() => {
    if (!open) return;
    const close = (event: Event) => {
      if (event instanceof KeyboardEvent ? event.key === "Escape" : !box.current?.contains(event.target as Node)) setOpen(false);
    };
    window.addEventListener("pointerdown", close);
    window.addEventListener("keydown", close);
    return () => {
      window.removeEventListener("pointerdown", close);
      window.removeEventListener("keydown", close);
    };
  }, [open]);
  if (!notes) return null;
  return (
    <div className="popover" ref={box}>
      <button type="button" className="button" aria-expanded={open} onClick={() => setOpen(!open)}><Icon name="plus" size={14} /> List</button>
      {open && (
        <div className="popbox">
          {(lists ?? []).map((list) => (
            <label key={list.id}>
              <input type="checkbox" checked={list.items.some((i) => i.sae === sae && i.latent === latent)} onChange={() => change.mutate(list)} /> {list.name}
            </label>
          ))}
          <form onSubmit={(e) => { e.preventDefault(); if (name.trim()) change.mutate(null); }}>
            <input className="field" aria-label="Name of a new list" placeholder="New list" maxLength={200} value={name} onChange={(e) => setName(e.target.value)} />
            <button type="submit" className="button small" disabled={!name.trim()}>Add</button>
          </form>
          {change.error && <p className="wrong">{change.error.message}</p>}
        </div>
      )}
    </div>
  );
}
