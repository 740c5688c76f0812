/** Blind rating: is there one clear meaning? The feature may be a latent, a neuron or a shuffled one. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import { ApiError, apiUrl, get, send, type Schemas } from "../api/client";
import { saesQuery, useCapabilities, type SAE } from "../api/queries";
import { activationScale } from "../lib/colour";
import { count, fixed } from "../lib/format";
import { useKeys } from "../lib/keys";
import { useTheme } from "../lib/theme";
import { number, oneOf, text, useUrlState } from "../lib/urlstate";
import { ALIGNMENTS } from "../strip/layout";
import { StripList } from "../strip/StripList";
import type { Hover } from "../strip/StripRow";
import { Empty, Panel, Problem, Select, Skeleton, Term, useTitle } from "../ui/basics";
import { Icon } from "../ui/icons";

const SPEC = { sae: text(), rater: text(), align: oneOf(ALIGNMENTS, "max"), z: number(11, 0, 28), at: number(0, -100_000, 100_000) };
const MEANING = ["no pattern", "vague", "some pattern", "clear", "one clear meaning"] as const;
const NONE: readonly string[] = [];

export default function Rate() {
  const { notes } = useCapabilities();
  const { data: saes, error } = useQuery(saesQuery);
  const [state, set] = useUrlState(SPEC);
  useTitle("Rate");
  const sae = saes?.find((s) => s.id === state.sae) ?? saes?.[0];
  return (
    <main id="main" className="page">
      {!notes ? <Empty title="No rating here">This server keeps no ratings; one of your own does: `python -m explorer serve`.</Empty>
        : error ? <Problem error={error} /> : !sae ? <Skeleton lines={6} /> : (
          <div className="stack">
            <div className="pagehead">
              <h1>Rate without knowing what it is</h1>
              <span className="cardlinks"><a className="button" href={apiUrl("ratings.jsonl")} download><Icon name="download" size={13} /> All ratings (JSONL)</a></span>
            </div>
            <div className="rategrid">
              <div className="stack">
                <Who saes={saes ?? []} sae={sae} rater={state.rater} set={set} />
                {state.rater && <Task sae={sae.id} rater={state.rater} state={state} set={set} />}
              </div>
              <Summary sae={sae.id} />
            </div>
          </div>
        )}
    </main>
  );
}

type Set = ReturnType<typeof useUrlState<typeof SPEC>>;

function Who({ saes, sae, rater, set }: { saes: readonly SAE[]; sae: SAE; rater: string; set: Set[1] }) {
  const [name, setName] = useState(rater);
  return (
    <Panel title="Who rates?" note="You see the strongest proteins of a feature: a latent of the dictionary, a neuron of the model, or examples that were shuffled. You are not told which. Say how clear a single meaning is.">
      <form className="filterrow" onSubmit={(e) => { e.preventDefault(); set({ rater: name.trim() }); }}>
        <label className="select"><span>Your name</span><input className="field" maxLength={100} value={name} onChange={(e) => setName(e.target.value)} /></label>
        {saes.length > 1 && <Select label="Dictionary" value={sae.id} onChange={(id) => set({ sae: id })} options={saes.map((s) => ({ value: s.id, label: s.name }))} />}
        <button type="submit" className="button primary" disabled={!name.trim() || name.trim() === rater}>{rater ? "Change" : "Begin"}</button>
      </form>
    </Panel>
  );
}

function Task({ sae, rater, state, set }: { sae: string; rater: string; state: Set[0]; set: Set[1] }) {
  const { dark } = useTheme();
  const client = useQueryClient();
  const [description, setDescription] = useState("");
  const [hover, setHover] = useState<Hover | null>(null);
  const { data, error, isPending, refetch } = useQuery({ queryKey: ["rate", sae, rater], queryFn: ({ signal }) => get<Schemas["RatingTask"]>("rate/next", { sae, rater }, signal), staleTime: Infinity, gcTime: 0, retry: false });
  const rate = useMutation({
    mutationFn: (score: number) => send("POST", "rate", { task: data!.task, rater, score, description }),
    onSuccess: () => {
      setDescription("");
      set({ at: 0 });
      void client.invalidateQueries({ queryKey: ["rating-summary", sae] });
      void refetch();
    },
  });
  const give = (score: number) => data && !rate.isPending && rate.mutate(score);
  useKeys([1, 2, 3, 4, 5].map((n) => ({ key: String(n), label: `Rate ${n}: ${MEANING[n - 1]}`, run: () => give(n) })));
  const top = useMemo(() => Math.max(1e-9, ...(data?.examples ?? []).map((e) => e.max)), [data]);
  const scale = useMemo(() => activationScale(top, dark), [top, dark]);
  const onView = useMemo(() => ({ zoom, centre }: { zoom?: number; centre?: number }) => set({ ...(zoom !== undefined && { z: zoom }), ...(centre !== undefined && { at: centre }) }), [set]);
  if (error instanceof ApiError && error.status === 404) return <Panel title="Done"><Empty title="Nothing is left to rate">{error.message}</Empty></Panel>;
  if (error) return <Problem error={error} retry={() => void refetch()} />;
  if (isPending) return <Skeleton lines={8} height={400} />;
  return (
    <Panel title="What do these have in common?" className="examples" side={
      <Select label="Line up by" value={state.align} onChange={(align) => set({ align, at: 0 })} options={[{ value: "max", label: "strongest residue" }, { value: "first", label: "first active residue" }, { value: "msa", label: "sequence (MSA)" }, { value: "start", label: "start of protein" }]} />
    }>
      <StripList sae={sae} examples={data.examples} scale={scale} align={state.align} zoom={state.z} centre={state.at} motif="" lead={NONE} selected={null} hover={hover} onView={onView} onHover={setHover} />
      <div className="ratebar">
        <input className="field" aria-label="What is it?" placeholder="What is it? (optional)" maxLength={2000} value={description} onChange={(e) => setDescription(e.target.value)} />
        <div className="scores" role="group" aria-label="How clear is a single meaning?">
          {MEANING.map((meaning, i) => <button key={meaning} type="button" className="button" disabled={rate.isPending} onClick={() => give(i + 1)}><b>{i + 1}</b> {meaning}</button>)}
        </div>
        {rate.error && <p className="wrong">{rate.error.message}</p>}
      </div>
    </Panel>
  );
}

const KIND = { latent: "Latents", neuron: "Neurons", shuffled: "Shuffled" } as const;

function Summary({ sae }: { sae: string }) {
  const { data, error, isPending } = useQuery({ queryKey: ["rating-summary", sae], queryFn: ({ signal }) => get<Schemas["RatingSummary"]>("rate/summary", { sae }, signal) });
  return (
    <Panel title="So far">
      {error ? <Problem error={error} /> : isPending ? <Skeleton lines={4} /> : data.ratings === 0 ? <Empty title="No ratings yet" /> : (
        <>
          <ul className="baselines">
            {data.kinds.map((k) => (
              <li key={k.kind} className={k.kind === "latent" ? "ours" : ""}>
                <span>{KIND[k.kind]} <small>{count(k.n)}</small></span>
                <span className="scale" aria-hidden="true">
                  {k.low !== null && k.high !== null && <i className="interval" style={{ left: `${25 * (k.low - 1)}%`, width: `${25 * (k.high - k.low)}%` }} />}
                  {k.mean !== null && <i className="dot" style={{ left: `${25 * (k.mean - 1)}%` }} />}
                </span>
                <span className="value">{fixed(k.mean, 1)}</span>
              </li>
            ))}
          </ul>
          <p className="note">{count(data.ratings)} ratings by {count(data.raters)}. <Term of="agreement">Agreement</Term>: {data.agreement === null ? "needs two raters of one feature" : fixed(data.agreement)}</p>
        </>
      )}
    </Panel>
  );
}
