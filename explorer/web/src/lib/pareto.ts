/** Trade-offs: which dictionaries no other one beats. */

export interface Point2 {
  x: number;
  y: number;
}

/** Indices of the points that no other one is at most at in both and below in one, by x. Equal points all stay. */
export function paretoFront(points: readonly Point2[]): number[] {
  const order = points.map((_, i) => i).sort((a, b) => points[a]!.x - points[b]!.x || points[a]!.y - points[b]!.y || a - b);
  const front: number[] = [];
  let least = Infinity;
  let at: Point2 | null = null;
  for (const i of order) {
    const p = points[i]!;
    if (!Number.isFinite(p.x) || !Number.isFinite(p.y)) continue;
    if (p.y < least || (at && p.x === at.x && p.y === at.y)) {
      front.push(i);
      least = p.y;
      at = p;
    }
  }
  return front;
}
