/** The core: one latent, read on its proteins, against annotations and beside its neighbours. */
import { keepPreviousData, useQuery, useQueryClient } from "@tanstack/react-query";
import { useCallback, useMemo, useRef, useState } from "react";
import { useLocation, useParams } from "wouter";
import { alongQuery, latentQuery, saesQuery, useCapabilities, useSae, type Example } from "../api/queries";
import { latentHref, unsegment } from "../lib/links";
import { useKeys } from "../lib/keys";
import { useUrlState, writeState } from "../lib/urlstate";
import { dense } from "../strip/layout";
import type { Hover } from "../strip/StripRow";
import { StructurePanel } from "../structure/StructurePanel";
import { Empty, Problem, Skeleton, useTitle } from "../ui/basics";
import { Elsewhere, Neighbours, Proteins } from "./latent/Around";
import { ConceptTable } from "./latent/ConceptTable";
import { EffectsPanel } from "./latent/EffectsPanel";
import { conceptOf, ExamplesPanel, useExamples } from "./latent/ExamplesPanel";
import type { Outcome, Tab } from "./latent/groups";
import { Header } from "./latent/Header";
import { HistogramPanel } from "./latent/HistogramPanel";
import { LogoPanel } from "./latent/LogoPanel";
import { NotesPanel } from "./latent/NotesPanel";
import { KEPT, SPEC } from "./latent/state";

export default function LatentPage() {
  const params = useParams<{ id: string; j: string }>();
  const id = unsegment(params.id);
  const j = /^\d{1,9}$/.test(params.j) ? Number(params.j) : NaN;
  if (Number.isNaN(j))
    return <main id="main" className="page"><Empty title="No such latent">A latent is a number, such as /sae/{id}/latent/12.</Empty></main>;
  return <Latent id={id} j={j} />;
}

function Latent({ id, j }: { id: string; j: number }) {
  const [state, set] = useUrlState(SPEC);
  const { notes, mode } = useCapabilities();
  const { data: saes } = useQuery(saesQuery);
  const sae = useSae(id);
  const { data: latent, error, refetch, isPlaceholderData } = useQuery({ ...latentQuery(id, j), placeholderData: keepPreviousData });
  const go = useGo(id, j, sae?.d_sae, state);
  const [hover, setHover] = useState<Hover | null>(null);
  const examplesAt = useRef<HTMLDivElement>(null);
  const concept = latent && latent.latent === j ? conceptOf(latent, state.c) : null;
  const examples = useExamples(id, latent?.latent === j ? latent : undefined, j, state.tab, concept);
  const shown = useShown(id, j, examples.data?.examples, state.p, mode !== "static");
  useTitle(latent && `${j} ${latent.label}`, sae?.name);
  const onTab = useCallback((tab: Tab) => set({ tab, at: 0 }), [set]);
  const onSort = useCallback((sort: "f1" | "precision" | "recall" | "n") => set({ sort }), [set]);
  const onKind = useCallback((near: "cosine" | "coactivation") => set({ near }), [set]);
  const onShow = useCallback((c: string, tab: Outcome) => {
    set({ c, tab, at: 0 }, { push: true });
    examplesAt.current?.scrollIntoView({ behavior: "smooth", block: "start" });
  }, [set]);
  const values = useMemo(() => shown && dense(shown.track, shown.sequence.length), [shown]);
  const onStructureHover = useCallback((position: number | null) => {
    setHover(position && shown ? { accession: shown.accession, position } : null);
  }, [shown]);
  if (error && !latent) return <main id="main" className="page"><Problem error={error} retry={() => void refetch()} /></main>;
  if (!latent) return <main id="main" className="page"><Skeleton lines={2} /><Skeleton lines={9} height={500} /></main>;
  if (error) return <main id="main" className="page"><Problem error={error} retry={() => void refetch()} /></main>;
  return (
    <main id="main" className={`page latentpage${isPlaceholderData ? " stale" : ""}`}>
      <div className="latentmain">
        <Header sae={sae} latent={latent} go={go} />
        <div className="evidence">
          <HistogramPanel latent={latent} tab={state.tab} onTab={onTab} />
          <LogoPanel latent={latent} />
          <EffectsPanel latent={latent} />
        </div>
        <div ref={examplesAt} className="anchor">
          <ExamplesPanel latent={latent} state={state} set={set} concept={concept} query={examples} selected={shown?.accession ?? null} hover={hover} onHover={setHover} />
        </div>
        <ConceptTable latent={latent} sort={state.sort} chosen={["true_positive", "near_miss", "false_positive"].includes(state.tab) ? concept : null} onSort={onSort} onShow={onShow} />
      </div>
      <aside className="latentside">
        <StructurePanel
          accession={shown?.accession ?? null} values={values} max={latent.max} peak={shown?.argmax ?? null}
          hover={hover && hover.accession === shown?.accession ? hover.position : null} onHover={onStructureHover}
          title={<>On the structure{shown && <> of <span className="mono">{shown.accession}</span></>}</>}
          none={sae && !sae.has.structures ? "This bundle has no structures." : "None of these proteins has a structure in the bundle; look in another tab."}
        />
        {notes && <NotesPanel sae={id} j={j} />}
        <Neighbours sae={id} j={j} kind={state.near} onKind={onKind} />
        <Elsewhere names={latent.elsewhere} many={(saes?.length ?? 0) > 1} />
        <Proteins sae={id} j={j} max={latent.max} />
      </aside>
    </main>
  );
}

/** Move to other latents; the way of looking stays. */
function useGo(id: string, j: number, width: number | undefined, state: ReturnType<typeof useUrlState<typeof SPEC>>[0]) {
  const [, navigate] = useLocation();
  const client = useQueryClient();
  const go = useCallback(
    async (to: "next" | "previous" | "random") => {
      const kept = Object.fromEntries(KEPT.map((key) => [key, state[key]]));
      const query = writeState(SPEC, "", kept);
      let target: number | null;
      if (to === "random") {
        target = Math.floor(Math.random() * (width ?? j + 1));
        // A dead one leads to the next that is alive.
        const found = await client.fetchQuery(latentQuery(id, target)).catch(() => null);
        if (found?.n_active === 0) target = found.next ?? found.previous ?? target;
      } else {
        target = (await client.fetchQuery(latentQuery(id, j)).catch(() => null))?.[to] ?? null;
      }
      if (target !== null && target !== j) navigate(latentHref(id, target, query ? `?${query}` : ""));
    },
    [client, id, j, navigate, state, width],
  );
  useKeys([
    { key: "j", label: "Next latent", run: () => void go("next") },
    { key: "k", label: "Previous latent", run: () => void go("previous") },
    { key: "r", label: "Random latent", run: () => void go("random") },
  ]);
  return useCallback((to: "next" | "previous" | "random") => void go(to), [go]);
}

/** The protein on the structure: the chosen one, or the first example that has a structure. */
function useShown(sae: string, j: number, examples: readonly Example[] | undefined, chosen: string, canAsk: boolean): Example | null {
  const listed = examples?.find((e) => e.accession === chosen && e.structure);
  const ask = canAsk && chosen !== "" && examples !== undefined && !listed;
  const { data: asked } = useQuery({ ...alongQuery(sae, j, chosen), enabled: ask, retry: false });
  if (listed) return listed;
  if (ask && asked?.structure) return asked;
  return examples?.find((e) => e.structure) ?? null;
}
