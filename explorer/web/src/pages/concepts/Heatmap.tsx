/** F1 of each dictionary's best latent, by layer and width. */
import { useMemo } from "react";
import type { SAE } from "../../api/queries";
import { gridOf, scoreColours, type LatentScore } from "../../lib/concepts";
import { siteName } from "../../lib/depth";
import { count, fixed } from "../../lib/format";
import { useTheme } from "../../lib/theme";
import { Panel, Term } from "../../ui/basics";

export interface HeatmapProps {
  saes: readonly SAE[];
  scores: ReadonlyMap<string, LatentScore>;
  chosen: string;
  onChoose(sae: string): void;
}

export function Heatmap({ saes, scores, chosen, onChoose }: HeatmapProps) {
  const { dark } = useTheme();
  const grid = useMemo(() => gridOf(saes), [saes]);
  const models = [...new Set(grid.columns.map((c) => c.model))];
  const f1 = (sae: SAE) => scores.get(sae.id)?.score.f1 ?? null;
  const best = (cell: readonly SAE[]) => cell.reduce<SAE | null>((top, s) => (top === null || (f1(s) ?? -1) > (f1(top) ?? -1) ? s : top), null);
  return (
    <Panel title={<>Where it is known: <Term of="f1">F1</Term> by layer and width</>} className="heat" side={<ScoreLegend dark={dark} />}
      note="Each cell is the latent that training chose in one dictionary, measured on held-out families. Click one for its latents; a tick marks where it was found.">
      <div className="scroll-x" tabIndex={0} role="region" aria-label="F1 by layer and width">
        <table className="heatmap">
          <thead>
            {models.length > 1 && (
              <tr><th scope="col" />{models.map((m) => <th key={m} scope="colgroup" colSpan={grid.columns.filter((c) => c.model === m).length}>{m}</th>)}</tr>
            )}
            <tr>
              <th scope="col">Latents, k</th>
              {grid.columns.map((c) => <th key={c.key} scope="col">{siteName(c.site, saes.find((s) => s.model === c.model && s.site === c.site)!.block)}</th>)}
            </tr>
          </thead>
          <tbody>
            {grid.rows.map((row, i) => (
              <tr key={row.key}>
                <th scope="row">{count(row.d_sae)}{row.k !== null && <small>k {row.k}</small>}</th>
                {grid.columns.map((column, j) => {
                  const sae = best(grid.cell(i, j));
                  if (!sae) return <td key={column.key} />;
                  const value = f1(sae);
                  const latent = scores.get(sae.id);
                  const on = grid.cell(i, j).some((s) => s.id === chosen);
                  return (
                    <td key={column.key}>
                      <button type="button" aria-pressed={on} style={value === null ? undefined : scoreColours(value, dark)} onClick={() => onChoose(sae.id)}
                        title={`${sae.id}${latent ? `: latent ${latent.latent}, F1 ${fixed(value)}` : ": not tested"}`}>
                        {value === null ? "–" : fixed(value)}{latent?.found && <span aria-label="found">✓</span>}
                      </button>
                    </td>
                  );
                })}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </Panel>
  );
}

function ScoreLegend({ dark }: { dark: boolean }) {
  const stops = [0, 0.2, 0.4, 0.6, 0.8, 1].map((t) => scoreColours(t, dark).background);
  return (
    <span className="legend" role="img" aria-label="Colour scale of F1, from 0 to 1">
      <span>0</span>
      <span className="ramp" style={{ background: `linear-gradient(90deg, ${stops.join(",")})` }} />
      <span>1</span>
    </span>
  );
}
