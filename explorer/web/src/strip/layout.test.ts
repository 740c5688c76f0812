import { describe, expect, it } from "vitest";
import type { Example, Feature } from "../api/queries";
import { anchorOf, conceptColours, dense, fitZoom, lanes, lay, residueAt, tickStep } from "./layout";

const feature = (concept: string, start: number, end: number): Feature => ({ concept, kind: "t", start, end });
const example = (over: Partial<Example>): Example => ({
  accession: "P", description: "", sequence: "MKTAYIAKQR", structure: false, max: 2, argmax: 5, focus: null, part: null,
  track: { positions: [3, 5], values: [1, 2] }, features: [], ...over,
});

describe("strips", () => {
  it("anchors at the maximum, the first active residue or the start (positions count from 1)", () => {
    expect((["max", "first", "start", "msa"] as const).map((how) => anchorOf(example({}), how))).toEqual([4, 2, 0, 4]);
    const silent = example({ argmax: null, track: { positions: [], values: [] }, features: [feature("a", 7, 9)] });
    expect(anchorOf(silent, "max")).toBe(6);
  });

  it("finds residues by column", () => {
    const { columns } = lay([example({})], "max");
    expect(columns[0]![4]).toBe(0);
    expect([residueAt(columns[0]!, 0), residueAt(columns[0]!, -4), residueAt(columns[0]!, 6)]).toEqual([4, 0, -1]);
  });

  it("spreads a sparse track", () => expect([...dense({ positions: [1, 3, 9], values: [1, 2, 3] }, 3)]).toEqual([1, 0, 2]));

  it("keeps overlapping annotations in different lanes, the wanted ones first", () => {
    const got = lanes([feature("b", 1, 9), feature("a", 5, 6), feature("c", 2, 3), feature("b", 10, 12)], ["a"], 2);
    expect(got.map((l) => [l.feature.concept, l.feature.start, l.lane])).toEqual([["a", 5, 0], ["b", 1, 1], ["b", 10, 0], ["c", 2, 0]]);
  });

  it("colours the wanted concept first, then those that hold activity", () => {
    const rows = [example({ features: [feature("far", 8, 10), feature("site", 5, 5), feature("whole", 1, 10)] })];
    expect(conceptColours(rows, ["far", "absent"]).map((c) => c.concept)).toEqual(["far", "site", "whole"]);
  });

  it("chooses ticks and a zoom that fits", () => {
    expect([tickStep(14), tickStep(1), tickStep(0.1)]).toEqual([5, 100, 1000]);
    expect(fitZoom({ columns: [], first: -50, last: 49 }, 700)).toBe(7);
  });
});
