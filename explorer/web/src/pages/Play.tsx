/** Your own sequence: which latents fire on it, and what a mutation does to them. */
import { useMemo, useState } from "react";
import type { Schemas } from "../api/client";
import { proteinQuery } from "../api/queries";
import { NotLive, Result } from "../live/parts";
import { useLiveSaes } from "../live/queries";
import { useLive } from "../live/run";
import { SequenceInput, type SequenceRecord } from "../live/SequenceInput";
import { useUrlState } from "../lib/urlstate";
import { Empty, Panel, Problem, Skeleton, Tabs, useTitle } from "../ui/basics";
import { useQuery } from "@tanstack/react-query";
import { Heatmap } from "./play/Heatmap";
import { LabelsPanel } from "./play/LabelsPanel";
import { LatentPanel } from "./play/LatentPanel";
import { MutantPanel } from "./play/MutantPanel";
import { ScanPanel } from "./play/ScanPanel";
import { parseMutations } from "./play/arrange";
import { SPEC } from "./play/state";

type Encoded = Schemas["Encoded"];

export default function Play() {
  const [state, set] = useUrlState(SPEC);
  const { saes, sae, labels, info, error } = useLiveSaes(state.sae);
  const [records, setRecords] = useState<SequenceRecord[]>([]);
  const [hover, setHover] = useState<number | null>(null);
  useTitle("Play", state.name || undefined);
  const asked = useMemo(() => {
    if (!sae || (!state.seq && !state.acc)) return null;
    return { method: "POST" as const, path: "encode", body: { sae: sae.id, ...(state.seq ? { sequence: state.seq } : { accession: state.acc }) } };
  }, [sae, state.seq, state.acc]);
  const encoded = useLive<Encoded>(asked);
  if (error) return <main id="main" className="page"><Problem error={error} /></main>;
  if (!info) return <main id="main" className="page"><Skeleton lines={6} /></main>;
  if (!info.live) return <main id="main" className="page"><NotLive /></main>;
  if (!sae) return <main id="main" className="page"><Skeleton lines={6} /></main>;
  const found = encoded.data;
  const record = records.find((r) => r.sequence === state.seq && r.id === state.name);
  return (
    <main id="main" className="page live">
      <div className="stack">
        <div className="pagehead">
          <h1>Play</h1>
          <Tabs label="What to play with" value={state.view} onChange={(view) => set({ view }, { push: true })} options={[{ value: "sequence", label: "My sequence" }, { value: "labels", label: "My labels" }]} />
        </div>
        {state.view === "labels" ? <LabelsPanel saes={saes} sae={sae} usable={labels} onSae={(id) => set({ sae: id })} /> : <>
          <Panel title="Your sequence">
            <SequenceInput saes={saes} sae={sae} limits={info.limits} chosen={state} records={records}
              onSae={(id) => set({ sae: id, latent: -1 })} onRecords={setRecords}
              onChoose={(c) => set({ ...c, mut: "", latent: -1, range: null }, { push: true })} />
          </Panel>
          <Result of={encoded} asked={asked !== null} height={300}
            empty={<Empty title="No sequence yet">Paste one above, or try insulin: the heatmap shows every latent that fires on it, the rarest and strongest first.</Empty>}>
            {(e) => <Shown key={e.sequence + e.sae} encoded={e} structure={record?.structure ?? null} numbers={record?.numbers ?? null} hover={hover} onHover={setHover} state={state} set={set} />}
          </Result>
          {found && found.latents.length === 0 && <Empty title="Silent">No latent fires on this sequence.</Empty>}
        </>}
      </div>
    </main>
  );
}

type Url = ReturnType<typeof useUrlState<typeof SPEC>>;

function Shown({ encoded, structure, numbers, hover, onHover, state, set }: { encoded: Encoded; structure: string | null; numbers: readonly (string | null)[] | null; hover: number | null; onHover(column: number | null): void; state: Url[0]; set: Url[1] }) {
  const mutations = parseMutations(state.mut) ?? [];
  const chosen = encoded.latents.find((l) => l.latent === state.latent) ?? null;
  const { data: protein } = useQuery({ ...proteinQuery(state.acc), enabled: Boolean(state.acc) });
  return (
    <div className="playgrid">
      <div className="stack">
        <Heatmap encoded={encoded} mutations={mutations} state={state} set={set} hover={hover} onHover={onHover} numbers={numbers} />
        <MutantPanel encoded={encoded} text={state.mut} onText={(mut) => set({ mut }, { push: true })} chosen={state.latent} onChoose={(latent) => set({ latent })} zoom={state.z} hover={hover} onHover={onHover} />
      </div>
      <div className="stack">
        <LatentPanel encoded={encoded} latent={chosen} name={state.name || "your sequence"} structure={structure} accession={protein?.structure ? state.acc : null} hover={hover} onHover={onHover} />
        {chosen && <ScanPanel key={chosen.latent} encoded={encoded} latent={chosen} zoom={state.z} onMutate={(mut) => set({ mut }, { push: true })} />}
      </div>
    </div>
  );
}
