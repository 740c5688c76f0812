import { describe, expect, it } from "vitest";
import { paretoFront } from "./pareto";

const at = (...pairs: [number, number][]) => pairs.map(([x, y]) => ({ x, y }));

describe("paretoFront", () => {
  it("keeps what nothing beats in both, by x", () => {
    expect(paretoFront(at([64, 0.1], [16, 0.3], [32, 0.35], [32, 0.2], [64, 0.2]))).toEqual([1, 3, 0]);
  });
  it("drops a point with the same x and more error, or the same error and larger x", () => {
    expect(paretoFront(at([16, 0.3], [16, 0.4], [32, 0.3]))).toEqual([0]);
  });
  it("keeps equal points, and leaves out what is not known", () => {
    expect(paretoFront(at([16, 0.3], [16, 0.3], [NaN, 0], [8, NaN]))).toEqual([0, 1]);
    expect(paretoFront([])).toEqual([]);
  });
  it("agrees with the definition on random points", () => {
    let seed = 7;
    const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
    const points = Array.from({ length: 60 }, () => ({ x: Math.ceil(random() * 9), y: Math.ceil(random() * 9) }));
    const beaten = (p: { x: number; y: number }) => points.some((q) => q.x <= p.x && q.y <= p.y && (q.x < p.x || q.y < p.y));
    expect([...paretoFront(points)].sort((a, b) => a - b)).toEqual(points.flatMap((p, i) => (beaten(p) ? [] : [i])));
  });
});
