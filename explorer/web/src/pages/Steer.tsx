/** Clamp latents inside the model, and see what becomes of its predictions. */
import { useMemo, useState } from "react";
import type { Schemas } from "../api/client";
import { NotLive, Result } from "../live/parts";
import { useLiveSaes } from "../live/queries";
import { useLive } from "../live/run";
import { SequenceInput, type SequenceRecord } from "../live/SequenceInput";
import { parseEdits } from "../lib/edits";
import { useUrlState } from "../lib/urlstate";
import { Empty, Panel, Problem, Skeleton, useTitle } from "../ui/basics";
import { DosePanel } from "./steer/DosePanel";
import { EditsPanel } from "./steer/EditsPanel";
import { Effect } from "./steer/Effect";
import { VariantsPanel } from "./steer/VariantsPanel";
import { SPEC } from "./steer/state";

type Steered = Schemas["Steered"];

export default function Steer() {
  const [state, set] = useUrlState(SPEC);
  const { saes, sae, info, error } = useLiveSaes(state.sae);
  const [records, setRecords] = useState<SequenceRecord[]>([]);
  useTitle("Steer", state.name || undefined);
  const { edits } = parseEdits(state.ops);
  const target = useMemo(() => (state.seq ? { sequence: state.seq } : state.acc ? { accession: state.acc } : null), [state.seq, state.acc]);
  const asked = useMemo(() => {
    if (!sae || !target || !edits.length) return null;
    return { method: "POST" as const, path: "steer", body: { sae: sae.id, ...target, edits: state.ops, mask: state.mask || null, error_term: state.err } };
  }, [sae, target, edits.length, state.ops, state.mask, state.err]);
  const found = useLive<Steered>(asked);
  if (error) return <main id="main" className="page"><Problem error={error} /></main>;
  if (!info) return <main id="main" className="page"><Skeleton lines={6} /></main>;
  if (!info.live) return <main id="main" className="page"><NotLive /></main>;
  if (!sae) return <main id="main" className="page"><Skeleton lines={6} /></main>;
  return (
    <main id="main" className="page live">
      <div className="stack">
        <div className="pagehead"><h1>Steer</h1></div>
        <Panel title="Sequence">
          <SequenceInput saes={saes} sae={sae} limits={info.limits} chosen={state} records={records} onSae={(id) => set({ sae: id })} onRecords={setRecords} onChoose={(c) => set({ ...c, mask: "" }, { push: true })} />
        </Panel>
        <EditsPanel sae={sae.id} text={state.ops} mask={state.mask} error={state.err} done={found.data?.edits ?? []}
          onText={(ops) => set({ ops }, { push: true })} onMask={(mask) => set({ mask }, { push: true })} onError={(err) => set({ err }, { push: true })} />
        <Result of={found} asked={asked !== null} height={260}
          empty={<Empty title={target ? "No edit yet" : "No sequence yet"}>{target ? "Add an edit above: a latent set to its own maximum is a good beginning." : "Paste a sequence above, or try insulin."}</Empty>}>
          {(s) => <Effect of={s} show={state.show} zoom={state.z} onShow={(show) => set({ show })} onZoom={(z) => set({ z })} />}
        </Result>
        {target && edits.length > 0 && (
          <div className="steergrid">
            <DosePanel key={`${sae.id}${state.seq}${state.acc}${edits[0]!.latent}`} sae={sae.id} target={target} edit={edits[0]!} error={state.err} />
            <VariantsPanel key={`${sae.id}${state.seq}${state.acc}${state.ops}`} sae={sae.id} target={target} ops={state.ops} error={state.err} limit={info.limits.max_variants} />
          </div>
        )}
      </div>
    </main>
  );
}
