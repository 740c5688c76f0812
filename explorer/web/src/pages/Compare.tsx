/** Two dictionaries of one model: what both have, what splits, what only one knows. */
import { useMemo } from "react";
import type { Schemas } from "../api/client";
import { NotLive, Result } from "../live/parts";
import { useLiveSaes } from "../live/queries";
import { useLive } from "../live/run";
import { number, oneOf, text, useUrlState } from "../lib/urlstate";
import { Empty, Panel, Problem, Select, Skeleton, useTitle } from "../ui/basics";
import { Coverage } from "./compare/Coverage";
import { MatchesPanel } from "./compare/MatchesPanel";
import { Pair } from "./compare/Pair";
import { Splits } from "./compare/Splits";

export const SPEC = { a: text(), b: text(), by: oneOf(["auto", "cosine", "correlation"], "auto"), la: number(-1, -1, 1e9), lb: number(-1, -1, 1e9), q: text(), least: number(0.3, 0, 1) };
type Compared = Schemas["Compared"];

export default function Compare() {
  const [state, set] = useUrlState(SPEC);
  const { saes, sae: first, info, error } = useLiveSaes(state.a);
  const second = saes.find((s) => s.id === state.b && s.id !== first?.id) ?? saes.find((s) => s.id !== first?.id);
  useTitle("Compare");
  const asked = useMemo(() => (first && second ? { method: "GET" as const, path: "compare", query: { a: first.id, b: second.id, by: state.by === "auto" ? null : state.by } } : null), [first, second, state.by]);
  const found = useLive<Compared>(asked);
  if (error) return <main id="main" className="page"><Problem error={error} /></main>;
  if (!info) return <main id="main" className="page"><Skeleton lines={6} /></main>;
  if (!info.live) return <main id="main" className="page"><NotLive /></main>;
  if (!first) return <main id="main" className="page"><Skeleton lines={6} /></main>;
  if (!second) return <main id="main" className="page"><Empty title="One dictionary only">Serve the bundles of two, with their runs, to compare them.</Empty></main>;
  const options = saes.map((s) => ({ value: s.id, label: s.name }));
  const change = (part: Partial<{ a: string; b: string }>) => set({ a: first.id, b: second.id, ...part, la: -1, lb: -1 }, { push: true });
  return (
    <main id="main" className="page live">
      <div className="stack">
        <div className="pagehead"><h1>Compare</h1></div>
        <Panel title="Two dictionaries">
          <div className="toolrow">
            <Select label="First" value={first.id} onChange={(a) => change(a === second.id ? { a, b: first.id } : { a })} options={options} />
            <Select label="Second" value={second.id} onChange={(b) => change(b === first.id ? { a: second.id, b } : { b })} options={options} />
            <Select label="Match by" value={state.by} onChange={(by) => set({ by }, { push: true })} options={[{ value: "auto", label: first.site === second.site ? "decoder cosine" : "correlation" }, ...(first.site === second.site ? [{ value: "correlation" as const, label: "correlation" }] : [])]} />
          </div>
          <p className="note">Decoder rows of one site are compared by their cosine. Other sites have other bases: there, two latents match when they fire together, by the correlation of their activations over the same residues.</p>
        </Panel>
        <Result of={found} asked={asked !== null} height={260}>
          {(c) => <>
            <div className="comparegrid">
              <MatchesPanel of={c} a={first} b={second} q={state.q} chosen={state.la} onQuery={(q) => set({ q })} onPair={(la, lb) => set({ la, lb }, { push: true })} />
              <div className="stack">
                <Pair of={c} a={first} b={second} la={state.la} lb={state.lb} />
                <Splits of={c} a={first} b={second} least={state.least} onLeast={(least) => set({ least })} onPair={(la, lb) => set({ la, lb }, { push: true })} />
              </div>
            </div>
            <Coverage a={first} b={second} />
          </>}
        </Result>
      </div>
    </main>
  );
}
