/** A sequence logo: letters as tall as their share of the column's bits. */
import { useMemo } from "react";
import type { Schemas } from "../api/client";
import { residueColour } from "../lib/colour";
import { fixed } from "../lib/format";
import { useTheme } from "../lib/theme";

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

export interface LogoProps {
  logo: Schemas["Logo"];
  width: number;
  height: number;
  /** With bits and offsets beside it. */
  axes?: boolean;
  label: string;
}

export function Logo({ logo, width, height, axes = false, label }: LogoProps) {
  const { dark } = useTheme();
  const letters = useMemo(() => stack(logo), [logo]);
  const top = Math.max(1, ...logo.bits) * 1.04;
  const [left, right, foot] = axes ? [26, 8, 20] : [0, 0, 0];
  const base = height - foot;
  const step = Math.max(1, (width - left - right) / (logo.bits.length || 1));
  const y = (bits: number) => base - (bits / top) * (base - 2);
  return (
    <svg className="logo" width={width} height={height} role="img" aria-label={`${label}, up to ${fixed(Math.max(...logo.bits), 1)} bits`}>
      {axes && [0, Math.max(1, Math.floor(top))].map((v) => (
        <g key={v}>
          <line className="grid" x1={left - 4} x2={width} y1={y(v)} y2={y(v)} />
          <text x={left - 7} y={y(v) + 4} textAnchor="end">{v}</text>
        </g>
      ))}
      {axes && <text x={8} y={base / 2 + 4} textAnchor="middle" transform={`rotate(-90 8 ${base / 2})`}>bits</text>}
      <rect className="zero" x={left - logo.first * step} width={step} y={0} height={base} />
      {letters.map((l) => {
        const glyph = measure().get(l.letter);
        const tall = y(l.from) - y(l.to);
        if (!glyph || tall < 1.2) return null;
        const [sx, sy] = [(step * 0.94) / glyph.width, tall / glyph.height];
        return (
          <text key={`${l.column}${l.letter}`} style={{ font: FONT, fill: residueColour(l.letter, dark) }}
            transform={`translate(${left + l.column * step + step * 0.03 - glyph.left * sx} ${y(l.from) - (glyph.height - glyph.top) * sy}) scale(${sx} ${sy})`}>
            {l.letter}
          </text>
        );
      })}
      {axes && logo.bits.map((_, i) => {
        const offset = logo.first + i;
        return offset % 5 === 0 && <text key={i} x={left + (i + 0.5) * step} y={height - 5} textAnchor="middle">{offset > 0 ? `+${offset}` : offset < 0 ? `−${-offset}` : "0"}</text>;
      })}
    </svg>
  );
}
