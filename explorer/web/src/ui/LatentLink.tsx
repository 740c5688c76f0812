/** A latent as a link: its number, what it is called, and the letters around its peak. */
import { Link } from "wouter";
import { latentHref } from "../lib/links";
import { splitLabel } from "../lib/label";

export function LatentLink({ of, query = "" }: { of: { sae: string; latent: number; label: string }; query?: string }) {
  const [words, letters] = splitLabel(of.label);
  return (
    <Link href={latentHref(of.sae, of.latent, query)} className="latentlink" title={of.label}>
      <span className="number">{of.latent}</span>
      <span className="words">{words || "no label"}{letters && <code>{letters}</code>}</span>
    </Link>
  );
}
