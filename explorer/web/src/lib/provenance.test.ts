import { expect, it } from "vitest";
import { flatten } from "./provenance";

it("puts settings in rows, nested ones by their path, and leaves out what is unset", () => {
  const record = {
    made: "2025", run: { k: 40, d: { e: true }, none: null, empty: [], list: [1, 2] },
    stores: [{ site: "block4" }], hollow: { a: null },
  };
  expect(flatten(record)).toEqual([
    { name: "record", rows: [["made", "2025"]] },
    { name: "run", rows: [["k", "40"], ["d.e", "yes"], ["list", "1, 2"]] },
    { name: "stores", rows: [["site", "block4"]] },
  ]);
});

it("numbers the items of longer lists", () => {
  expect(flatten({ stores: [{ a: 1 }, { a: 2 }] })[0]!.rows).toEqual([["0.a", "1"], ["1.a", "2"]]);
});
