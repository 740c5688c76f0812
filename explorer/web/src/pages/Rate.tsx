/** Blind rating: is there a pattern, without knowing whether it is a latent's. */
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { saesQuery, useCapabilities, type SAE } from "../api/queries";
import { siteName } from "../lib/depth";
import { oneOf, text, useUrlState } from "../lib/urlstate";
import { Empty, Panel, Problem, Select, Skeleton, Tabs, useTitle } from "../ui/basics";
import { Judge } from "./rate/Judge";
import { Summary } from "./rate/Summary";

const SPEC = { sae: text(), view: oneOf(["rate", "results"], "rate") };
const KEY = "explorer.rater";

function storedRater(): string {
  try {
    return localStorage.getItem(KEY) ?? "";
  } catch {
    return ""; // storage may be refused
  }
}

export default function Rate() {
  const { mode, notes } = useCapabilities();
  const { data: saes, error, refetch } = useQuery(saesQuery);
  useTitle("Rate");
  return (
    <main id="main" className="page stacked">
      <div className="pageintro">
        <h1>Blind rating</h1>
        <p className="note">
          You see where one feature fires and say whether there is a pattern. A third are latents, a third single neurons of the model, a third are shuffled:
          nobody is told which, so what raters see in noise is measured, too.
        </p>
      </div>
      {!notes ? (
        <Empty title="Nothing is kept here">
          {mode === "static" ? "This is a static copy, where nothing can be written; `python -m explorer serve` keeps ratings." : "This server was started with --read-only; without it, it keeps ratings."}
        </Empty>
      ) : error ? <Problem error={error} retry={() => void refetch()} /> : !saes ? <Skeleton lines={8} height={400} />
        : saes.length === 0 ? <Empty title="No dictionary yet">Build one with `python -m explorer build`, then serve its bundle.</Empty> : <Shown saes={saes} />}
    </main>
  );
}

function Shown({ saes }: { saes: readonly SAE[] }) {
  const [state, set] = useUrlState(SPEC);
  const [rater, setRater] = useState(storedRater);
  const sae = saes.find((s) => s.id === state.sae) ?? saes[0]!;
  const name = (next: string) => {
    setRater(next);
    try {
      localStorage.setItem(KEY, next);
    } catch {
      // lasts until the page closes
    }
  };
  return (
    <>
      <div className="ratebar">
        <Tabs label="What to show" value={state.view} onChange={(view) => set({ view })} options={[{ value: "rate", label: "Rate" }, { value: "results", label: "Results" }]} />
        {saes.length > 1 && <Select label="Dictionary" value={sae.id} onChange={(id) => set({ sae: id })} options={saes.map((s) => ({ value: s.id, label: `${s.model} ${siteName(s.site, s.block)}, ${s.d_sae}` }))} />}
        {state.view === "rate" && rater && <span className="rater">rating as <b>{rater}</b> <button type="button" className="button small" onClick={() => name("")}>Change</button></span>}
      </div>
      {state.view === "results" ? <Summary sae={sae} /> : rater ? <Judge key={`${sae.id} ${rater}`} sae={sae} rater={rater} /> : <WhoAreYou onName={name} />}
    </>
  );
}

function WhoAreYou({ onName }: { onName(name: string): void }) {
  const [name, setName] = useState("");
  return (
    <Panel title="Who rates?" className="whorates" note="A name or initials, so that no one is asked twice and agreement can be measured. It is kept on this server with your ratings, and in this browser.">
      <form onSubmit={(e) => {
        e.preventDefault();
        if (name.trim()) onName(name.trim());
      }}>
        <input className="field" aria-label="Your name or initials" placeholder="Your name or initials" maxLength={100} value={name} autoComplete="nickname" onChange={(e) => setName(e.target.value)} />
        <button type="submit" className="button primary" disabled={!name.trim()}>Start</button>
      </form>
    </Panel>
  );
}
