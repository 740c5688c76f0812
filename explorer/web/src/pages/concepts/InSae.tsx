/** A concept in one dictionary: its best latents, and what one gets without the dictionary. */
import { Link } from "wouter";
import type { Schemas } from "../../api/client";
import type { SAE, Score } from "../../api/queries";
import { siteName } from "../../lib/depth";
import { count, fixed } from "../../lib/format";
import type { TermKey } from "../../lib/glossary";
import { latentHref, saeHref } from "../../lib/links";
import { Chip, Empty, Panel, Term } from "../../ui/basics";
import { Icon } from "../../ui/icons";
import { LatentLink } from "../../ui/LatentLink";
import { Range, RangeLegend } from "../latent/ConceptTable";

type InSAE = Schemas["ConceptInSAE"];

const BASELINES: readonly [key: string, name: string, term: TermKey][] = [
  ["neuron", "Best neuron", "neuron"],
  ["component", "Best principal component", "component"],
  ["random", "Random dictionary", "random"],
  ["shuffled_labels", "Shuffled labels", "shuffled"],
  ["shuffled_parent", "Shuffled model", "shuffledParent"],
  ["all_positive", "Always yes", "allPositive"],
];

export function InSae({ concept, level, of, sae, several }: { concept: string; level: "residue" | "protein"; of: InSAE; sae: SAE | undefined; several: boolean }) {
  const best = of.latents.find((l) => l.is_best) ?? of.latents[0];
  const name = sae ? `${sae.model} · ${siteName(sae.site, sae.block)} · ${count(sae.d_sae)} latents${sae.k === null ? "" : `, k ${sae.k}`}` : of.sae;
  const side = <Link href={saeHref(of.sae)}>{name}</Link>;
  if (!best)
    return (
      <Panel title="Latents" side={side}>
        <Empty title="Too rare to test">
          {of.n_positive === 0 ? "No protein of the held-out part carries it" : `Only ${count(of.n_clusters)} protein families of the held-out part carry it`}, so no score would mean much. More proteins in the probes’ input change that.
        </Empty>
      </Panel>
    );
  return (
    <div className="conceptpair">
      <Panel title={several ? "Best latents of this dictionary" : "Best latents"} side={side} className="latentspanel"
        note="In the order of validation, so that the test figures stay honest: the first is the one that training chose.">
        <RangeLegend />
        <div className="scroll-x tablescroll" tabIndex={0} role="region" aria-label="Best latents">
          <table>
            <thead>
              <tr>
                <th scope="col">Latent</th>
                <th scope="col" className="n"><Term of="f1">F1</Term></th>
                <th scope="col" className="wide">F1, 95 % interval</th>
                <th scope="col" className="n"><Term of="precision">Precision</Term></th>
                <th scope="col" className="n"><Term of="recall">Recall</Term></th>
                <th scope="col" className="n"><Term of="auroc">AUROC</Term></th>
                {level === "residue" && <th scope="col"><span className="visually-hidden">Examples</span></th>}
              </tr>
            </thead>
            <tbody>
              {of.latents.map((l) => (
                <tr key={l.latent}>
                  <td className="bestcell">
                    <span>
                      <LatentLink of={l} />
                      {l.is_best && <Chip tone={l.found ? "accent" : "quiet"}>{l.found ? <><Icon name="check" size={11} />found</> : "chosen, not found"}</Chip>}
                    </span>
                  </td>
                  <td className="n"><b>{fixed(l.score.f1)}</b></td>
                  <td className="wide"><Range score={l.score} neuron={of.baselines.neuron ?? null} shuffled={of.baselines.shuffled_labels ?? null} /></td>
                  <td className="n">{fixed(l.score.precision)}</td>
                  <td className="n">{fixed(l.score.recall)}</td>
                  <td className="n">{fixed(l.score.auroc)}</td>
                  {level === "residue" && (
                    <td className="rowactions">
                      <Link className="button small" href={latentHref(of.sae, l.latent, `?tab=true_positive&c=${encodeURIComponent(concept)}`)}>hits</Link>
                      <Link className="button small" href={latentHref(of.sae, l.latent, `?tab=near_miss&c=${encodeURIComponent(concept)}`)}>near misses</Link>
                    </td>
                  )}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      </Panel>
      <Panel title="Against doing without" className="baselines" note="The same test, given other features to choose from.">
        <p className="verdict">{verdict(best.score, of.baselines)}</p>
        <Baselines best={best} baselines={of.baselines} />
      </Panel>
    </div>
  );
}

/** In a sentence, what the latent beats and what beats it. */
export function verdict(score: Score, baselines: Readonly<Record<string, Score>>): string {
  if (score.f1 === null) return "";
  const known = BASELINES.filter(([key]) => baselines[key]?.f1 != null);
  if (!known.length) return "";
  const better = known.filter(([key]) => baselines[key]!.f1! >= score.f1!).map(([, name]) => name.toLowerCase());
  if (!better.length) return "The latent does better than each of them.";
  return `${better.length === known.length ? "All" : better.length} of these ${better.length === 1 ? "does" : "do"} as well or better: ${better.join(", ")}. The dictionary adds little here.`;
}

function Baselines({ best, baselines }: { best: InSAE["latents"][number]; baselines: Readonly<Record<string, Score>> }) {
  const known = BASELINES.filter(([key]) => baselines[key]);
  return (
    <ul>
      <Line name={`Latent ${best.latent}`} score={best.score} own />
      {known.map(([key, name, term]) => <Line key={key} name={<Term of={term}>{name}</Term>} score={baselines[key]!} />)}
      {known.length === 0 && <li><small>The probes recorded no baselines.</small></li>}
    </ul>
  );
}

function Line({ name, score, own = false }: { name: React.ReactNode; score: Score; own?: boolean }) {
  const place = (v: number | null) => `${100 * (v ?? 0)}%`;
  const interval = score.f1_low !== null && score.f1_high !== null;
  return (
    <li className={own ? "own" : ""}>
      <span className="name">{name}</span>
      <span className="value">{fixed(score.f1)}{interval && <small>{fixed(score.f1_low)}–{fixed(score.f1_high)}</small>}</span>
      <span className="f1bar" aria-hidden="true">
        <i style={{ width: place(score.f1) }} />
        {interval && <b style={{ left: place(score.f1_low), right: `${100 - 100 * score.f1_high!}%` }} />}
      </span>
    </li>
  );
}
