import { describe, expect, it } from "vitest";
import { binned, splits } from "./splits";

describe("splits", () => {
  const found = { other: [5, 5, 7, 5, -1, 7], value: [0.9, 0.4, 0.8, 0.95, null, 0.2] };
  it("are latents with several nearest ones, the nearest first", () => {
    expect(splits(found, 0.3)).toEqual([{ latent: 5, into: [{ latent: 3, value: 0.95 }, { latent: 0, value: 0.9 }, { latent: 1, value: 0.4 }] }]);
    expect(splits(found, 0.1).map((s) => s.latent)).toEqual([5, 7]);
    expect(splits(found, 0.99)).toEqual([]);
  });
});

describe("bins", () => {
  it("hold every value once, also 1 and what is below 0", () => expect(binned([0, 0.5, 1, -0.2, null, 0.24], 4)).toEqual([3, 0, 1, 1]));
});
