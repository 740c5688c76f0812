/** What splits as a dictionary grows, and what merges. */
import { useQuery } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import type { Schemas } from "../../api/client";
import { columnsQuery, type SAE } from "../../api/queries";
import { count, fixed, plural } from "../../lib/format";
import { Empty, Panel, Tabs } from "../../ui/basics";
import { LatentLink } from "../../ui/LatentLink";
import { splits } from "./splits";

const MOST = 40;
const PARTS = 6;

export function Splits({ of, a, b, least, onLeast, onPair }: { of: Schemas["Compared"]; a: SAE; b: SAE; least: number; onLeast(least: number): void; onPair(la: number, lb: number): void }) {
  const [side, setSide] = useState<"splits" | "merges">("splits");
  const { data: first } = useQuery(columnsQuery(a.id));
  const { data: second } = useQuery(columnsQuery(b.id));
  const all = useMemo(() => ({ splits: splits(of.back, least), merges: splits(of.forth, least) }), [of, least]);
  const [whole, parts] = side === "splits" ? [a, b] : [b, a];
  const [wholes, labels] = side === "splits" ? [first, second] : [second, first];
  const found = all[side];
  return (
    <Panel title="Splits and merges" note={side === "splits" ? "A latent of the first that is the nearest of several in the second: what it stands for is told apart there." : "Several latents of the first whose nearest is one in the second: there they are one."}>
      <div className="toolrow">
        <Tabs<"splits" | "merges"> small label="Which" value={side} onChange={setSide} options={[{ value: "splits", label: `${count(all.splits.length)} split` }, { value: "merges", label: `${count(all.merges.length)} merge` }]} />
        <label className="select"><span>{of.by} of at least {fixed(least)}</span><input type="range" min={0} max={0.95} step={0.05} value={least} onChange={(e) => onLeast(Number(e.target.value))} /></label>
      </div>
      {found.length === 0 ? <Empty title="None">No latent has several near ones at this {of.by}.</Empty> : (
        <div className="tablescroll tall scroll-x" tabIndex={0} role="region" aria-label={side}>
          <table className="pairs">
            <thead><tr><th scope="col">{side === "splits" ? "In the first" : "In the second"}</th><th scope="col">{side === "splits" ? "In the second" : "In the first"}</th></tr></thead>
            <tbody>{found.slice(0, MOST).map((s) => (
              <tr key={s.latent}>
                <td><LatentLink of={{ sae: whole.id, latent: s.latent, label: wholes?.label[s.latent] ?? "" }} /><small className="quiet">{plural(s.into.length, "part")}</small></td>
                <td>{s.into.slice(0, PARTS).map((p) => (
                  <div key={p.latent} className="splitpart"><button type="button" className="chip quiet copy" title="Look at both" onClick={() => (side === "splits" ? onPair(s.latent, p.latent) : onPair(p.latent, s.latent))}>{fixed(p.value)}</button> <LatentLink of={{ sae: parts.id, latent: p.latent, label: labels?.label[p.latent] ?? "" }} /></div>
                ))}{s.into.length > PARTS && <small className="quiet">and {count(s.into.length - PARTS)} more</small>}</td>
              </tr>
            ))}</tbody>
          </table>
        </div>
      )}
    </Panel>
  );
}
