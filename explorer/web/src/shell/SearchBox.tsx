/** One box for text, latents, accessions, motifs and sequences. `/` goes to it. */
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useEffect, useId, useMemo, useRef, useState } from "react";
import { useLocation } from "wouter";
import { useCapabilities, type SearchHit } from "../api/queries";
import { useKeys } from "../lib/keys";
import { motifWords, parseMotif, readAs } from "../lib/motif";
import { hitHref, search } from "../lib/search";
import { Icon } from "../ui/icons";

/** What the box takes the query for, in words; a sentence on what is wrong with a motif. */
export function hint(query: string, isStatic: boolean): { text: string; wrong: boolean } {
  const kind = readAs(query);
  if (kind === "motif") {
    try {
      const words = motifWords(parseMotif(query));
      return isStatic
        ? { text: "Motifs need the server: `python -m explorer serve`.", wrong: true }
        : { text: `Motif: ${words}`, wrong: false };
    } catch (error) {
      return { text: (error as Error).message, wrong: true };
    }
  }
  if (kind === "sequence" && isStatic) return { text: "Sequences need the server: `python -m explorer serve`.", wrong: true };
  if (kind === "sequence") return { text: `Sequence of ${query.trim().length} residues`, wrong: false };
  return { text: { latent: "Number of a latent", accession: "Accession", text: "", nothing: "" }[kind], wrong: false };
}

const GROUP: Record<SearchHit["type"], string> = { latent: "Latents", concept: "Concepts", protein: "Proteins", sae: "Dictionaries" };

export function SearchBox({ sae, initial = "" }: { sae: string | undefined; initial?: string }) {
  const [query, setQuery] = useState(initial);
  const [late, setLate] = useState("");
  const [open, setOpen] = useState(false);
  const [at, setAt] = useState(-1);
  const input = useRef<HTMLInputElement>(null);
  const box = useRef<HTMLDivElement>(null);
  const list = useId();
  const [, navigate] = useLocation();
  const { max_query_chars, mode } = useCapabilities();
  useKeys([{ key: "/", label: "Search", run: () => input.current?.select() }]);
  useEffect(() => {
    const timer = setTimeout(() => setLate(query.trim()), 140);
    return () => clearTimeout(timer);
  }, [query]);
  const said = hint(query, mode === "static");
  const { data, error, isFetching } = useQuery({
    queryKey: ["search", late, sae, 12],
    queryFn: ({ signal }) => search(late, sae, 12, signal),
    enabled: late !== "" && open && !(said.wrong && readAs(late) === "motif"),
    placeholderData: keepPreviousData,
    retry: false,
  });
  const hits = useMemo(() => grouped(late ? (data?.hits ?? []) : []), [data, late]);
  const go = (href: string) => {
    setOpen(false);
    setAt(-1);
    input.current?.blur();
    navigate(href);
  };
  const all = `/?q=${encodeURIComponent(query.trim())}${sae ? `&in=${encodeURIComponent(sae)}` : ""}`;
  const enter = () => {
    const hit = hits[at];
    const kind = readAs(query);
    if (hit) go(hitHref(hit));
    else if (query.trim() === "") return;
    else if ((kind === "latent" || kind === "accession") && data?.query === query.trim() && hits[0]) go(hitHref(hits[0]));
    else go(all);
  };
  const onKey = (event: React.KeyboardEvent) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      setOpen(true);
      const n = hits.length;
      if (n) setAt((now) => (event.key === "ArrowDown" ? (now + 1) % n : (now <= 0 ? n : now) - 1));
    } else if (event.key === "Enter") {
      event.preventDefault();
      enter();
    } else if (event.key === "Escape") {
      if (open) setOpen(false);
      else input.current?.blur();
    }
  };
  const shown = open && query.trim() !== "";
  return (
    <div className="search" ref={box} role="search" onBlur={(e) => !box.current?.contains(e.relatedTarget) && setOpen(false)}>
      <Icon name="search" />
      <input
        ref={input}
        type="search"
        role="combobox"
        aria-label="Search"
        aria-expanded={shown}
        aria-controls={list}
        aria-autocomplete="list"
        aria-activedescendant={at >= 0 ? `${list}-${at}` : undefined}
        placeholder="helix, latent 123, P12345, C-x(2,4)-C, MKTAY…"
        autoComplete="off"
        spellCheck={false}
        maxLength={max_query_chars}
        value={query}
        onFocus={() => setOpen(true)}
        onKeyDown={onKey}
        onChange={(e) => {
          setQuery(e.target.value);
          setOpen(true);
          setAt(-1);
        }}
      />
      <kbd aria-hidden="true">/</kbd>
      {shown && (
        <div className="searchlist">
          {said.text && <p className={said.wrong ? "hint wrong" : "hint"}>{said.text}</p>}
          {error && !said.wrong && <p className="hint wrong">{error.message}</p>}
          <ul id={list} role="listbox" aria-label="Answers">
            {hits.map((hit, i) => (
              <li key={`${hit.type}-${hit.title}-${i}`} id={`${list}-${i}`} role="option" aria-selected={i === at}
                onMouseEnter={() => setAt(i)} onMouseDown={(e) => e.preventDefault()} onClick={() => go(hitHref(hit))}>
                {hits[i - 1]?.type !== hit.type && <span className="group">{GROUP[hit.type]}</span>}
                <span className="hit">
                  <b>{hit.title}</b>
                  <small>{hit.subtitle}</small>
                </span>
              </li>
            ))}
          </ul>
          {!error && late && data && hits.length === 0 && !isFetching && !said.wrong && <p className="hint">Nothing found.</p>}
          {isFetching && hits.length === 0 && <p className="hint">Searching…</p>}
          {!said.wrong && (
            <button type="button" className="all" onMouseDown={(e) => e.preventDefault()} onClick={() => go(all)}>
              {data && data.total > hits.length ? `All ${data.total} answers` : "All answers on one page"} <kbd>↵</kbd>
            </button>
          )}
        </div>
      )}
    </div>
  );
}

/** Hits of one type together, types in the order of their best hit. */
export function grouped(hits: readonly SearchHit[]): SearchHit[] {
  const order = [...new Set(hits.map((h) => h.type))];
  return order.flatMap((type) => hits.filter((h) => h.type === type));
}
