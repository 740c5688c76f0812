/** The first page: search, all dictionaries, and where to start. With ?q=, the answers to a query. */
import { useQuery } from "@tanstack/react-query";
import { conceptsQuery, saesQuery, type SAE } from "../api/queries";
import { text, useUrlState } from "../lib/urlstate";
import { SearchBox } from "../shell/SearchBox";
import { Empty, Problem, Skeleton, useTitle } from "../ui/basics";
import { Answers } from "./registry/Answers";
import { Examples } from "./registry/Examples";
import { KindsPanel } from "./registry/KindsPanel";
import { KnownPanel } from "./registry/KnownPanel";
import { ParetoPanel } from "./registry/ParetoPanel";
import { SaeCard } from "./registry/SaeCard";
import { SaeTable } from "./registry/SaeTable";
import { REGISTRY } from "./registry/state";

const QUERY = { q: text(), in: text() };
/** So many dictionaries are shown as cards; more are a table. */
const CARDS = 2;

export function Registry() {
  const [{ q, in: within }] = useUrlState(QUERY);
  const query = q.trim();
  useTitle(query ? `“${query}”` : undefined);
  return (
    <main id="main" className="page registry">
      <div className={`hero${query ? " asked" : ""}`}>
        {!query && (
          <>
            <h1>What does a protein language model know?</h1>
            <p className="lead">
              Each dictionary rewrites what the model thinks of a residue as a few active <em>latents</em>, and each latent often means one thing: a helix, a
              binding site, a family’s motif. Look one up by meaning, number, protein or pattern.
            </p>
          </>
        )}
        <SearchBox key={query} sae={within || undefined} initial={q} />
        {!query && <Examples />}
      </div>
      {query ? <Answers query={query} within={within || undefined} /> : <Dictionaries />}
    </main>
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
      <Start saes={saes} />
    </div>
  );
}

function Start({ saes }: { saes: readonly SAE[] }) {
  const { data: concepts } = useQuery(conceptsQuery);
  return (
    <div className="registrypair even">
      {saes[0] && <KindsPanel sae={saes[0]} />}
      {concepts?.length !== 0 && <KnownPanel saes={saes} />}
    </div>
  );
}
