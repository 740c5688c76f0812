/** All concepts that latents were tested on, with the best latent of each. */
import { useQuery } from "@tanstack/react-query";
import { useMemo } from "react";
import { conceptsQuery, saesQuery } from "../api/queries";
import { choose, kindName, statusOf, type Status, type Summary } from "../lib/concepts";
import { count } from "../lib/format";
import { useUrlState } from "../lib/urlstate";
import { Empty, Panel, Problem, Skeleton, Tabs, useTitle } from "../ui/basics";
import { ConceptsTable } from "./concepts/ConceptsTable";
import { CONCEPTS } from "./concepts/state";

const STATUS: Record<Status | "all", [label: string, title: string]> = {
  all: ["All", "Every annotation of the bundled proteins"],
  found: ["Found", "Some latent picks it out on protein families it was not chosen on"],
  missed: ["Not found", "Tested, but no latent picks it out on unseen families"],
  untested: ["Too rare", "Too few protein families carry it to test any latent on it"],
};

export default function Concepts() {
  const { data, error, refetch } = useQuery(conceptsQuery);
  const { data: saes } = useQuery(saesQuery);
  useTitle("Concepts");
  return (
    <main id="main" className="page stacked">
      <div className="pageintro">
        <h1>Concepts</h1>
        <p className="note">
          Annotations of the bundled proteins, each with the latent that best predicts it. Latents and thresholds are chosen on training families; all figures are
          measured on families that were held out.
        </p>
      </div>
      {error ? <Problem error={error} retry={() => void refetch()} /> : !data || !saes ? <Skeleton lines={12} height={420} />
        : data.length === 0 ? <Empty title="No concepts">These bundles were built without annotations: `python -m probes` tests latents against them, and `python -m explorer build --probes` takes its results in.</Empty>
        : <Chosen concepts={data} saes={saes.map((s) => s.id)} />}
    </main>
  );
}

function Chosen({ concepts, saes }: { concepts: readonly Summary[]; saes: readonly string[] }) {
  const [state, set] = useUrlState(CONCEPTS);
  const rows = useMemo(() => choose(concepts, { ...state, kinds: state.kind }), [concepts, state]);
  const kinds = useMemo(() => [...new Set(concepts.map((c) => c.kind))], [concepts]);
  // Numbers on the filters are of what the other filters leave.
  const ofKind = useMemo(() => choose(concepts, { ...state, kinds: [] }), [concepts, state]);
  const ofStatus = useMemo(() => choose(concepts, { ...state, kinds: state.kind, status: "all" }), [concepts, state]);
  const toggle = (kind: string) => set({ kind: state.kind.includes(kind) ? state.kind.filter((k) => k !== kind) : [...state.kind, kind] });
  return (
    <Panel title={rows.length === concepts.length ? `${count(rows.length)} concepts` : `${count(rows.length)} of ${count(concepts.length)} concepts`} className="conceptslist"
      side={
        <input className="field" type="search" aria-label="Filter by name" placeholder="Filter by name" value={state.q} maxLength={200} spellCheck={false} onChange={(e) => set({ q: e.target.value })} />
      }>
      <div className="filters">
        <Tabs small label="Whether it was found" value={state.status} onChange={(status) => set({ status })}
          options={(Object.keys(STATUS) as (Status | "all")[]).map((value) => {
            const n = value === "all" ? ofStatus.length : ofStatus.filter((c) => statusOf(c) === value).length;
            return { value, title: STATUS[value][1], label: <>{STATUS[value][0]} <span className="n">{count(n)}</span></> };
          })}
        />
        <div className="kindfilters" role="group" aria-label="Where labels are from">
          {kinds.map((kind) => (
            <button key={kind} type="button" className="button small" aria-pressed={state.kind.includes(kind)} onClick={() => toggle(kind)}>
              {kindName(kind)} <span className="n">{count(ofKind.filter((c) => c.kind === kind).length)}</span>
            </button>
          ))}
        </div>
      </div>
      {rows.length === 0 ? (
        <Empty title="No concept fits">
          <button type="button" className="button" onClick={() => set({ q: "", kind: [], status: "all" })}>Show all</button>
        </Empty>
      ) : <ConceptsTable rows={rows} saes={saes} sort={state.sort} onSort={(sort) => set({ sort })} />}
    </Panel>
  );
}
