/** What a person thinks of a latent: a rating, tags and text, kept as they type. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useRef, useState } from "react";
import { ApiError, get, segment, send, type Schemas } from "../../api/client";
import { Icon } from "../../ui/icons";
import { Panel, Problem, Skeleton } from "../../ui/basics";

type Edit = { text: string; rating: number | null; tags: string[] };
type Note = Schemas["Note"];

export function NotesPanel({ sae, j }: { sae: string; j: number }) {
  const path = `notes/${segment(sae)}/${j}`;
  const { data, error, isPending } = useQuery({
    queryKey: ["note", sae, j],
    queryFn: async ({ signal }) => {
      try {
        return await get<Note>(path, {}, signal);
      } catch (e) {
        if (e instanceof ApiError && e.status === 404) return null;
        throw e;
      }
    },
    staleTime: 10_000,
  });
  return (
    <Panel title="Your notes" className="notes">
      {error ? <Problem error={error} /> : isPending ? <Skeleton lines={3} />
        : <Editor key={`${sae}/${j}`} path={path} cache={["note", sae, j]} first={{ text: data?.text ?? "", rating: data?.rating ?? null, tags: data?.tags ?? [] }} />}
    </Panel>
  );
}

function Editor({ path, cache, first }: { path: string; cache: readonly unknown[]; first: Edit }) {
  const [edit, setEdit] = useState(first);
  const [tag, setTag] = useState("");
  const client = useQueryClient();
  const save = useMutation({
    mutationFn: (value: Edit) => send<Note>("PUT", path, value),
    onSuccess: (note) => client.setQueryData(cache, note),
  });
  const waiting = useRef<ReturnType<typeof setTimeout> | null>(null);
  const latest = useRef(edit);
  latest.current = edit;
  const { mutate } = save;
  // What was typed last is kept even when the page is left at once.
  useEffect(() => () => {
    if (waiting.current === null) return;
    clearTimeout(waiting.current);
    mutate(latest.current);
  }, [mutate]);
  const change = (part: Partial<Edit>) => {
    const next = { ...latest.current, ...part };
    setEdit(next);
    if (waiting.current !== null) clearTimeout(waiting.current);
    waiting.current = setTimeout(() => {
      waiting.current = null;
      mutate(next);
    }, 500);
  };
  const addTag = () => {
    const name = tag.trim().replace(/,+$/, "");
    if (name && !edit.tags.includes(name) && edit.tags.length < 32) change({ tags: [...edit.tags, name] });
    setTag("");
  };
  return (
    <div className="editor">
      <div className="stars" role="radiogroup" aria-label="Rating: 1 no pattern, 5 one clear meaning">
        {[1, 2, 3, 4, 5].map((n) => (
          <button key={n} type="button" role="radio" aria-checked={edit.rating === n} aria-label={`${n} of 5`} className={edit.rating !== null && n <= edit.rating ? "on" : ""}
            onClick={() => change({ rating: edit.rating === n ? null : n })}>{n}</button>
        ))}
        <small>{edit.rating === null ? "how clear is it?" : ["no pattern", "vague", "some pattern", "clear", "one clear meaning"][edit.rating - 1]}</small>
        <small className="state" role="status">{save.isError ? <span className="wrong">{save.error.message}</span> : save.isPending ? "Saving…" : save.isSuccess ? "Saved" : ""}</small>
      </div>
      <textarea className="field" rows={3} maxLength={20_000} aria-label="Note" placeholder="What do you think it means?" value={edit.text} onChange={(e) => change({ text: e.target.value })} />
      <div className="tags">
        {edit.tags.map((name) => (
          <span key={name} className="chip">{name}
            <button type="button" aria-label={`Remove tag ${name}`} onClick={() => change({ tags: edit.tags.filter((t) => t !== name) })}><Icon name="close" size={10} /></button>
          </span>
        ))}
        <input className="field" aria-label="Add a tag" placeholder="Add a tag" maxLength={60} value={tag} onChange={(e) => setTag(e.target.value)} onBlur={addTag}
          onKeyDown={(e) => { if (e.key === "Enter" || e.key === ",") { e.preventDefault(); addTag(); } }} />
      </div>
    </div>
  );
}
