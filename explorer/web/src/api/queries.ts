/** Questions to the server as React hooks; answers of a bundle never change, so they never go stale. */
import { keepPreviousData, queryOptions, useQuery } from "@tanstack/react-query";
import { get, getCapabilities, getText, segment, type Schemas } from "./client";

export type SAE = Schemas["SAESummary"];
export type Columns = Schemas["LatentColumns"];
export type Latent = Schemas["LatentDetail"];
export type Example = Schemas["Example"];
export type Feature = Schemas["Feature"];
export type ConceptScore = Schemas["ConceptScore"];
export type Score = Schemas["Score"];
export type LatentName = Schemas["LatentName"];
export type SearchHit = Schemas["SearchHit"];

const FOREVER = { staleTime: Infinity } as const;

export const capabilitiesQuery = queryOptions({
  queryKey: ["capabilities"],
  queryFn: ({ signal }) => getCapabilities(signal),
  ...FOREVER,
});

export const saesQuery = queryOptions({
  queryKey: ["saes"],
  queryFn: ({ signal }) => get<SAE[]>("saes", {}, signal),
  ...FOREVER,
});

export const columnsQuery = (sae: string) =>
  queryOptions({
    queryKey: ["columns", sae],
    queryFn: ({ signal }) => get<Columns>(`saes/${segment(sae)}/columns`, {}, signal),
    ...FOREVER,
  });

export const latentQuery = (sae: string, j: number) =>
  queryOptions({
    queryKey: ["latent", sae, j],
    queryFn: ({ signal }) => get<Latent>(`saes/${segment(sae)}/latents/${j}`, {}, signal),
    ...FOREVER,
  });

export const examplesQuery = (sae: string, j: number, group: string) =>
  queryOptions({
    queryKey: ["examples", sae, j, group],
    queryFn: ({ signal }) =>
      get<Schemas["Examples"]>(`saes/${segment(sae)}/latents/${j}/examples`, { group }, signal),
    ...FOREVER,
  });

export const conceptExamplesQuery = (sae: string, j: number, concept: string, outcome: string) =>
  queryOptions({
    queryKey: ["concept-examples", sae, j, concept, outcome],
    queryFn: ({ signal }) =>
      get<Schemas["Examples"]>(
        `saes/${segment(sae)}/latents/${j}/concepts/${segment(concept)}/examples`,
        { outcome },
        signal,
      ),
    ...FOREVER,
  });

export const alongQuery = (sae: string, j: number, accession: string) =>
  queryOptions({
    queryKey: ["along", sae, j, accession],
    queryFn: ({ signal }) =>
      get<Example>(`saes/${segment(sae)}/latents/${j}/proteins/${segment(accession)}`, {}, signal),
    ...FOREVER,
  });

export const neighboursQuery = (sae: string, j: number, kind: "cosine" | "coactivation") =>
  queryOptions({
    queryKey: ["neighbours", sae, j, kind],
    queryFn: ({ signal }) =>
      get<Schemas["Neighbour"][]>(`saes/${segment(sae)}/latents/${j}/neighbours`, { kind }, signal),
    ...FOREVER,
  });

export const proteinQuery = (accession: string) =>
  queryOptions({
    queryKey: ["protein", accession],
    queryFn: ({ signal }) => get<Schemas["ProteinDetail"]>(`proteins/${segment(accession)}`, {}, signal),
    ...FOREVER,
  });

export const proteinLatentsQuery = (accession: string, sae: string) =>
  queryOptions({
    queryKey: ["protein-latents", accession, sae],
    queryFn: ({ signal }) =>
      get<Schemas["ProteinLatents"]>(`proteins/${segment(accession)}/latents`, { sae }, signal),
    ...FOREVER,
  });

export const structureQuery = (accession: string) =>
  queryOptions({
    queryKey: ["structure", accession],
    queryFn: ({ signal }) => getText(`structures/${segment(accession)}`, {}, signal),
    ...FOREVER,
  });

export const conceptsQuery = queryOptions({
  queryKey: ["concepts"],
  queryFn: ({ signal }) => get<Schemas["ConceptSummary"][]>("concepts", {}, signal),
  ...FOREVER,
});

export const conceptQuery = (concept: string) =>
  queryOptions({
    queryKey: ["concept", concept],
    queryFn: ({ signal }) => get<Schemas["ConceptDetail"]>(`concepts/${segment(concept)}`, {}, signal),
    ...FOREVER,
  });

export const motifQuery = (pattern: string, sae: string) =>
  queryOptions({
    queryKey: ["motif", pattern, sae],
    queryFn: ({ signal }) => get<Schemas["MotifResults"]>("search/motif", { pattern, sae }, signal),
    ...FOREVER,
  });

/** What this server can do; read-only until it has answered. */
export function useCapabilities(): Schemas["Capabilities"] {
  const { data } = useQuery(capabilitiesQuery);
  return data ?? { mode: "read-only", notes: false, version: "", max_query_chars: 2000, max_page: 100 };
}

/** One dictionary of the registry, or undefined while it loads or when there is none. */
export function useSae(id: string | undefined): SAE | undefined {
  const { data } = useQuery(saesQuery);
  return data?.find((sae) => sae.id === id);
}

export { keepPreviousData };
