import { describe, expect, it } from "vitest";
import { arrange, parseMutations, type PlayLatent } from "./arrange";

const latent = (j: number, change: Partial<PlayLatent> = {}): PlayLatent => ({
  latent: j, label: `label ${j}`, kind: "motif", concept: null, max: 1, argmax: j, own_max: 2, share_active: 0.1, score: j,
  track: { positions: [j], values: [1] }, ...change,
});
const ALL = { q: "", range: null, share: 1, order: "score" };
const numbers = (found: PlayLatent[]) => found.map((l) => l.latent);

describe("latents of a sequence", () => {
  const latents = [latent(1), latent(2, { share_active: 0.9 }), latent(3, { concept: "Zinc finger" })];
  it("come by score", () => expect(numbers(arrange(latents, ALL))).toEqual([3, 2, 1]));
  it("are filtered by share, text and stretch", () => {
    expect(numbers(arrange(latents, { ...ALL, share: 0.5 }))).toEqual([3, 1]);
    expect(numbers(arrange(latents, { ...ALL, q: "zinc" }))).toEqual([3]);
    expect(numbers(arrange(latents, { ...ALL, range: [1, 2] }))).toEqual([2, 1]);
  });
  it("leaves the given list as it is", () => expect(numbers(latents)).toEqual([1, 2, 3]));
});

describe("mutations", () => {
  it("are read as people type them", () => expect(parseMutations("a42v, C7S;  M1L")).toEqual(["A42V", "C7S", "M1L"]));
  it("refuse what is none", () => expect(parseMutations("A42")).toBeNull());
  it("may be none", () => expect(parseMutations("  ")).toEqual([]));
});
