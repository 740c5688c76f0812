import { describe, expect, it } from "vitest";
import { activationScale, CATEGORIES, categoryColours, contrast, DARK_STOPS, interpolate, LIGHT_STOPS, luminance, OTHER, type Rgb } from "./colour";

const rgbOf = (css: string) => css.match(/\d+/g)!.map(Number) as unknown as Rgb;

describe("the activation scale", () => {
  it.each([["light", LIGHT_STOPS, -1], ["dark", DARK_STOPS, 1]] as const)("changes lightness one way only (%s)", (_, stops, sign) => {
    for (let i = 1; i <= 100; i++)
      expect(sign * (luminance(interpolate(stops, i / 100)) - luminance(interpolate(stops, (i - 1) / 100)))).toBeGreaterThan(0);
  });

  it("is absolute, clips, and keeps 0 for a latent that never fires", () => {
    const scale = activationScale(4, false);
    expect(scale.rgb(0)).toEqual(LIGHT_STOPS[0]);
    expect(scale.rgb(4)).toEqual(LIGHT_STOPS.at(-1));
    expect(scale.rgb(9)).toEqual(scale.rgb(4));
    expect(scale.rgb(Number.NaN)).toEqual(scale.rgb(0));
    expect(activationScale(8, false).rgb(4)).toEqual(activationScale(2, false).rgb(1));
    expect(activationScale(0, true).max).toBe(1);
  });

  it.each([false, true])("letters upon it can be read (dark %s)", (dark) => {
    const scale = activationScale(1, dark);
    for (let v = 0; v <= 1; v += 0.02) expect(contrast(rgbOf(scale.ink(v)), scale.rgb(v)), `at ${v}`).toBeGreaterThan(4.2);
  });
});

it("categories have distinct colours, and the rest share one", () => {
  const map = categoryColours(["a", "b", ..."cdefghij"]);
  expect(map.get("a")).toBe(CATEGORIES[0]);
  expect(new Set([...map.values()].slice(0, 7)).size).toBe(7);
  expect(map.get("j")).toBe(OTHER);
});
