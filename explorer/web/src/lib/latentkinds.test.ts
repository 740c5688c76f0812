import { expect, it } from "vitest";
import { kindsOf } from "./latentkinds";

it("counts kinds, leaves the vague ones for last, and takes the best supported latent", () => {
  const columns = {
    label: ["helix (precision 0.90)", "helix", "strand", "CxxC", "", "strand: A-1", "helix: E+1"],
    label_source: ["annotation", "annotation", "annotation", "logo", "kind", "annotation", "logo"],
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

it("shows what is named after its kind, and another name than the kinds before where there is one", () => {
  const columns = {
    kind: ["periodic", "periodic", "other", "other"], label: ["helix", "every 2 residues", "every 2 residues", "motif CC"],
    label_source: ["annotation", "kind", "logo", "logo"], confirmed: [true, false, true, false],
    precision: [0.9, null, 0.9, null], f1: [null, null, null, null], max: [1, 1, 1, 1], protein_frequency: [0.1, 0.1, 0.1, 0.1],
  };
  expect(kindsOf(columns).map((k) => k.example)).toEqual([1, 3]);
});
