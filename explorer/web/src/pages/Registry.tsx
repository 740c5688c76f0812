/** The first page: search, all dictionaries, and where to start. With ?q=, the answers to a query. */
import { useQuery } from "@tanstack/react-query";
import { useLocation } from "wouter";
import { conceptsQuery, saesQuery, type SAE } from "../api/queries";
import { useKeys } from "../lib/keys";
import { latentHref } from "../lib/links";
import { text, useUrlState } from "../lib/urlstate";
import { SearchBox } from "../shell/SearchBox";
import { Empty, Problem, Skeleton, Term, useTitle } from "../ui/basics";
import { Examples } from "./registry/Examples";
import { KindsPanel } from "./registry/KindsPanel";
import { KnownPanel } from "./registry/KnownPanel";
import { ParetoPanel } from "./registry/ParetoPanel";
import { Results } from "./registry/Results";
import { SaeCard } from "./registry/SaeCard";
import { SaeTable } from "./registry/SaeTable";
import { Starts } from "./registry/Starts";
import { REGISTRY } from "./registry/state";

const QUERY = { q: text(), in: text() };
/** So many dictionaries are shown as cards; more are a table. */
const CARDS = 2;

export function Registry() {
  const [{ q, in: inside }, set] = useUrlState(QUERY);
  return (
    <main id="main" className="page">
      {q.trim() ? <Results q={q.trim()} inside={inside} onInside={(sae) => set({ in: sae })} /> : <Overview />}
    </main>
  );
}

function Overview() {
  const { data: saes } = useQuery(saesQuery);
  const [, navigate] = useLocation();
  useTitle("Dictionaries");
  useKeys([
    { key: "r", label: "Random latent", run: () => {
      const sae = saes?.[Math.floor(Math.random() * saes.length)];
      if (sae) navigate(latentHref(sae.id, Math.floor(Math.random() * sae.d_sae)));
    } },
  ]);
  return (
    <>
      <div className="hero">
        <h1>What a protein language model knows, one latent at a time</h1>
        <p className="lead">
          A dictionary (<Term of="sae">sparse autoencoder</Term>) rewrites what the model thinks of a residue as a few active <Term of="latent">latents</Term>, and
          each often means one thing: a helix, a binding site, a family’s motif. Look one up by meaning, number, protein or pattern.
        </p>
        <SearchBox sae={undefined} />
        <Examples />
      </div>
      <Dictionaries />
    </>
  );
}

function Dictionaries() {
  const { data: saes, error, refetch } = useQuery(saesQuery);
  const [{ sort, up }, set] = useUrlState(REGISTRY);
  if (error) return <Problem error={error} retry={() => void refetch()} />;
  if (!saes) return <Skeleton lines={1} height={320} />;
  if (!saes.length) return <Empty title="No dictionary yet">Build one with `python -m explorer build`, then serve its bundle.</Empty>;
  if (saes.length > CARDS)
    return (
      <div className="registryrows">
        <div className="registrypair">
          <ParetoPanel saes={saes} />
          <KnownPanel saes={saes} />
        </div>
        <SaeTable saes={saes} sort={sort} up={up} onSort={(next) => set(next === sort ? { up: !up } : { sort: next, up: false })} />
      </div>
    );
  return (
    <div className="registryrows">
      {saes.map((sae) => <SaeCard key={sae.id} sae={sae} />)}
      <Starts sae={saes[0]!} />
      <Ways saes={saes} />
    </div>
  );
}

function Ways({ saes }: { saes: readonly SAE[] }) {
  const { data: concepts } = useQuery(conceptsQuery);
  return (
    <div className="registrypair even">
      {saes[0] && <KindsPanel sae={saes[0]} />}
      {concepts?.length !== 0 && <KnownPanel saes={saes} />}
    </div>
  );
}
