/** Annotations that a latent predicts, each against what a neuron and luck would give. */
import { memo, useMemo } from "react";
import { Link } from "wouter";
import type { ConceptScore, Latent, Score } from "../../api/queries";
import { conceptName } from "../../lib/concept";
import { GLOSSARY } from "../../lib/glossary";
import { count, fixed, sig } from "../../lib/format";
import { conceptHref } from "../../lib/links";
import { Chip, Empty, Panel, Term } from "../../ui/basics";
import { Icon } from "../../ui/icons";
import { OUTCOMES, type Outcome } from "./groups";

type Sort = "f1" | "precision" | "recall" | "n";
const OUTCOME_TERM = { true_positive: "truePositive", near_miss: "nearMiss", false_positive: "falsePositive" } as const;
const OUTCOME_NAME: Record<Outcome, string> = { true_positive: "hits", near_miss: "near", false_positive: "false" };

function order(concepts: readonly ConceptScore[], sort: Sort): ConceptScore[] {
  const key = (c: ConceptScore) => (sort === "n" ? c.n_positive : (c.score[sort] ?? -1));
  return [...concepts].sort((a, b) => key(b) - key(a));
}

export interface ConceptTableProps {
  latent: Latent;
  sort: Sort;
  chosen: string | null;
  onSort(sort: Sort): void;
  onShow(concept: string, outcome: Outcome): void;
}

export const ConceptTable = memo(function ConceptTable({ latent, sort, chosen, onSort, onShow }: ConceptTableProps) {
  const rows = useMemo(() => order(latent.concepts ?? [], sort), [latent.concepts, sort]);
  const head = (name: Sort, label: React.ReactNode) => (
    <th className="n" scope="col" aria-sort={sort === name ? "descending" : undefined}>
      {label} <button type="button" className="sort" aria-label={`Sort by ${name}`} onClick={() => onSort(name)}>{sort === name ? "" : "⇅"}</button>
    </th>
  );
  return (
    <Panel title="What it knows" className="conceptpanel" side={rows.length > 0 && <RangeLegend />}
      note={rows.length > 0 && "Thresholds are chosen on training families; figures are measured on families that were held out. Click a row to see where it fires and where it stays silent."}>
      {latent.concepts === null ? <Empty title="Not probed">This bundle was built without annotations, so no concept could be tested.</Empty>
        : rows.length === 0 ? <Empty title="No concept">No annotation is predicted by this latent better than by chance.</Empty>
        : (
          <div className="scroll-x" tabIndex={0} role="region" aria-label="Concepts of this latent">
            <table className="concepts">
              <thead>
                <tr>
                  <th scope="col">Concept</th>
                  {head("precision", <Term of="precision">Precision</Term>)}
                  {head("recall", <Term of="recall">Recall</Term>)}
                  {head("f1", <Term of="f1">F1</Term>)}
                  <th scope="col">F1 with 95 % interval</th>
                  <th className="n" scope="col"><Term of="threshold">Threshold</Term></th>
                  {head("n", "Residues")}
                  <th className="n" scope="col"><Term of="q">q</Term></th>
                  <th scope="col"><span className="visually-hidden">Examples</span></th>
                </tr>
              </thead>
              <tbody>
                {rows.map((c) => (
                  <tr key={c.concept} className={`click${c.concept === chosen ? " open" : ""}`} onClick={() => onShow(c.concept, "true_positive")}>
                    <td>
                      <Link href={conceptHref(c.concept)} onClick={(e) => e.stopPropagation()} title={c.concept}>{conceptName(c.concept)}</Link> <small>{c.kind}</small>
                      {c.is_best && <> <Chip tone="accent"><Icon name="check" size={11} />best latent</Chip></>}
                    </td>
                    <td className="n">{fixed(c.score.precision)}</td>
                    <td className="n">{fixed(c.score.recall)}</td>
                    <td className="n"><b>{fixed(c.score.f1)}</b></td>
                    <td><Range score={c.score} neuron={c.neuron} shuffled={c.shuffled_labels} /></td>
                    <td className="n">{sig(c.threshold)}</td>
                    <td className="n" title={`${count(c.n_called)} called; ${sig(100 * c.base_rate)} % of residues carry it, in ${count(c.n_clusters)} families`}>{count(c.n_positive)}</td>
                    <td className="n">{c.q === null ? "–" : c.q < 1e-3 ? "< 0.001" : fixed(c.q, 3)}</td>
                    <td className="rowactions"><span className="group-of">
                      {OUTCOMES.map((o) => (
                        <button key={o} type="button" className="button small" title={GLOSSARY[OUTCOME_TERM[o]]} onClick={(e) => { e.stopPropagation(); onShow(c.concept, o); }}>{OUTCOME_NAME[o]}</button>
                      ))}
                    </span></td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
    </Panel>
  );
});

const WIDTH = 150;

/** F1 as a dot with its interval on 0 … 1, beside the best neuron and shuffled labels. */
export function Range({ score, neuron, shuffled }: { score: Score; neuron: Score | null; shuffled: Score | null }) {
  const x = (v: number) => 5 + v * (WIDTH - 10);
  const parts = [`F1 ${fixed(score.f1)}`, score.f1_low !== null && `interval ${fixed(score.f1_low)} to ${fixed(score.f1_high)}`, neuron?.f1 != null && `best neuron ${fixed(neuron.f1)}`, shuffled?.f1 != null && `shuffled labels ${fixed(shuffled.f1)}`];
  return (
    <svg className="range" width={WIDTH} height={18} role="img" aria-label={parts.filter(Boolean).join(", ")}>
      <line x1={x(0)} x2={x(1)} y1={9} y2={9} className="track" />
      {[0, 0.5, 1].map((v) => <line key={v} x1={x(v)} x2={x(v)} y1={6} y2={12} className="track" />)}
      {shuffled?.f1 != null && <path d={`M${x(shuffled.f1) - 3.5},5.5l7,7m0,-7l-7,7`} className="shuffled" />}
      {score.f1_low !== null && score.f1_high !== null && <line x1={x(score.f1_low)} x2={x(score.f1_high)} y1={9} y2={9} className="interval" />}
      {neuron?.f1 != null && <path d={`M${x(neuron.f1)},3.5l5,5.5l-5,5.5l-5,-5.5z`} className="neuron" />}
      {score.f1 !== null && <circle cx={x(score.f1)} cy={9} r={4.2} className="dot" />}
    </svg>
  );
}

export function RangeLegend() {
  return (
    <span className="rangelegend">
      <span><svg width={14} height={14} className="range" aria-hidden="true"><circle cx={7} cy={7} r={4.2} className="dot" /></svg> this latent</span>
      <span><svg width={14} height={14} className="range" aria-hidden="true"><path d="M7,1.5l5,5.5l-5,5.5l-5,-5.5z" className="neuron" /></svg> <Term of="neuron">best neuron</Term></span>
      <span><svg width={14} height={14} className="range" aria-hidden="true"><path d="M3.5,3.5l7,7m0,-7l-7,7" className="shuffled" /></svg> <Term of="shuffled">shuffled labels</Term></span>
    </span>
  );
}
