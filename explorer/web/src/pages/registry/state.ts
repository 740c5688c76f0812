/** The registry's state in its address. */
import { oneOf, type Codec } from "../../lib/urlstate";

export const SORTS = ["name", "d_sae", "k", "l0", "fvu", "loss_recovered", "dead", "n_found", "n_f1_half", "n_confirmed"] as const;
export type SortKey = (typeof SORTS)[number];

const flag: Codec<boolean> = { fallback: false, parse: (t) => t === "1", format: (v) => (v ? "1" : "") };

export const REGISTRY = { sort: oneOf(SORTS, "name"), up: flag };
