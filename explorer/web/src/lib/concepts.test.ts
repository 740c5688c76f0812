import { describe, expect, it } from "vitest";
import { contrast, type Rgb } from "./colour";
import { bestOf, choose, gridOf, scoreColours, statusOf, type LatentScore, type Summary } from "./concepts";

const scored = (sae: string, f1: number | null, found: boolean | null): LatentScore => ({
  sae, latent: 1, label: "", kind: "other", is_best: true, found,
  score: { f1, f1_low: null, f1_high: null, precision: null, recall: null, auroc: null },
});
const concept = (name: string, kind: string, best: LatentScore[], n = 10): Summary => ({
  concept: name, kind, level: "residue", n_positive: n, n_clusters: n, base_rate: 0.1,
  best: Object.fromEntries(best.map((b) => [b.sae, b])),
});
const all = [
  concept("helix", "dssp", [scored("a", 0.5, false), scored("b", 0.6, true)], 30),
  concept("ACT_SITE", "uniprot", [], 0),
  concept("TRANSMEM", "uniprot", [scored("a", 0.7, false)], 20),
  concept("A", "amino acid", [scored("a", 1, true)], 40),
];
const wanted = { q: "", kinds: [], status: "all", sort: "f1" } as const;
const names = (list: Summary[]) => list.map((c) => c.concept);

describe("choose", () => {
  it("orders by the best F1 of any dictionary, untested last", () => {
    expect(names(choose(all, wanted))).toEqual(["A", "TRANSMEM", "helix", "ACT_SITE"]);
    expect(names(choose(all, { ...wanted, sort: "name" }))).toEqual(["A", "ACT_SITE", "helix", "TRANSMEM"]);
    expect(names(choose(all, { ...wanted, sort: "clusters" }))).toEqual(["A", "helix", "TRANSMEM", "ACT_SITE"]);
  });
  it("filters by kind, status and by words of the name as recorded or spelled out", () => {
    expect(names(choose(all, { ...wanted, kinds: ["uniprot"] }))).toEqual(["TRANSMEM", "ACT_SITE"]);
    expect(names(choose(all, { ...wanted, status: "found" }))).toEqual(["A", "helix"]);
    expect(names(choose(all, { ...wanted, status: "untested" }))).toEqual(["ACT_SITE"]);
    expect(names(choose(all, { ...wanted, q: "active site" }))).toEqual(["ACT_SITE"]);
    expect(names(choose(all, { ...wanted, q: "ALANINE" }))).toEqual(["A"]);
  });
});

describe("scores of a concept", () => {
  it("takes the best, with unknown below any", () => {
    expect(bestOf({ a: scored("a", null, null), b: scored("b", 0.1, null) })?.sae).toBe("b");
    expect(bestOf({})).toBeNull();
  });
  it("is found when any dictionary finds it", () => {
    expect(all.map(statusOf)).toEqual(["found", "untested", "missed", "found"]);
  });
});

describe("gridOf", () => {
  const sae = (id: string, block: number | null, d_sae: number, k: number, model = "m") => ({
    id, model, site: block === null ? "final" : `block${block}`, block, architecture: "topk", d_sae, k,
  });
  it("puts sites in order of depth, with `final` last, and wide dictionaries first", () => {
    const grid = gridOf([sae("f", null, 1024, 32), sae("x", 10, 1024, 32), sae("y", 2, 4096, 32), sae("z", 2, 4096, 16)]);
    expect(grid.columns.map((c) => c.site)).toEqual(["block2", "block10", "final"]);
    expect(grid.rows.map((r) => [r.d_sae, r.k])).toEqual([[4096, 32], [4096, 16], [1024, 32]]);
    expect(grid.cell(0, 0).map((s) => s.id)).toEqual(["y"]);
    expect(grid.cell(0, 1)).toEqual([]);
    expect(grid.cell(2, 1).map((s) => s.id)).toEqual(["x"]);
  });
  it("keeps models apart and twins together", () => {
    const grid = gridOf([sae("1", 1, 8, 2, "b"), sae("2", 1, 8, 2, "a"), sae("3", 1, 8, 2, "a")]);
    expect(grid.columns.map((c) => c.model)).toEqual(["a", "b"]);
    expect(grid.cell(0, 0).map((s) => s.id)).toEqual(["2", "3"]);
  });
});

describe("scoreColours", () => {
  const rgb = (css: string) => css.match(/\d+/g)!.map(Number) as unknown as Rgb;
  it("has readable ink everywhere, light and dark", () => {
    for (const dark of [false, true])
      for (let t = 0; t <= 1; t += 0.02) {
        const { background, color } = scoreColours(t, dark);
        expect(contrast(rgb(background), rgb(color))).toBeGreaterThan(4.45);
      }
  });
});
