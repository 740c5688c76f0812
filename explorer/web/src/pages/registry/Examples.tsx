/** Queries to try: each is taken from what is served, so each has an answer. */
import { useQuery } from "@tanstack/react-query";
import { Link } from "wouter";
import { get, segment, type Schemas } from "../../api/client";
import { conceptsQuery, motifQuery, saesQuery, useCapabilities } from "../../api/queries";
import { bestOf, statusOf } from "../../lib/concepts";

const MOTIFS = ["C-x(2,4)-C", "N-{P}-[ST]", "G-x-G-x-x-G"];

const firstProtein = (sae: string, latent: number) => ({
  queryKey: ["proteins", sae, latent],
  queryFn: ({ signal }: { signal: AbortSignal }) => get<Schemas["ProteinHits"]>(`saes/${segment(sae)}/latents/${latent}/proteins`, {}, signal),
  staleTime: Infinity,
});

export function Examples() {
  const { mode } = useCapabilities();
  const { data: saes } = useQuery(saesQuery);
  const { data: concepts } = useQuery(conceptsQuery);
  const tested = (concepts ?? []).filter((c) => statusOf(c) !== "untested" && !c.kind.startsWith("amino"));
  const words = tested.find((c) => c.concept === "helix") ?? tested[0];
  const latent = words ? bestOf(words.best) : null;
  const sae = latent?.sae ?? saes?.[0]?.id;
  const number = latent?.latent ?? 0;
  const { data: proteins } = useQuery({ ...firstProtein(sae ?? "", number), enabled: sae !== undefined });
  const motif = useMotif(sae, mode !== "static");
  const accession = proteins?.proteins.find((p) => /^[A-Z]/.test(p.accession))?.accession ?? proteins?.proteins[0]?.accession;
  const tries: [name: string, query: string][] = [];
  if (words) tries.push(["a meaning", words.concept]);
  if (sae) tries.push(["a number", `latent ${number}`]);
  if (accession) tries.push(["a protein", accession]);
  if (motif) tries.push(["a motif", motif]);
  return (
    <p className="tries" aria-label="Queries to try">
      <span>Try</span>
      {tries.map(([name, query]) => (
        <Link key={name} href={`/?q=${encodeURIComponent(query)}`} title={`Search for ${name}`} className="try">
          {query}
        </Link>
      ))}
      {tries.length === 0 && <span className="try waiting" aria-hidden="true" />}
    </p>
  );
}

/** The first of the usual motifs that occurs in the bundled proteins. */
function useMotif(sae: string | undefined, enabled: boolean): string | null {
  const of = (i: number, before: boolean) => ({ ...motifQuery(MOTIFS[i]!, sae ?? ""), enabled: enabled && sae !== undefined && before });
  const first = useQuery(of(0, true));
  const none = (answer: { n_matches: number } | undefined) => answer?.n_matches === 0;
  const second = useQuery(of(1, none(first.data)));
  const third = useQuery(of(2, none(second.data)));
  const at = [first, second, third].findIndex(({ data }) => data && data.n_matches > 0);
  return at < 0 ? null : MOTIFS[at]!;
}
