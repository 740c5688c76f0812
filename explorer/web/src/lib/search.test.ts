import { describe, expect, it } from "vitest";
import { searchIndex, type SearchIndex } from "./search";

const data: SearchIndex = {
  latents: [
    ["a", 7, "around L0", "HELIX (UniProt)", 0.15],
    ["a", 3, "helix (F1 0.50)", "helix", 0.5],
    ["a", 5, "helix (precision 0.91): L0", "helix", 1.46],
    ["a", 6, "polar in helix (precision 0.60)", "helix", 1.1],
    ["a", 8, "charged", "TRANSMEM Helical", 0.3],
  ],
  concepts: ["helix", "HELIX (UniProt)", "strand", "ZN_FING C4", "BINDING Zn(2+)", "BINDING GTP", "ACT_SITE", "TRANSMEM Helical", "A"],
  proteins: [["P1", "Zinc transporter"]],
  features: { ACT_SITE: "active site", TRANSMEM: "transmembrane", ZN_FING: "zinc finger", helix: "alpha helix helical", strand: "beta strand sheet" },
  ligands: { zinc: "zn" },
};
const found = (query: string, type: string) =>
  searchIndex(data, query, "a", 20)
    .hits.filter((hit) => hit.type === type)
    .map((hit) => (type === "latent" ? hit.latent : hit.title));

describe("searchIndex", () => {
  it("shows latents that are confirmed and precise before those of a good F1", () => {
    expect(found("helix", "latent")).toEqual([5, 6, 3, 7]);
    expect(found("helix", "concept")).toEqual(["helix", "HELIX (UniProt)"]);
  });
  it("knows what people call UniProt's keys and ligands", () => {
    expect(found("alpha helix", "concept")).toEqual(["helix", "HELIX (UniProt)"]);
    expect(found("α-helix", "latent")).toEqual([5, 6, 3, 7]);
    expect(found("beta strand", "concept")).toEqual(["strand"]);
    expect(found("zinc", "concept")).toEqual(["ZN_FING C4", "BINDING Zn(2+)"]);
    expect(found("zinc", "protein")).toEqual(["P1"]);
    expect(found("zinc binding", "concept")).toEqual(["BINDING Zn(2+)"]);
    expect(found("active site", "concept")).toEqual(["ACT_SITE"]);
    expect(found("transmembrane", "latent")).toEqual([8]);
    expect(found("a.c(", "concept")).toEqual([]);
  });
  it("finds a latent by its number", () => {
    expect(found("#7", "latent")).toEqual([7]);
  });
});
