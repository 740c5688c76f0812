import { describe, expect, it } from "vitest";
import { nearest, pointSize, toMap, toScreen, WHOLE, zoomAt } from "./pointmap";

describe("the map's view", () => {
  it("goes to the screen and back", () => {
    const view = { x: 0.3, y: -0.2, zoom: 4 };
    const [px, py] = toScreen(view, 800, 600, 0.5, 0.1);
    const [x, y] = toMap(view, 800, 600, px, py);
    expect(x).toBeCloseTo(0.5);
    expect(y).toBeCloseTo(0.1);
    expect(toScreen(WHOLE, 800, 600, 0, 0)).toEqual([400, 300]);
  });

  it("zooms about the pointer", () => {
    const before = toMap(WHOLE, 500, 500, 100, 420);
    const after = toMap(zoomAt(WHOLE, 500, 500, 100, 420, 3), 500, 500, 100, 420);
    expect(after[0]).toBeCloseTo(before[0]);
    expect(after[1]).toBeCloseTo(before[1]);
    expect(zoomAt(WHOLE, 500, 500, 0, 0, 1e9).zoom).toBe(200);
  });

  it("finds the nearest of those that are shown", () => {
    const [x, y] = [[0, 0.01, 0.5], [0, 0, 0.5]];
    expect(nearest(x, y, [0, 1, 2], WHOLE, 500, 500, 250, 250)).toBe(0);
    expect(nearest(x, y, [1, 2], WHOLE, 500, 500, 250, 250)).toBe(1);
    expect(nearest(x, y, [0, 1, 2], WHOLE, 500, 500, 20, 20)).toBe(-1);
  });

  it("draws many points small", () => {
    expect(pointSize(131_072, 1, 600)).toBe(2);
    expect(pointSize(2048, 1, 600)).toBeGreaterThan(4);
  });
});
