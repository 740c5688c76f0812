/** Every answer to a search on one page. */
import { useQuery } from "@tanstack/react-query";
import { Link } from "wouter";
import { motifQuery, saesQuery, useCapabilities, type SearchHit } from "../../api/queries";
import { count, fixed, plural } from "../../lib/format";
import { latentHref, proteinHref } from "../../lib/links";
import { motifWords, parseMotif, readAs } from "../../lib/motif";
import { hitHref, search } from "../../lib/search";
import { grouped, hint } from "../../shell/SearchBox";
import { Chip, Empty, Panel, Problem, Select, Skeleton, Term, useTitle } from "../../ui/basics";

const GROUPS: Record<SearchHit["type"], string> = { latent: "Latents", concept: "Concepts", protein: "Proteins", sae: "Dictionaries" };

export function Results({ q, inside, onInside }: { q: string; inside: string; onInside(sae: string): void }) {
  const { data: saes } = useQuery(saesQuery);
  const { max_page, mode } = useCapabilities();
  const sae = saes?.find((s) => s.id === inside)?.id ?? saes?.[0]?.id ?? "";
  const kind = readAs(q);
  const said = hint(q, mode === "static");
  useTitle(`“${q}”`);
  return (
    <div className="stack">
      <div className="pagehead">
        <h1>Answers to <span className="mono quote">{q}</span></h1>
        {(saes?.length ?? 0) > 1 && <Select label="Latents of" value={sae} onChange={onInside} options={(saes ?? []).map((s) => ({ value: s.id, label: s.name }))} />}
      </div>
      {said.wrong ? <Empty title="This is no search yet">{said.text}</Empty>
        : kind === "motif" ? <Motif pattern={q} sae={sae} />
        : <Hits q={q} sae={inside || undefined} n={Math.min(100, max_page)} note={said.text} />}
    </div>
  );
}

function Hits({ q, sae, n, note }: { q: string; sae: string | undefined; n: number; note: string }) {
  const { data, error, isPending, refetch } = useQuery({ queryKey: ["search", q, sae, n], queryFn: ({ signal }) => search(q, sae, n, signal), retry: false });
  if (error) return <Problem error={error} retry={() => void refetch()} />;
  if (isPending) return <Skeleton lines={8} />;
  if (data.hits.length === 0)
    return <Empty title="Nothing found">{data.read_as === "sequence" ? "No bundled protein has this sequence or contains it." : "Try a concept such as helix or zinc, a latent's number, an accession, or a motif such as C-x(2,4)-C."}</Empty>;
  const hits = grouped(data.hits);
  const types = [...new Set(hits.map((h) => h.type))];
  return (
    <>
      <p className="note">{note && `${note}. `}{plural(data.total, "answer")}{data.total > hits.length && `, the best ${hits.length} of them here`}.</p>
      <div className="resultgrid">
        {types.map((type) => (
          <Panel key={type} title={GROUPS[type]}>
            <ul className="answers">
              {hits.filter((h) => h.type === type).map((hit, i) => (
                <li key={i}><Link href={hitHref(hit)}>{hit.title}</Link><small>{hit.subtitle}</small></li>
              ))}
            </ul>
          </Panel>
        ))}
      </div>
    </>
  );
}

function Motif({ pattern, sae }: { pattern: string; sae: string }) {
  const { data, error, isPending, refetch } = useQuery({ ...motifQuery(pattern, sae), enabled: sae !== "", retry: false });
  const m = `?m=${encodeURIComponent(pattern)}`;
  if (error) return <Problem error={error} retry={() => void refetch()} />;
  if (isPending) return <Skeleton lines={8} />;
  return (
    <>
      <p className="note">Motif: {motifWords(parseMotif(pattern))}. {plural(data.n_matches, "match", "matches")} in {plural(data.n_proteins, "protein")}.</p>
      <div className="resultgrid two">
        <Panel title="Latents that fire on it">
          {data.latents.length === 0 ? <Empty title="None">No latent prefers these stretches.</Empty> : (
            <div className="scroll-x" tabIndex={0} role="region" aria-label="Latents on the motif">
              <table>
                <thead><tr><th scope="col">Latent</th><th className="n" scope="col"><Term of="precision">Precision</Term></th><th className="n" scope="col"><Term of="recall">Recall</Term></th><th className="n" scope="col">F1</th></tr></thead>
                <tbody>
                  {data.latents.map((l) => (
                    <tr key={l.latent}>
                      <td><Link href={latentHref(l.sae, l.latent, m)}><span className="number">{l.latent}</span> {l.label}</Link> <Chip>{l.kind}</Chip></td>
                      <td className="n">{fixed(l.precision)}</td><td className="n">{fixed(l.recall)}</td><td className="n"><b>{fixed(l.f1)}</b></td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          )}
        </Panel>
        <Panel title="Proteins that have it" side={<small>{count(data.hits.length)} shown</small>}>
          {data.hits.length === 0 ? <Empty title="None" /> : (
            <ul className="answers">
              {data.hits.map((h) => (
                <li key={h.accession}><Link href={`${proteinHref(h.accession, sae)}&m=${encodeURIComponent(pattern)}`}>{h.accession}</Link>
                  <small>{h.matches.slice(0, 4).map(([a, b]) => `${a}–${b}`).join(", ")}{h.matches.length > 4 && ` and ${h.matches.length - 4} more`} of {h.length} · {h.description}</small></li>
              ))}
            </ul>
          )}
        </Panel>
      </div>
    </>
  );
}
