/** The latent page's state in its address. */
import { GROUPS, OUTCOMES } from "./groups";
import { ALIGNMENTS } from "../../strip/layout";
import { number, oneOf, text } from "../../lib/urlstate";

export const LETTER_ZOOM = 11;

export const SPEC = {
  /** Which examples. */
  tab: oneOf([...GROUPS, ...OUTCOMES], "top"),
  /** Concept of the examples by outcome. */
  c: text(),
  align: oneOf(ALIGNMENTS, "max"),
  /** Pixels a residue; 0 fits whole proteins. */
  z: number(LETTER_ZOOM, 0, 28),
  /** Column in the middle. */
  at: number(0, -100_000, 100_000),
  /** Protein on the structure. */
  p: text(),
  /** Motif to underline. */
  m: text(),
  near: oneOf(["cosine", "coactivation"], "cosine"),
  /** Order of the concept table. */
  sort: oneOf(["f1", "precision", "recall", "n"], "f1"),
};

/** What stays when one goes on to another latent. */
export const KEPT = ["tab", "align", "z", "near", "sort", "m"] as const;
