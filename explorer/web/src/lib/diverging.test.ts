import { describe, expect, it } from "vitest";
import { divergingScale } from "./diverging";

const lightness = (css: string) => css.match(/\d+/g)!.map(Number).reduce((a, b) => a + b);

describe("the scale of changes", () => {
  it.each([false, true])("goes one way on each side of nothing (dark: %s)", (dark) => {
    const scale = divergingScale(2, dark);
    const sign = dark ? -1 : 1;
    for (const side of [1, -1]) {
      const steps = [0, 0.5, 1, 1.5, 2].map((v) => sign * lightness(scale.css(side * v)));
      expect(steps).toEqual([...steps].sort((a, b) => b - a));
    }
    expect(scale.css(1)).not.toBe(scale.css(-1));
  });
  it("takes nonsense for nothing and clips the rest", () => {
    const scale = divergingScale(0, false);
    expect(scale.limit).toBe(1);
    expect(scale.css(NaN)).toBe(scale.css(0));
    expect(scale.css(99)).toBe(scale.css(1));
  });
});
