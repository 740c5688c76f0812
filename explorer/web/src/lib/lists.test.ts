import { describe, expect, it } from "vitest";
import { fileName, listCsv, listJsonl, readLatents } from "./lists";

const list = {
  id: "x", name: "Zinc, maybe", description: "", changed: "2025-01-01T00:00:00Z",
  items: [
    { sae: "esm/block4", latent: 3, label: '=HYPERLINK("x"), C-x(2)-C', kind: "motif-like" },
    { sae: "esm/block4", latent: 12, label: "helix", kind: "periodic" },
  ],
};
const page = (sae: string, latent: number) => `http://h/sae/${encodeURIComponent(sae)}/latent/${latent}`;

describe("files of a list", () => {
  it("quotes commas and quotes, and never starts a cell with a formula", () => {
    expect(listCsv(list, page).split("\r\n")).toEqual([
      "sae,latent,label,kind,page",
      'esm/block4,3,"\'=HYPERLINK(""x""), C-x(2)-C",motif-like,http://h/sae/esm%2Fblock4/latent/3',
      "esm/block4,12,helix,periodic,http://h/sae/esm%2Fblock4/latent/12",
      "",
    ]);
  });
  it("writes one JSON object a line, labels untouched", () => {
    const lines = listJsonl(list, page).trimEnd().split("\n").map((l) => JSON.parse(l));
    expect(lines).toHaveLength(2);
    expect(lines[0]).toEqual({ list: "Zinc, maybe", sae: "esm/block4", latent: 3, label: list.items[0]!.label, kind: "motif-like", page: page("esm/block4", 3) });
  });
  it("has a file name without slashes, dots in front, or nothing", () => {
    expect(fileName("Zinc, maybe", "csv")).toBe("Zinc-maybe.csv");
    expect(fileName("../../etc/passwd", "csv")).toBe("etc-passwd.csv");
    expect(fileName("锌", "jsonl")).toBe("list.jsonl");
  });
});

describe("readLatents", () => {
  it("takes numbers apart by commas, spaces and lines, each once", () => {
    expect(readLatents("12, 45\n#7 12;", 100)).toEqual({ latents: [12, 45, 7], wrong: [] });
  });
  it("tells what is no latent of this dictionary", () => {
    expect(readLatents("12, 100, -3, 1.5, x", 100)).toEqual({ latents: [12], wrong: ["100", "-3", "1.5", "x"] });
  });
});
