/** A sequence logo: letters as tall as their share of the column's bits. */
import { memo, useMemo } from "react";
import type { Latent } from "../../api/queries";
import { residueColour } from "../../lib/colour";
import { fixed } from "../../lib/format";
import { useTheme } from "../../lib/theme";
import { Empty, Panel, Term, useWidth } from "../../ui/basics";

const FONT = "700 100px Arial, 'Liberation Sans', Helvetica, sans-serif";

interface Glyph {
  left: number;
  width: number;
  top: number;
  height: number;
}

let glyphs: Map<string, Glyph> | null = null;

/** Ink boxes of the letters at 100 px, measured once. */
function measure(): Map<string, Glyph> {
  if (glyphs) return glyphs;
  const context = document.createElement("canvas").getContext("2d")!;
  context.font = FONT;
  glyphs = new Map(
    [..."ACDEFGHIKLMNPQRSTVWY"].map((letter) => {
      const m = context.measureText(letter);
      const left = -m.actualBoundingBoxLeft;
      return [letter, { left, width: m.actualBoundingBoxRight - left, top: m.actualBoundingBoxAscent, height: m.actualBoundingBoxAscent + m.actualBoundingBoxDescent }];
    }),
  );
  return glyphs;
}

export interface Stacked {
  letter: string;
  column: number;
  /** From the bottom, in bits. */
  from: number;
  to: number;
}

/** Letters of each column, the most frequent on top, heights in bits. */
export function stack(logo: { letters: string; frequencies: number[][]; bits: number[] }): Stacked[] {
  return logo.frequencies.flatMap((row, column) => {
    const bits = logo.bits[column] ?? 0;
    let from = 0;
    return row
      .map((f, i) => ({ letter: logo.letters[i]!, height: Number.isFinite(f) && bits > 0 ? f * bits : 0 }))
      .filter((l) => l.height > 0)
      .sort((a, b) => a.height - b.height)
      .map(({ letter, height }) => {
        const placed = { letter, column, from, to: from + height };
        from += height;
        return placed;
      });
  });
}

const HEIGHT = 128;
const BASE = 108;

export const LogoPanel = memo(function LogoPanel({ latent }: { latent: Latent }) {
  const { dark } = useTheme();
  const [box, width] = useWidth<HTMLDivElement>();
  const { logo } = latent;
  const letters = useMemo(() => (logo ? stack(logo) : []), [logo]);
  const top = Math.max(1, ...(logo?.bits ?? [])) * 1.04;
  const left = 26;
  const n = logo?.bits.length ?? 21;
  const step = Math.max(1, (width - left - 8) / n);
  const y = (bits: number) => BASE - (bits / top) * (BASE - 4);
  return (
    <Panel title={<Term of="logo">Letters around the peak</Term>} side={latent.consensus && <code className="consensus" title="Letters that most of its proteins share">{latent.consensus.replace(/^\.+|\.+$/g, "").replace(/\./g, "·")}</code>}>
      <div ref={box} style={{ minHeight: HEIGHT }}>
        {!logo ? <Empty title="No logo">Too few proteins to say.</Empty> : width > 20 && (
          <svg className="logo" width={width} height={HEIGHT} role="img" aria-label={`Sequence logo, up to ${fixed(Math.max(...logo.bits), 1)} bits${latent.consensus ? `, consensus ${latent.consensus}` : ""}`}>
            {[0, Math.max(1, Math.floor(top))].map((v) => (
              <g key={v}>
                <line className="grid" x1={left - 4} x2={width} y1={y(v)} y2={y(v)} />
                <text x={left - 7} y={y(v) + 4} textAnchor="end">{v}</text>
              </g>
            ))}
            <text x={8} y={BASE / 2 + 4} textAnchor="middle" transform={`rotate(-90 8 ${BASE / 2})`}>bits</text>
            <rect className="zero" x={left + -logo.first * step} width={step} y={0} height={BASE} />
            {letters.map((l) => {
              const glyph = measure().get(l.letter);
              const height = y(l.from) - y(l.to);
              if (!glyph || height < 1.2) return null;
              const [sx, sy] = [(step * 0.94) / glyph.width, height / glyph.height];
              return (
                <text key={`${l.column}${l.letter}`} className="glyph" style={{ font: FONT, fill: residueColour(l.letter, dark) }}
                  transform={`translate(${left + l.column * step + step * 0.03 - glyph.left * sx} ${y(l.from) - (glyph.height - glyph.top) * sy}) scale(${sx} ${sy})`}>
                  {l.letter}
                </text>
              );
            })}
            {logo.bits.map((_, i) => {
              const offset = logo.first + i;
              return offset % 5 === 0 && <text key={i} x={left + (i + 0.5) * step} y={HEIGHT - 5} textAnchor="middle">{offset > 0 ? `+${offset}` : offset < 0 ? `−${-offset}` : "0"}</text>;
            })}
          </svg>
        )}
      </div>
    </Panel>
  );
});
