/** One protein: its name on the left, its strip on the right. */
import { memo, useEffect, useRef } from "react";
import { Link } from "wouter";
import type { Example } from "../api/queries";
import type { Scale } from "../lib/colour";
import { sig } from "../lib/format";
import { proteinHref } from "../lib/links";
import { CELL, columnToX, drawRow, LANE, prepare, readInk, residueAt, xToColumn, type View } from "./draw";
import type { Lane } from "./layout";

export interface Hover {
  accession: string;
  /** Residue, from 1. */
  position: number;
}

export interface StripRowProps {
  sae: string;
  example: Example;
  columns: Int32Array;
  values: Float32Array;
  lanes: readonly Lane[];
  colours: ReadonlyMap<string, string>;
  marks: readonly [number, number][];
  view: View;
  scale: Scale;
  dark: boolean;
  selected: boolean;
  hover: number | null;
  onHover(hover: Hover | null, at?: { x: number; y: number }): void;
  onSelect?: ((accession: string) => void) | undefined;
  onDrag(columns: number): void;
}

export const ROW = 50;
const HEIGHT = CELL + 3 + 3 * (LANE + 1);

export const StripRow = memo(function StripRow(props: StripRowProps) {
  const { example, columns, values, lanes, colours, marks, view, scale, dark, hover } = props;
  const canvas = useRef<HTMLCanvasElement>(null);
  const drag = useRef<{ x: number; moved: boolean } | null>(null);
  useEffect(() => {
    const node = canvas.current;
    if (!node || view.width < 10) return;
    const context = prepare(node, view.width, HEIGHT);
    if (!context) return;
    const row = {
      sequence: example.sequence, columns, values, lanes, colours, marks,
      hover: hover === null ? null : hover - 1, peak: example.argmax === null ? null : example.argmax - 1,
    };
    drawRow(context, row, view, scale, readInk());
  }, [example, columns, values, lanes, colours, marks, view, scale, dark, hover]);

  const positionAt = (event: React.PointerEvent): number => {
    const box = event.currentTarget.getBoundingClientRect();
    return residueAt(columns, xToColumn(view, event.clientX - box.left)) + 1;
  };
  const onMove = (event: React.PointerEvent) => {
    if (drag.current) {
      const step = Math.round((event.clientX - drag.current.x) / view.zoom);
      if (step) {
        props.onDrag(-step);
        drag.current = { x: drag.current.x + step * view.zoom, moved: true };
      }
      return;
    }
    const position = positionAt(event);
    props.onHover(position > 0 ? { accession: example.accession, position } : null, { x: event.clientX, y: event.clientY });
  };
  const onKey = (event: React.KeyboardEvent) => {
    const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    const position = Math.min(example.sequence.length, Math.max(1, (hover ?? (example.argmax ?? 1) - step) + step));
    const box = canvas.current!.getBoundingClientRect();
    const x = columnToX(view, columns[position - 1]!);
    if (x < 0 || x > view.width) props.onDrag(columns[position - 1]! - view.centre);
    props.onHover({ accession: example.accession, position }, { x: box.left + Math.min(view.width, Math.max(0, x)), y: box.top + CELL });
  };
  const last = example.track.positions.length;
  return (
    <div className="striprow" aria-selected={props.selected} role="row">
      <div className="who" role="rowheader">
        <span className="line">
          <Link href={proteinHref(example.accession, props.sae)} title={`All latents of ${example.accession}`}>{example.accession}</Link>
          {example.structure && props.onSelect && (
            <button type="button" className="in3d" aria-pressed={props.selected} title="Show on its structure" onClick={() => props.onSelect?.(example.accession)}>
              3D
            </button>
          )}
          <b>{sig(example.max)}</b>
        </span>
        <small title={example.description}>{example.description}</small>
      </div>
      <div
        className="strip"
        role="cell"
        tabIndex={0}
        aria-label={`${example.accession}, ${example.sequence.length} residues, active on ${last}, highest ${sig(example.max)}${example.argmax ? ` at ${example.argmax}` : ""}`}
        onKeyDown={onKey}
        onPointerMove={onMove}
        onPointerLeave={() => props.onHover(null)}
        onBlur={() => props.onHover(null)}
        onPointerDown={(e) => {
          if (e.pointerType === "touch") return;
          e.currentTarget.setPointerCapture(e.pointerId);
          drag.current = { x: e.clientX, moved: false };
        }}
        onPointerUp={() => {
          if (drag.current && !drag.current.moved && example.structure) props.onSelect?.(example.accession);
          drag.current = null;
        }}
        onPointerCancel={() => (drag.current = null)}
      >
        <canvas ref={canvas} style={{ width: view.width, height: HEIGHT }} aria-hidden="true" />
      </div>
    </div>
  );
});
