/** Proteins on which a latent fires, or should: tabs, alignment and strips. */
import { useQuery } from "@tanstack/react-query";
import { useMemo } from "react";
import { conceptExamplesQuery, examplesQuery, type Example, type Latent } from "../../api/queries";
import { conceptName } from "../../lib/concept";
import { activationScale } from "../../lib/colour";
import { GLOSSARY } from "../../lib/glossary";
import { count } from "../../lib/format";
import { useTheme } from "../../lib/theme";
import type { SetState, StateOf } from "../../lib/urlstate";
import { StripList } from "../../strip/StripList";
import type { Hover } from "../../strip/StripRow";
import { Empty, Panel, Problem, Select, Skeleton, Tabs } from "../../ui/basics";
import { ScaleLegend } from "../../ui/ScaleLegend";
import { describe, isOutcome, type Outcome, type Tab } from "./groups";
import type { SPEC } from "./state";

type State = StateOf<typeof SPEC>;

/** Concept that the examples by outcome are about: the chosen one, else the latent's best. */
export function conceptOf(latent: Latent, chosen: string): string | null {
  const concepts = latent.concepts ?? [];
  if (concepts.some((c) => c.concept === chosen)) return chosen;
  return (concepts.find((c) => c.is_best) ?? concepts.find((c) => c.concept === latent.precise?.concept) ?? concepts[0])?.concept ?? null;
}

/** Examples of the tab that is shown. */
export function useExamples(sae: string, latent: Latent | undefined, j: number, tab: Tab, concept: string | null) {
  const byOutcome = isOutcome(tab);
  const group = useQuery({ ...examplesQuery(sae, j, tab), enabled: !byOutcome });
  const outcome = useQuery({ ...conceptExamplesQuery(sae, j, concept ?? "", tab as Outcome), enabled: byOutcome && concept !== null && latent !== undefined });
  return byOutcome ? outcome : group;
}

export interface ExamplesProps {
  latent: Latent;
  state: State;
  set: SetState<typeof SPEC>;
  concept: string | null;
  query: { data?: { total: number; examples: Example[] }; error: unknown; isPending: boolean; refetch(): unknown };
  selected: string | null;
  hover: Hover | null;
  onHover(hover: Hover | null): void;
}

const TENTHS = ["q10", "q9", "q8", "q7", "q6", "q5", "q4", "q3", "q2", "q1"] as const;

export function ExamplesPanel({ latent, state, set, concept, query, selected, hover, onHover }: ExamplesProps) {
  const { dark } = useTheme();
  const scale = useMemo(() => activationScale(latent.max, dark), [latent.max, dark]);
  const lead = useMemo(() => [concept, latent.precise?.concept, ...(latent.concepts ?? []).slice(0, 3).map((c) => c.concept)].filter((c): c is string => Boolean(c)), [concept, latent]);
  const onTab = (tab: Tab) => set({ tab, at: 0 });
  const onView = useMemo(() => ({ zoom, centre }: { zoom?: number; centre?: number }) => set({ ...(zoom !== undefined && { z: zoom }), ...(centre !== undefined && { at: centre }) }), [set]);
  const onSelect = useMemo(() => (accession: string) => set({ p: accession }), [set]);
  const { data, error, isPending } = query;
  const examples = data?.examples ?? [];
  return (
    <Panel
      className="examples"
      title="Examples"
      side={<ScaleLegend max={latent.max} />}
      note={undefined}
    >
      <div className="tabrow">
        <Tabs label="Which examples" value={state.tab} onChange={onTab}
          options={[
            { value: "top" as Tab, label: "Top" },
            ...TENTHS.map((value, i) => ({ value: value as Tab, before: i === 0 ? "tenths, strongest first" : undefined, label: <span aria-label={`Tenth ${value.slice(1)}`}>{value.slice(1)}</span>, title: `Tenth ${value.slice(1)} of its proteins by highest value` })),
            { value: "random" as Tab, label: "Random" },
            ...(concept === null ? [] : [
              { value: "true_positive" as Tab, before: "against an annotation", label: "Hits", title: GLOSSARY.truePositive },
              { value: "near_miss" as Tab, label: "Near misses", title: GLOSSARY.nearMiss },
              { value: "false_positive" as Tab, label: "False hits", title: GLOSSARY.falsePositive },
            ]),
          ]}
        />
      </div>
      <div className="toolrow">
        <p className="note">
          {data ? describe(state.tab, data.total, concept ? conceptName(concept) : "").replace(String(data.total), count(data.total)) : "\u00a0"}
        </p>
        {isOutcome(state.tab) && concept !== null && (
          <Select label="Concept" value={concept} onChange={(c) => set({ c })} options={(latent.concepts ?? []).map((c) => ({ value: c.concept, label: conceptName(c.concept) }))} />
        )}
        <Select label="Line up by" value={state.align} onChange={(align) => set({ align, at: 0 })}
          options={[
            { value: "max", label: "strongest residue" },
            { value: "first", label: "first active residue" },
            { value: "msa", label: "sequence (MSA)" },
            { value: "start", label: "start of protein" },
          ]}
        />
        <label className="select"><span>Motif</span>
          <input className="field" type="text" size={11} placeholder="C-x(2)-C" aria-label="Underline a motif" value={state.m} maxLength={200} spellCheck={false} onChange={(e) => set({ m: e.target.value })} />
        </label>
      </div>
      {error ? <Problem error={error} retry={() => void query.refetch()} />
        : isPending ? <Skeleton lines={8} height={380} />
        : examples.length === 0 ? <NoExamples latent={latent} tab={state.tab} concept={concept} />
        : (
          <StripList
            sae={latent.sae} examples={examples} scale={scale} align={state.align} zoom={state.z} centre={state.at} motif={state.m}
            lead={lead} selected={selected} hover={hover} onView={onView} onHover={onHover} onSelect={onSelect}
          />
        )}
    </Panel>
  );
}

function NoExamples({ latent, tab, concept }: { latent: Latent; tab: Tab; concept: string | null }) {
  if (latent.n_active === 0) return <Empty title="It never fires">No residue of the bundled proteins activates this latent.</Empty>;
  if (tab === "near_miss") return <Empty title="No near misses">It fires on every protein that has “{conceptName(concept ?? "")}”.</Empty>;
  if (tab === "false_positive") return <Empty title="No false hits">Wherever it fires, “{conceptName(concept ?? "")}” is there.</Empty>;
  if (tab === "true_positive") return <Empty title="No hits">It never fires where “{conceptName(concept ?? "")}” is.</Empty>;
  return <Empty title="Nothing in this group">It fires on too few proteins to fill ten groups.</Empty>;
}
