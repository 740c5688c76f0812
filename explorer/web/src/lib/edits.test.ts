import { describe, expect, it } from "vitest";
import { formatEdit, formatEdits, parseEdit, parseEdits } from "./edits";

describe("edits as text", () => {
  it.each(["123:set:1.5xmax", "7:zero@120-140,150", "5:add:-2@active", "9:scale:0.5@masked", "4:set:0xmax@3"])("%s comes back as it was", (text) => {
    expect(formatEdit(parseEdit(text)!)).toBe(text);
  });
  it.each(["", "x:set:1", "1:set", "1:zero:3", "1:scale:2xmax", "1:set:1@10-", "1:explode:2", "1:set:1@<b>"])("%s is none", (text) => {
    expect(parseEdit(text)).toBeNull();
  });
  it("reads several and names what it can't read", () => {
    const { edits, wrong } = parseEdits("1:zero; 2:set:1 ;; nonsense;");
    expect(formatEdits(edits)).toBe("1:zero;2:set:1");
    expect(wrong).toEqual(["nonsense"]);
  });
  it("takes all for no place", () => {
    expect(parseEdit("3:zero@all")).toEqual({ latent: 3, operation: "zero", strength: 0, unit: "raw", where: "all" });
  });
});
