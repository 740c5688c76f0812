import { expect, it } from "vitest";
import { kindsOf } from "./latentkinds";

it("counts kinds, leaves the vague ones for last, and takes the best supported latent", () => {
  const columns = {
    kind: ["other", "periodic", "periodic", "motif-like", "dead", "periodic", "other"],
    confirmed: [false, false, true, false, false, true, false],
    precision: [0.9, 0.99, 0.5, null, null, 0.7, null],
    f1: [null, null, null, 0.2, null, null, null],
    max: [1, 1, 1, 1, 0, 1, 1],
    protein_frequency: [0.1, 0.1, 0.1, 0.1, 0, 0.1, 0.1],
  };
  expect(kindsOf(columns)).toEqual([
    { kind: "periodic", n: 3, example: 5 },
    { kind: "motif-like", n: 1, example: 3 },
    { kind: "other", n: 2, example: 0 },
    { kind: "dead", n: 1, example: null },
  ]);
});
