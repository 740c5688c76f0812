/** Active residues by value; a click shows the proteins of that tenth. */
import { memo, useState } from "react";
import type { Latent } from "../../api/queries";
import { activationScale } from "../../lib/colour";
import { count, sig } from "../../lib/format";
import { useTheme } from "../../lib/theme";
import { Empty, Panel, Term, useWidth } from "../../ui/basics";
import { tenthOf, type Tab } from "./groups";

const HEIGHT = 128;
const BASE = 98;

export interface HistogramProps {
  latent: Latent;
  tab: Tab;
  onTab(tab: Tab): void;
}

export const HistogramPanel = memo(function HistogramPanel({ latent, tab, onTab }: HistogramProps) {
  const { edges, counts, quantiles } = latent.histogram;
  const { dark } = useTheme();
  const [box, width] = useWidth<HTMLDivElement>();
  const [over, setOver] = useState<number | null>(null);
  const low = Math.log(edges[0] ?? 1);
  const high = Math.log(edges.at(-1) ?? 1);
  const silent = latent.n_active === 0 || !(high > low);
  const x = (value: number) => ((Math.log(value) - low) / (high - low)) * width;
  const valueAt = (event: React.PointerEvent | React.MouseEvent) =>
    Math.exp(low + ((event.clientX - event.currentTarget.getBoundingClientRect().left) / width) * (high - low));
  const scale = activationScale(latent.max, dark);
  const top = Math.max(1, ...counts);
  const chosen = tab.startsWith("q") ? Number(tab.slice(1)) : null;
  const band = over ?? chosen;
  return (
    <Panel title={<Term of="histogram">How strongly it fires</Term>} side={<small>{over ? `show tenth ${over}` : "click for examples"}</small>}>
      <div ref={box} style={{ minHeight: HEIGHT }}>
        {silent ? <Empty title="It never fires" /> : width > 20 && (
          <svg className="histogram" width={width} height={HEIGHT} role="img"
            aria-label={`${count(latent.n_active)} active residues between ${sig(edges[0])} and ${sig(latent.max)}; the tabs of the examples choose tenths`}
            onPointerMove={(e) => setOver(tenthOf(valueAt(e), quantiles))} onPointerLeave={() => setOver(null)}
            onClick={(e) => { const t = tenthOf(valueAt(e), quantiles); if (t) onTab(`q${t}` as Tab); }}>
            {band !== null && <rect className="band" x={x(quantiles[band - 1]!)} width={Math.max(2, x(quantiles[band]!) - x(quantiles[band - 1]!))} y={0} height={BASE} />}
            {counts.map((n, i) => {
              const h = n ? Math.max(1, (n / top) * (BASE - 8)) : 0;
              return <rect key={i} className="bin" x={x(edges[i]!) + 0.5} width={Math.max(0.5, x(edges[i + 1]!) - x(edges[i]!) - 1)} y={BASE - h} height={h} fill={scale.css(Math.sqrt(edges[i]! * edges[i + 1]!))} />;
            })}
            <line className="axisline" x1={0} x2={width} y1={BASE + 0.5} y2={BASE + 0.5} />
            {quantiles.map((q, i) => <path key={i} className="quantile" d={`M${Math.min(width - 0.5, Math.max(0.5, x(q)))},${BASE + 2}v${i % 10 ? 5 : 8}`} />)}
            {ticks(edges[0]!, edges.at(-1)!, width).map((v) => <text key={v} x={Math.min(width - 10, Math.max(8, x(v)))} y={HEIGHT - 6} textAnchor="middle">{sig(v)}</text>)}
          </svg>
        )}
      </div>
    </Panel>
  );
});

/** Round values that lie far enough apart on a log scale. */
export function ticks(from: number, to: number, width: number): number[] {
  const found: number[] = [];
  let last = -Infinity;
  for (let power = Math.floor(Math.log10(from)); power <= Math.log10(to); power++)
    for (const m of [1, 2, 5]) {
      const value = m * 10 ** power;
      const x = (Math.log(value / from) / Math.log(to / from)) * width;
      if (value < from || value > to || x - last < 34) continue;
      found.push(value);
      last = x;
    }
  return found;
}
