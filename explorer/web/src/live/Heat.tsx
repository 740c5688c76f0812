/** A heatmap on a canvas: rows with names, residues as columns; only what is in view is drawn. */
import { useCallback, useEffect, useRef, useState, type ReactNode } from "react";
import { prepare, readInk } from "../strip/draw";
import { tickStep } from "../strip/layout";
import { useWidth } from "../ui/basics";

export interface HeatProps {
  label: string;
  /** Name of each row; a row is chosen by clicking it. */
  names: readonly ReactNode[];
  sequence: string;
  /** Position of the first column, from 1. */
  first?: number;
  /** Colour of a cell, or null for none. */
  colour(row: number, column: number): string | null;
  /** What a cell says; the first word is its title. */
  say(row: number, column: number): string;
  /** Columns (from 0) with a mark above them. */
  marks?: ReadonlySet<number>;
  /** Cells with a dot, such as the residue that is there. */
  dot?(row: number, column: number): boolean;
  chosen?: number | null;
  hover?: number | null;
  rowHeight?: number;
  onChoose?(row: number): void;
  onPick?(row: number, column: number): void;
  onHover?(column: number | null): void;
  /** Pixels a residue; 0 fits all. */
  zoom: number;
}

const AXIS = 34;
const LETTER_FROM = 5.5;

export function Heat(props: HeatProps) {
  const { names, sequence, colour, say, marks, dot, chosen, rowHeight = 18 } = props;
  const [measure, width] = useWidth<HTMLDivElement>();
  const canvas = useRef<HTMLCanvasElement>(null);
  const scroller = useRef<HTMLDivElement>(null);
  const [left, setLeft] = useState(0);
  const [cell, setCell] = useState<{ row: number; column: number; x: number; y: number } | null>(null);
  const n = sequence.length;
  const size = props.zoom || Math.max(2.2, Math.min(22, (width || 600) / Math.max(1, n)));
  const height = AXIS + names.length * rowHeight;
  const first = props.first ?? 1;
  const outside = props.hover ?? null;
  useEffect(() => {
    const node = canvas.current;
    if (!node || width < 10) return;
    const context = prepare(node, width, height);
    if (!context) return;
    const ink = readInk();
    const from = Math.max(0, Math.floor(left / size));
    const to = Math.min(n, Math.ceil((left + width) / size));
    for (let column = from; column < to; column++) {
      const x = column * size - left;
      for (let row = 0; row < names.length; row++) {
        const css = colour(row, column);
        const y = AXIS + row * rowHeight;
        if (css) {
          context.fillStyle = css;
          context.fillRect(x, y, size > 4 ? size - 0.5 : size + 0.3, rowHeight - 1);
        }
        if (dot?.(row, column)) {
          context.fillStyle = ink.text;
          context.beginPath();
          context.arc(x + size / 2, y + rowHeight / 2, Math.min(2.2, Math.max(0.8, size / 5)), 0, 7);
          context.fill();
        }
      }
    }
    drawAxis(context, { sequence, from, to, left, size, first, ink, marks });
    const here = cell?.column ?? outside;
    if (here !== null) {
      context.strokeStyle = ink.text;
      context.lineWidth = 1;
      context.strokeRect(here * size - left - 0.5, AXIS - 1, size + 1, names.length * rowHeight + 1);
    }
  }, [names.length, sequence, colour, marks, dot, width, left, size, n, height, rowHeight, first, cell, outside]);

  const at = useCallback((event: React.PointerEvent | React.MouseEvent) => {
    const box = canvas.current!.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left + left) / size);
    const row = Math.floor((event.clientY - box.top - AXIS) / rowHeight);
    return column >= 0 && column < n && row < names.length ? { row: Math.max(-1, row), column, x: event.clientX, y: event.clientY } : null;
  }, [left, size, rowHeight, n, names.length]);
  const show = (found: typeof cell) => {
    setCell(found);
    props.onHover?.(found?.column ?? null);
  };
  const onKey = (event: React.KeyboardEvent) => {
    const steps: Record<string, [number, number]> = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    const step = steps[event.key];
    const now = cell ?? { row: 0, column: Math.max(0, Math.floor(left / size)) - (step?.[1] ?? 0), x: 0, y: 0 };
    if (event.key === "Enter" && cell) {
      props.onChoose?.(cell.row);
      props.onPick?.(cell.row, cell.column);
    }
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    const row = Math.min(names.length - 1, Math.max(0, now.row + (cell ? step[0] : 0)));
    const column = Math.min(n - 1, Math.max(0, now.column + step[1]));
    const node = scroller.current!;
    if (column * size < node.scrollLeft || (column + 1) * size > node.scrollLeft + width) node.scrollLeft = column * size - width / 2;
    const box = canvas.current!.getBoundingClientRect();
    show({ row, column, x: box.left + (column + 0.5) * size - node.scrollLeft, y: box.top + AXIS + (row + 0.5) * rowHeight });
  };
  return (
    <div className="heat">
      <div className="heatnames" style={{ paddingTop: AXIS }}>
        {names.map((name, row) => (
          <div key={row} className="heatname" style={{ height: rowHeight }} data-chosen={chosen === row || undefined}>{name}</div>
        ))}
      </div>
      <div ref={measure} className="heatbody">
        <div ref={scroller} className="heatscroll" tabIndex={0} role="application" aria-label={`${props.label}. Arrow keys move over the cells.`}
          onScroll={(e) => setLeft(e.currentTarget.scrollLeft)} onKeyDown={onKey} onBlur={() => show(null)}>
          <div style={{ width: Math.max(width, n * size), height }}>
            <canvas ref={canvas} role="img" aria-label={props.label} style={{ width, height }}
              onPointerMove={(e) => show(at(e))} onPointerLeave={() => show(null)}
              onClick={(e) => {
                const found = at(e);
                if (!found) return;
                if (found.row >= 0) props.onChoose?.(found.row);
                props.onPick?.(found.row, found.column);
              }} />
          </div>
        </div>
      </div>
      {cell && <div className="readout" role="status" style={placed(cell)}>{cell.row >= 0 ? say(cell.row, cell.column).split("\n").map((line, i) => <p key={i}>{line}</p>) : <p>{sequence[cell.column]}{first + cell.column}</p>}</div>}
    </div>
  );
}

function placed({ x, y }: { x: number; y: number }): React.CSSProperties {
  return { left: Math.min(x + 14, window.innerWidth - 230), top: Math.min(y + 16, window.innerHeight - 110) };
}

interface AxisProps {
  sequence: string;
  from: number;
  to: number;
  left: number;
  size: number;
  first: number;
  ink: ReturnType<typeof readInk>;
  marks?: ReadonlySet<number> | undefined;
}

function drawAxis(context: CanvasRenderingContext2D, { sequence, from, to, left, size, first, ink, marks }: AxisProps): void {
  context.textAlign = "center";
  const step = tickStep(size, 44);
  context.font = "11px system-ui, sans-serif";
  for (let column = from; column < to; column++) {
    const x = (column + 0.5) * size - left;
    const position = first + column;
    if (position % step === 0 || (position === first && step > 2)) {
      context.fillStyle = ink.quiet;
      context.textBaseline = "top";
      context.fillText(String(position), Math.min(context.canvas.clientWidth - 10, Math.max(8, x)), 2);
    }
    if (marks?.has(column)) {
      context.fillStyle = ink.text;
      context.fillRect(x - Math.max(1.5, size / 2 - 0.5), AXIS - 4, Math.max(3, size - 1), 3);
    }
  }
  if (size < LETTER_FROM) return;
  context.font = `${Math.min(13, 1.6 * size)}px ui-monospace, Menlo, Consolas, monospace`;
  context.textBaseline = "bottom";
  context.fillStyle = ink.text;
  for (let column = from; column < to; column++) context.fillText(sequence[column]!, (column + 0.5) * size - left, AXIS - 5);
}
