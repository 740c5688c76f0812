/** How well each of two dictionaries knows every concept. */
import * as P from "@observablehq/plot";
import { useQuery } from "@tanstack/react-query";
import { useCallback, useMemo } from "react";
import { Link } from "wouter";
import { conceptsQuery, type SAE } from "../../api/queries";
import { conceptName } from "../../lib/concept";
import { count, fixed } from "../../lib/format";
import { conceptHref } from "../../lib/links";
import { Empty, Figure, Panel, Problem, Skeleton, Term } from "../../ui/basics";
import { LatentLink } from "../../ui/LatentLink";
import { Plot } from "../../ui/Plot";

const HALF = 0.5;

export function Coverage({ a, b }: { a: SAE; b: SAE }) {
  const { data, error } = useQuery(conceptsQuery);
  const rows = useMemo(() => (data ?? []).flatMap((c) => {
    const [x, y] = [c.best[a.id], c.best[b.id]];
    return x && y && x.score.f1 !== null && y.score.f1 !== null ? [{ concept: c.concept, x, y, fx: x.score.f1, fy: y.score.f1 }] : [];
  }).sort((p, q) => Math.abs(q.fx - q.fy) - Math.abs(p.fx - p.fy)), [data, a.id, b.id]);
  const draw = useCallback((): P.PlotOptions => ({
    marginLeft: 46, marginBottom: 38, aspectRatio: 1, x: { label: "F1 in the first →", domain: [0, 1], labelAnchor: "center" }, y: { label: "↑ F1 in the second", domain: [0, 1], grid: true },
    marks: [
      P.line([[0, 0], [1, 1]], { stroke: "currentColor", strokeOpacity: 0.35, strokeDasharray: "3,3" }),
      P.dot(rows, { x: "fx", y: "fy", r: 4, fill: (r: (typeof rows)[number]) => (r.fy > r.fx ? "#E69F00" : "#0072B2"), stroke: "var(--card)" }),
      P.tip(rows, P.pointer({ x: "fx", y: "fy", title: (r: (typeof rows)[number]) => `${conceptName(r.concept)}\n${r.fx.toFixed(2)} and ${r.fy.toFixed(2)}`, fill: "var(--card)", stroke: "var(--line-2)" })),
    ],
  }), [rows]);
  const over = (f: (r: (typeof rows)[number]) => boolean) => rows.filter(f).length;
  return (
    <Panel title="Concept coverage" note={<>Each concept by the latent that training chose in either dictionary; <Term of="f1">F1</Term> on unseen homology clusters.</>}>
      {error ? <Problem error={error} /> : !data ? <Skeleton lines={8} /> : rows.length === 0 ? <Empty title="No concept in common">Build both bundles with probes on the same annotations.</Empty> : <>
        <dl className="figures">
          <Figure name="Concepts" sub="scored in both">{count(rows.length)}</Figure>
          <Figure name="F1 > 0.5 in both">{count(over((r) => r.fx > HALF && r.fy > HALF))}</Figure>
          <Figure name="… in the first only">{count(over((r) => r.fx > HALF && r.fy <= HALF))}</Figure>
          <Figure name="… in the second only">{count(over((r) => r.fx <= HALF && r.fy > HALF))}</Figure>
        </dl>
        <div className="comparegrid">
          <Plot label="F1 of every concept in both dictionaries" height={420} draw={draw} />
          <div className="tablescroll tall scroll-x" tabIndex={0} role="region" aria-label="Concepts in both dictionaries">
            <table>
              <thead><tr><th scope="col">Concept</th><th scope="col" className="n">First</th><th scope="col" className="n">Second</th><th scope="col">Latents</th></tr></thead>
              <tbody>{rows.slice(0, 200).map((r) => (
                <tr key={r.concept}><td><Link href={conceptHref(r.concept)}>{conceptName(r.concept)}</Link></td><td className="n">{fixed(r.fx)}</td><td className="n">{fixed(r.fy)}</td><td><LatentLink of={r.x} /> <LatentLink of={r.y} /></td></tr>
              ))}</tbody>
            </table>
          </div>
        </div>
      </>}
    </Panel>
  );
}
