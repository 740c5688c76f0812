import { number, oneOf, text } from "../../lib/urlstate";

export const SPEC = {
  sae: text(), seq: text(), acc: text(), name: text(), ops: text(), mask: text(), err: oneOf(["keep", "drop"], "keep"),
  z: number(0, 0, 24), show: oneOf(["dlogp", "steered", "base"], "dlogp"),
};
