import { expect, it } from "vitest";
import { stack } from "./Logo";

it("stacks letters by share of the column's bits, the most frequent on top", () => {
  const got = stack({ letters: "ACD", frequencies: [[0.25, 0.75, 0], [NaN, NaN, NaN], [1, 0, 0]], bits: [2, 0, 4] });
  expect(got).toEqual([
    { letter: "A", column: 0, from: 0, to: 0.5 },
    { letter: "C", column: 0, from: 0.5, to: 2 },
    { letter: "A", column: 2, from: 0, to: 4 },
  ]);
});
