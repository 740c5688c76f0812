import { interval, number, oneOf, text } from "../../lib/urlstate";

export const SPEC = {
  sae: text(), seq: text(), acc: text(), name: text(), mut: text(), latent: number(-1, -1, 1e9), q: text(), range: interval(),
  share: number(1, 0, 1), n: number(40, 10, 400), z: number(0, 0, 24), order: oneOf(["score", "max", "position", "latent"], "score"),
  view: oneOf(["sequence", "labels"], "sequence"),
};
