/** What a latent does to the model's choice of amino acid. */
import { memo } from "react";
import type { Latent } from "../../api/queries";
import { residueColour } from "../../lib/colour";
import { sig } from "../../lib/format";
import { useTheme } from "../../lib/theme";
import { Empty, Panel, Term, useWidth } from "../../ui/basics";

const HEIGHT = 128;

export const EffectsPanel = memo(function EffectsPanel({ latent }: { latent: Latent }) {
  const { dark } = useTheme();
  const [box, width] = useWidth<HTMLDivElement>();
  const letters = latent.logo?.letters ?? "ACDEFGHIKLMNPQRSTVWY";
  const effects = (latent.effects ?? []).map((value, i) => ({ letter: letters[i]!, value })).sort((a, b) => b.value - a.value);
  const most = Math.max(1e-9, ...effects.map((e) => Math.abs(e.value)));
  const step = width / 20;
  const middle = HEIGHT / 2;
  const y = (value: number) => (value / most) * (middle - 20);
  return (
    <Panel title={<Term of="effects">Amino acids it asks for</Term>} side={effects.length > 0 && <small title="Change of logit per unit of activation, linearised">±{sig(most, 2)} logit</small>}>
      <div ref={box} style={{ minHeight: HEIGHT }}>
        {!latent.effects ? <Empty title="Not computed">The bundle was built without the model's output head.</Empty> : width > 20 && (
          <svg className="effects" width={width} height={HEIGHT} role="img" aria-label={`Raises ${effects.slice(0, 3).map((e) => e.letter).join(", ")}; lowers ${effects.slice(-3).map((e) => e.letter).join(", ")}`}>
            <line className="axisline" x1={0} x2={width} y1={middle} y2={middle} />
            {effects.map(({ letter, value }, i) => {
              const h = y(value);
              return (
                <g key={letter} transform={`translate(${i * step + step / 2} ${middle})`}>
                  <title>{`${letter} ${sig(value)}`}</title>
                  <rect x={-step * 0.34} width={step * 0.68} y={Math.min(0, -h)} height={Math.max(0.75, Math.abs(h))} fill={residueColour(letter, dark)} opacity={0.82} />
                  <text textAnchor="middle" y={value >= 0 ? 14 : -6} style={{ fill: residueColour(letter, dark) }}>{letter}</text>
                </g>
              );
            })}
          </svg>
        )}
      </div>
    </Panel>
  );
});
