/** States of the two concept pages in their addresses. */
import { oneOf, text, texts } from "../../lib/urlstate";

export const CONCEPTS = {
  /** Words that the name must hold. */
  q: text(),
  kind: texts(),
  status: oneOf(["all", "found", "missed", "untested"], "all"),
  sort: oneOf(["f1", "name", "clusters", "positive"], "f1"),
};

export const CONCEPT = {
  /** Dictionary whose latents are shown. */
  sae: text(),
};
