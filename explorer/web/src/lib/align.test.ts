import { describe, expect, it } from "vitest";
import { alignPair, GAP_EXTEND, GAP_OPEN, layByAnchor, layByStar } from "./align";
import { blosum62 } from "./blosum";

const score = (a: string, b: string) =>
  [...a].reduce((sum, c, i) => sum + blosum62(c.charCodeAt(0), b.charCodeAt(i)), 0);

describe("BLOSUM62", () => {
  it("holds published values and is symmetric", () => {
    const at = (a: string, b: string) => blosum62(a.charCodeAt(0), b.charCodeAt(0));
    expect([at("W", "W"), at("C", "C"), at("A", "A"), at("H", "Y"), at("I", "V"), at("W", "C")]).toEqual([11, 9, 4, 2, 3, -2]);
    const letters = "ARNDCQEGHILKMFPSTWYV";
    for (const a of letters) for (const b of letters) expect(at(a, b)).toBe(at(b, a));
    expect(at("X", "A")).toBe(-1);
  });
});

/** Every alignment of two short sequences, ends free: the slow truth. */
function slow(a: string, b: string): number {
  let best = 0;
  const walk = (i: number, j: number, total: number, last: "m" | "a" | "b" | "start") => {
    if (i === a.length || j === b.length) {
      best = Math.max(best, total);
      return;
    }
    walk(i + 1, j + 1, total + blosum62(a.charCodeAt(i), b.charCodeAt(j)), "m");
    if (last === "start") return;
    walk(i + 1, j, total - GAP_EXTEND - (last === "a" ? 0 : GAP_OPEN), "a");
    walk(i, j + 1, total - GAP_EXTEND - (last === "b" ? 0 : GAP_OPEN), "b");
  };
  for (let i = 0; i < a.length; i++) walk(i, 0, 0, "start");
  for (let j = 1; j < b.length; j++) walk(0, j, 0, "start");
  return best;
}

describe("alignPair", () => {
  it("pairs equal sequences residue by residue", () => {
    const s = "MKTAYIAKQRQISFVKSHFSRQ";
    const got = alignPair(s, s);
    expect([...got.pairs]).toEqual([...s].map((_, i) => i));
    expect(got.score).toBe(score(s, s));
  });

  it("opens one gap for a deletion and charges it as BLAST does", () => {
    const a = "WWHHCCWWPPHHWWCC";
    const b = "WWHHCCWWWWCC"; // without PPHH
    const got = alignPair(a, b);
    expect([...got.pairs]).toEqual([0, 1, 2, 3, 4, 5, 6, 7, -1, -1, -1, -1, 8, 9, 10, 11]);
    expect(got.score).toBe(score("WWHHCCWWWWCC", b) - GAP_OPEN - 4 * GAP_EXTEND);
  });

  it("charges nothing for overhanging ends", () => {
    expect(alignPair("AAAAWWCHHW", "WWCHHWDDDD").score).toBe(score("WWCHHW", "WWCHHW"));
    expect(alignPair("", "AC").score).toBe(0);
  });

  it("finds the best of all alignments", () => {
    for (const [a, b] of [["WACWH", "WCWH"], ["HEAGAW", "PAWHEA"], ["CCWPW", "CCW"], ["MKV", "GGG"], ["WWAPCH", "WWCH"]] as const)
      expect(alignPair(a, b).score, `${a} ${b}`).toBe(slow(a, b));
  });
});

describe("laying over columns", () => {
  it("puts anchors in column 0", () => {
    const laid = layByAnchor([{ sequence: "ABCDE", anchor: 2 }, { sequence: "XY", anchor: 0 }]);
    expect(laid.columns.map((c) => [...c])).toEqual([[-2, -1, 0, 1, 2], [0, 1]]);
    expect([laid.first, laid.last]).toEqual([-2, 2]);
  });

  it("keeps equal residues of a star in equal columns, and residues in order", () => {
    const core = "WWHHCCWWPPHHWWCC";
    const items = [
      { sequence: `MKT${core}AV`, anchor: 5 },
      { sequence: core.replace("PPHH", ""), anchor: 2 },
      { sequence: `GG${core.slice(0, 8)}DDDDD${core.slice(8)}`, anchor: 4 },
    ];
    const { columns } = layByStar(items);
    expect(columns[0]![5]).toBe(0); // the centre's anchor
    expect(columns[1]![0]).toBe(columns[0]![3]); // first W of the core
    expect(columns[2]![2]).toBe(columns[0]![3]);
    expect(columns[1]![11]).toBe(columns[0]![18]); // last C of the core
    expect(columns[2]!.at(-1)).toBe(columns[0]![18]);
    for (const c of columns) for (let i = 1; i < c.length; i++) expect(c[i]!).toBeGreaterThan(c[i - 1]!);
  });

  it("lays residues outside the window without gaps", () => {
    const sequence = "A".repeat(400);
    const { columns } = layByStar([{ sequence, anchor: 200 }, { sequence, anchor: 200 }], 20);
    expect([...columns[1]!]).toEqual([...columns[0]!]);
    expect(columns[0]![0]).toBe(-200);
  });
});
