/** What the raters said of latents, neurons and noise. */
import { useQuery } from "@tanstack/react-query";
import { apiUrl, get, type Schemas } from "../../api/client";
import type { SAE } from "../../api/queries";
import { count, fixed } from "../../lib/format";
import { Empty, Figure, Panel, Problem, Skeleton, Term } from "../../ui/basics";
import { Icon } from "../../ui/icons";
import { SCORES } from "./Judge";

type Kind = Schemas["RatingKind"];

const KINDS: Record<Kind["kind"], [name: string, what: string]> = {
  latent: ["Latents", "of the dictionary"],
  neuron: ["Neurons", "single dimensions of the model"],
  shuffled: ["Shuffled", "latents with their values moved to random residues"],
};

export function Summary({ sae }: { sae: SAE }) {
  const { data, error, refetch } = useQuery({
    queryKey: ["rate-summary", sae.id],
    queryFn: ({ signal }) => get<Schemas["RatingSummary"]>("rate/summary", { sae: sae.id }, signal),
  });
  const side = data && data.ratings > 0 && <a className="button small" href={apiUrl("ratings.jsonl")} download="ratings.jsonl"><Icon name="download" size={13} /> Ratings as JSON lines</a>;
  return (
    <Panel title="What raters see" className="ratesummary" side={side} note="Mean score and its 95 % interval over features. Latents are worth reading where they stand clear of neurons and of noise. Looking here before you have rated makes the rating less blind.">
      {error ? <Problem error={error} retry={() => void refetch()} /> : !data ? <Skeleton lines={4} /> : data.ratings === 0 ? (
        <Empty title="No rating yet">Means of the three kinds and the raters’ agreement show here.</Empty>
      ) : (
        <>
          <dl className="figures">
            <Figure name="Ratings">{count(data.ratings)}</Figure>
            <Figure name="Raters">{count(data.raters)}</Figure>
            <Figure name={<Term of="agreement">Agreement α</Term>} sub={data.agreement === null && "needs two raters of one feature"}>{fixed(data.agreement)}</Figure>
          </dl>
          <ul className="means">
            {data.kinds.map((k) => <Mean key={k.kind} of={k} />)}
            <li className="ends" aria-hidden="true"><span /><span className="scaleends"><small>1 {SCORES[0]}</small><small>5 {SCORES[4]}</small></span><span /></li>
          </ul>
        </>
      )}
    </Panel>
  );
}

/** A mean on 1 … 5 with its interval. */
function Mean({ of }: { of: Kind }) {
  const [name, what] = KINDS[of.kind];
  const place = (score: number) => `${(100 * (Math.min(5, Math.max(1, score)) - 1)) / 4}%`;
  return (
    <li>
      <span className="name">{name} <small>{what}</small></span>
      <span className="mean" role="img" aria-label={of.mean === null ? "no rating" : `mean ${fixed(of.mean)}${of.low === null ? "" : `, interval ${fixed(of.low)} to ${fixed(of.high)}`}`}>
        {[2, 3, 4].map((tick) => <i key={tick} className="tick" style={{ left: place(tick) }} />)}
        {of.low !== null && of.high !== null && <i className="interval" style={{ left: place(of.low), right: `calc(100% - ${place(of.high)})` }} />}
        {of.mean !== null && <i className={`dot ${of.kind}`} style={{ left: place(of.mean) }} />}
      </span>
      <span className="value"><b>{fixed(of.mean)}</b> <small>{count(of.n)} rated</small></span>
    </li>
  );
}
