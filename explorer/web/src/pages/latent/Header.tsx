/** Name, figures and the way on to other latents. */
import { memo, useState } from "react";
import { Link } from "wouter";
import { type Latent, type SAE } from "../../api/queries";
import { conceptName } from "../../lib/concept";
import { count, fixed, percent, sig } from "../../lib/format";
import { splitLabel } from "../../lib/label";
import { saeHref } from "../../lib/links";
import { Chip, Figure, Term, Tip } from "../../ui/basics";
import { Icon } from "../../ui/icons";
import { AddToList } from "./AddToList";

const SOURCE: Record<string, string> = {
  annotation: "Named after the annotation that best covers where it fires.",
  logo: "Named after the letters around its strongest residues.",
  "amino acid": "Named after the one amino acid it fires on.",
  "amino-acid class": "Named after the class of amino acids it fires on.",
  concept: "Named after the concept that it predicts best.",
  kind: "Named after how it fires.",
};

export interface HeaderProps {
  sae: SAE | undefined;
  latent: Latent;
  go(to: "next" | "previous" | "random"): void;
}

export const Header = memo(function Header({ sae, latent, go }: HeaderProps) {
  const [words, letters] = splitLabel(latent.label);
  return (
    <div className="latenthead">
      <nav className="crumbs" aria-label="Where this is">
        <Link href={saeHref(latent.sae)}>{sae ? `${sae.model} · ${sae.site}` : latent.sae}</Link>
        <span aria-hidden="true">/</span>
        <span>latent {latent.latent}</span>
      </nav>
      <div className="titlerow">
        <h1>
          <span className="number">{latent.latent}</span>
          {words || `Latent ${latent.latent}`}
          {letters && <code className="letters">{letters}</code>}
        </h1>
        <div className="actions">
          <span className="group-of" role="group" aria-label="Other latents">
            <button type="button" className="iconbutton" aria-label="Previous latent" title="Previous (k)" disabled={latent.previous === null} onClick={() => go("previous")}><Icon name="left" /></button>
            <button type="button" className="iconbutton" aria-label="Random latent" title="Random (r)" onClick={() => go("random")}><Icon name="dice" /></button>
            <button type="button" className="iconbutton" aria-label="Next latent" title="Next (j)" disabled={latent.next === null} onClick={() => go("next")}><Icon name="right" /></button>
          </span>
          <AddToList sae={latent.sae} latent={latent.latent} />
          <ShareButton />
        </div>
      </div>
      <p className="chips">
        <Tip text={SOURCE[latent.label_source] ?? `Label from: ${latent.label_source}`}>
          <Chip tone="quiet">named by {latent.label_source}</Chip>
        </Tip>
        <Chip tone="accent">{latent.kind}</Chip>
        {latent.flags.filter((f) => f !== latent.kind).map((flag) => <Chip key={flag}>{flag}</Chip>)}
        {latent.n_active === 0 && <Chip tone="warn">dead</Chip>}
        {latent.precise?.confirmed && <Chip tone="accent"><Icon name="check" size={12} /> <Term of="confirmed">confirmed on unseen families</Term></Chip>}
      </p>
      <Figures latent={latent} />
    </div>
  );
});

function Figures({ latent }: { latent: Latent }) {
  const { precise } = latent;
  return (
    <dl className="figures">
      <Figure name={<Term of="frequency">Fires on</Term>} sub={`${count(latent.n_active)} residues`}>{percent(latent.frequency)}</Figure>
      <Figure name={<Term of="proteinFrequency">In proteins</Term>} sub={count(latent.n_proteins)}>{percent(latent.protein_frequency)}</Figure>
      <Figure name={<Term of="max">Maximum</Term>}>{sig(latent.max)}</Figure>
      <Figure name={<Term of="p99">99th percentile</Term>}>{sig(latent.p99)}</Figure>
      {latent.span !== null && <Figure name={<Term of="span">Run length</Term>}>{fixed(latent.span, 1)}</Figure>}
      {Math.abs(latent.decoder_norm - 1) > 1e-3 && <Figure name={<Term of="decoderNorm">Norm</Term>}>{sig(latent.decoder_norm)}</Figure>}
      {precise && (
        <Figure name={<><Term of="precision">Precision</Term> at {conceptName(precise.concept)}</>} sub={<>expected <Term of="expected">{fixed(precise.expected)}</Term></>}>
          {fixed(precise.precision)}
          {precise.precision_low !== null && <small>{fixed(precise.precision_low)}–{fixed(precise.precision_high)}</small>}
        </Figure>
      )}
    </dl>
  );
}

function ShareButton() {
  const [said, setSaid] = useState("");
  const share = async () => {
    try {
      await navigator.clipboard.writeText(window.location.href);
      setSaid("Link copied");
    } catch {
      window.prompt("The link to this view:", window.location.href);
    }
    setTimeout(() => setSaid(""), 2200);
  };
  return (
    <button type="button" className="button" onClick={() => void share()} title="Copy the link to exactly this view">
      <Icon name={said ? "check" : "share"} size={14} /> <span role="status">{said || "Link"}</span>
    </button>
  );
}
