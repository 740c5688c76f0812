import { describe, expect, it } from "vitest";
import { interval, number, oneOf, polygon, readState, text, texts, writeState } from "./urlstate";

const spec = {
  tab: oneOf(["top", "q1"], "top"), zoom: number(10, 1, 40), q: text(), tags: texts(), f: interval(), lasso: polygon(),
};

describe("state in the query string", () => {
  it("leaves out defaults and keeps what is not its own", () => {
    expect(writeState(spec, "other=1&tab=q1", { tab: "top", zoom: 10 })).toBe("other=1");
  });

  it("comes back as it was", () => {
    const state = {
      tab: "q1", zoom: 3.5, q: "a&b=ü <script>", tags: ["one, two", "100%", "x"], f: [0.001, 0.25], lasso: [[0.1, -0.5], [1, 1], [-1, 0.333]],
    } as const;
    expect(readState(spec, writeState(spec, "", state))).toEqual(state);
  });

  it("takes nonsense for the default", () => {
    const state = readState(spec, "tab=evil&zoom=zebra&f=3~1&lasso=1.2.3&q=%zz");
    expect(state).toMatchObject({ tab: "top", zoom: 10, f: null, lasso: [] });
    expect(readState(spec, "zoom=1e9").zoom).toBe(40);
    expect(readState(spec, "f=").f).toBeNull();
  });
});
