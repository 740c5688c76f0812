import { describe, expect, it } from "vitest";
import { MotifError, motifMatches, motifRegex, motifWords, parseMotif, readAs } from "./motif";

const matches = (motif: string, sequence: string) => motifMatches(parseMotif(motif), sequence);

describe("motifs", () => {
  it.each([
    ["C-x(2,4)-C", "C[A-Z]{2,4}C"],
    ["[ST]-x-{P}", "[ST][A-Z][^P]"],
    ["<M-A(3)>", "^MA{3}$"],
    ["c-X-h.", "C[A-Z]H"],
  ])("%s is %s", (text, regex) => expect(motifRegex(parseMotif(text))).toBe(regex));

  it.each(["", "C-", "C-x(4,2)-C", "C-x(0)", "C-B", "C-x(999)", "C-(2)", "[ST", "C x y-"])("refuses %j", (text) =>
    expect(() => parseMotif(text)).toThrow(MotifError),
  );

  it("finds overlapping matches and the ends", () => {
    expect(matches("C-x(2)-C", "CAACAACC")).toEqual([[0, 3], [3, 6]]);
    expect(matches("N-{P}-[ST]-{P}", "NPSANGTA")).toEqual([[4, 7]]);
    expect(matches("<M-x", "MKMK")).toEqual([[0, 1]]);
    expect(matches("K>", "KAK")).toEqual([[2, 2]]);
    expect(matches("A(3)>", "AAAAA")).toEqual([[2, 4]]);
  });

  it("agrees with its regular expression", () => {
    const sequence = "MCACCAGCHTHNGSTNPSCCAAHKKDEHCAC".repeat(3);
    for (const text of ["C-x(2,4)-C", "[HC]-x(0,3)-H", "{C}(2)-A", "A-x(1,5)-C-x(1,5)-C"]) {
      const re = new RegExp(`(?=(${motifRegex(parseMotif(text))}))`, "g");
      expect(matches(text, sequence).map(([from]) => from), text).toEqual([...sequence.matchAll(re)].map((m) => m.index));
    }
  });

  it("is not slowed by a pattern that backtracks", () => {
    const began = performance.now();
    expect(matches(`${Array(30).fill("x(0,30)").join("-")}-W`, "A".repeat(300))).toEqual([]);
    expect(performance.now() - began).toBeLessThan(3000);
  });

  it("says what it read", () => expect(motifWords(parseMotif("<C-x(2,4)-{P}"))).toBe("at the start, C, 2 to 4 × any, not P"));
});

describe("what a query is", () => {
  it.each([
    ["helix", "text"], ["zinc finger", "text"], ["#123", "latent"], ["latent 7", "latent"], ["P12345", "accession"],
    ["A0A024RBG1", "accession"], ["1cbs", "accession"], ["C-x(2,4)-C", "motif"], ["[ST]-x-[RK]", "motif"], ["C-x(2", "motif"],
    ["MKTAYIAKQRQISFVK", "sequence"], ["MEMBRANE", "text"], ["beta-barrel", "text"], ["  ", "nothing"],
  ])("%s is read as %s", (query, kind) => expect(readAs(query)).toBe(kind));
});
