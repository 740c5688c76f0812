/** What the live half offers. */
import { queryOptions, useQuery } from "@tanstack/react-query";
import { get, type Schemas } from "../api/client";
import { saesQuery, type SAE } from "../api/queries";

export const liveQuery = queryOptions({
  queryKey: ["live-info"],
  queryFn: ({ signal }) => get<Schemas["LiveInfo"]>("live", {}, signal),
  staleTime: 60_000,
  refetchInterval: (query) => (query.state.data?.live && !query.state.data.ready ? 2_000 : false),
});

/** Dictionaries that can be run here, and which of them is chosen. */
export function useLiveSaes(chosen: string): { saes: SAE[]; sae: SAE | undefined; labels: boolean; info: Schemas["LiveInfo"] | undefined; error: unknown } {
  const { data: info, error } = useQuery(liveQuery);
  const { data: all } = useQuery(saesQuery);
  const labels = new Map(info?.saes.map((s) => [s.sae, s.labels]));
  const saes = (all ?? []).filter((s) => labels.has(s.id));
  const sae = saes.find((s) => s.id === chosen) ?? saes[0];
  return { saes, sae, labels: sae ? (labels.get(sae.id) ?? false) : false, info, error };
}
