/** A histogram that is dragged over to choose an interval; arrow keys move its ends, too. */
import { useMemo, useRef, useState } from "react";
import type { ReactNode } from "react";
import { useWidth } from "../../ui/basics";
import { Icon } from "../../ui/icons";
import { bin, type Interval } from "./select";

const HEIGHT = 62;

export interface BrushProps {
  name: string;
  label: ReactNode;
  values: readonly (number | null)[];
  chosen: readonly number[];
  log: boolean;
  show(value: number): string;
  value: Interval;
  onChange(value: Interval): void;
}

export function BrushHistogram({ name, label, values, chosen, log, show, value, onChange }: BrushProps) {
  const [box, width] = useWidth<HTMLDivElement>();
  const bins = useMemo(() => bin(values, chosen, log), [values, chosen, log]);
  const from = useRef<number | null>(null);
  const [drag, setDrag] = useState<[number, number] | null>(null);
  const n = bins.all.length;
  const top = Math.sqrt(Math.max(1, ...bins.all));
  const h = (count: number) => (Math.sqrt(count) / top) * (HEIGHT - 4);
  const at = (event: React.PointerEvent) => {
    const r = event.currentTarget.getBoundingClientRect();
    return Math.min(n, Math.max(0, ((event.clientX - r.left) / r.width) * n));
  };
  const interval = (a: number, b: number): Interval => {
    const [low, high] = [Math.floor(Math.min(a, b)), Math.max(Math.floor(Math.min(a, b)) + 1, Math.ceil(Math.max(a, b)))];
    return low <= 0 && high >= n ? null : [bins.edges[low]!, bins.edges[high]!];
  };
  const near = (v: number) => bins.edges.reduce((best, e, i) => (Math.abs(e - v) < Math.abs(bins.edges[best]! - v) ? i : best), 0);
  const [low, high] = drag ?? (value && n ? [near(value[0]), near(value[1])] : [0, n]);
  if (n === 0) return null;
  const slide = (which: 0 | 1, v: number) => onChange(which === 0 ? interval(Math.min(v, high - 1), high) : interval(low, Math.max(v, low + 1)));
  const active = value !== null || drag !== null;
  return (
    <div className="brush">
      <p>
        <span>{label}</span>
        {value ? (
          <button type="button" className="chip accent" onClick={() => onChange(null)} aria-label={`Clear ${name}`}>{show(value[0])} – {show(value[1])} <Icon name="close" size={10} /></button>
        ) : <small>{show(bins.edges[0]!)} – {show(bins.edges[n]!)}</small>}
      </p>
      <div ref={box} className="brushbox">
        <svg width={width} height={HEIGHT} aria-hidden="true"
          onPointerDown={(e) => { e.currentTarget.setPointerCapture(e.pointerId); from.current = at(e); }}
          onPointerMove={(e) => { if (from.current !== null) setDrag([Math.min(from.current, at(e)), Math.max(from.current, at(e))]); }}
          onPointerUp={(e) => {
            const start = from.current;
            from.current = null;
            setDrag(null);
            if (start !== null) onChange(Math.abs(at(e) - start) < 0.2 && value ? null : interval(start, at(e)));
          }}>
          {active && <rect className="chosen" x={(low / n) * width} width={((high - low) / n) * width} y={0} height={HEIGHT} />}
          {bins.all.map((count, i) => {
            const [x, w] = [(i / n) * width, Math.max(0, width / n - 1)];
            return (
              <g key={i}>
                <rect className="all" x={x} width={w} y={HEIGHT - h(count)} height={h(count)} />
                <rect className="some" x={x} width={w} y={HEIGHT - h(bins.some[i]!)} height={h(bins.some[i]!)} />
              </g>
            );
          })}
        </svg>
        <div className="brushkeys">
          <input type="range" min={0} max={n - 1} value={Math.min(n - 1, Math.floor(low))} aria-label={`${name}, from`} aria-valuetext={show(bins.edges[Math.floor(low)]!)} onChange={(e) => slide(0, Number(e.target.value))} />
          <input type="range" min={1} max={n} value={Math.ceil(high)} aria-label={`${name}, to`} aria-valuetext={show(bins.edges[Math.ceil(high)]!)} onChange={(e) => slide(1, Number(e.target.value))} />
        </div>
      </div>
    </div>
  );
}
