import { describe, expect, it } from "vitest";
import type { Columns } from "../../api/queries";
import type { Point } from "../../lib/urlstate";
import { bin, choose, colouring, inside, simplify } from "./select";

const columns: Columns = {
  label: ["zinc finger", "helix", "dead", "helix cap"], label_source: ["", "", "", ""], kind: ["motif-like", "other", "dead", "other"],
  frequency: [0.001, 0.1, 0, 0.01], protein_frequency: [0, 0, 0, 0], max: [10, 2, 0, 5], p99: [0, 0, 0, 0], span: [1, null, null, 2],
  x: [0, 0.5, -0.9, 0.6], y: [0, 0.5, -0.9, 0.4], concept: ["ZN", "helix", null, "helix"], f1: [0.9, 0.5, null, 0.2],
  precision: [null, 0.5, null, 0.4], confirmed: [true, false, false, false],
};
const ANY = { q: "", kind: "", concept: "", frequency: null, f1: null, max: null, lasso: [], dead: false };
const SQUARE: Point[] = [[0.4, 0.3], [0.7, 0.3], [0.7, 0.6], [0.4, 0.6]];

describe("the atlas", () => {
  it("leaves out the dead unless asked", () => {
    expect(choose(columns, ANY)).toEqual([0, 1, 3]);
    expect(choose(columns, { ...ANY, dead: true })).toEqual([0, 1, 2, 3]);
  });

  it.each([
    [{ q: "HELIX" }, [1, 3]], [{ q: "helix cap" }, [3]], [{ kind: "other" }, [1, 3]], [{ concept: "helix", f1: [0.4, 1] }, [1]],
    [{ frequency: [0.0005, 0.02] }, [0, 3]], [{ lasso: SQUARE }, [1, 3]], [{ lasso: SQUARE, max: [3, 9] }, [3]],
  ] as const)("%j leaves %j", (some, left) => expect(choose(columns, { ...ANY, ...some } as typeof ANY)).toEqual(left));

  it("knows inside from outside of a bent polygon", () => {
    const u: Point[] = [[0, 0], [3, 0], [3, 3], [2, 3], [2, 1], [1, 1], [1, 3], [0, 3]];
    expect([inside(0.5, 2, u), inside(1.5, 2, u), inside(1.5, 0.5, u), inside(4, 1, u)]).toEqual([true, false, true, false]);
  });

  it("simplifies a lasso but keeps its area", () => {
    const circle = Array.from({ length: 720 }, (_, i): Point => [Math.cos((i / 360) * Math.PI), Math.sin((i / 360) * Math.PI)]);
    const few = simplify(circle);
    expect(few.length).toBeLessThanOrEqual(60);
    expect(few.length).toBeGreaterThan(10);
    for (let t = 0; t < 6; t += 0.37) expect([inside(0.97 * Math.cos(t), 0.97 * Math.sin(t), few), inside(1.01 * Math.cos(t), 1.01 * Math.sin(t), few)]).toEqual([true, false]);
  });

  it("counts into bins", () => {
    const bins = bin([1, 10, 100, null, 0], [1, 3], true, 2);
    expect(bins.all).toEqual([1, 2]);
    expect(bins.some).toEqual([0, 1]);
    expect(bins.edges[1]).toBeCloseTo(10);
    expect(bin([3, 3], [], false).edges).toEqual([]);
  });

  it("colours by category with one colour for the rest, and by number with none for unknown", () => {
    const kinds = colouring(columns, "kind", false);
    expect(kinds.values).toEqual([0, 2, 1, 2]);
    expect(kinds.colours).toHaveLength(3);
    const f1 = colouring(columns, "f1", true);
    expect(f1.values[2]).toBe(0);
    expect(f1.values[0]!).toBeGreaterThan(f1.values[1]!);
  });
});
