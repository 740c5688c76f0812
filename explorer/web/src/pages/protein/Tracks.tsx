/** Annotations over latents along one protein, on one axis. */
import { useVirtualizer } from "@tanstack/react-virtual";
import { useEffect, useMemo, useRef, useState } from "react";
import { Link } from "wouter";
import type { Schemas } from "../../api/client";
import { activationScale } from "../../lib/colour";
import { conceptName } from "../../lib/concept";
import { sig } from "../../lib/format";
import { latentHref } from "../../lib/links";
import { motifMatches, parseMotif } from "../../lib/motif";
import { useTheme } from "../../lib/theme";
import { Empty, useWidth } from "../../ui/basics";
import { Icon } from "../../ui/icons";
import { CELL, columnToX, drawAxis, drawRow, LANE, prepare, readInk, xToColumn, type View } from "../../strip/draw";
import { useNarrow } from "../../strip/StripList";
import { conceptColours, dense, lanes, type Lane } from "../../strip/layout";

type ProteinLatent = Schemas["ProteinLatent"];
type Range = readonly [number, number] | null;

export interface TracksProps {
  sae: string;
  protein: Schemas["ProteinDetail"];
  rows: readonly ProteinLatent[];
  /** Of every latent over all proteins: the ends of their scales. */
  maxima: readonly number[] | undefined;
  chosen: number | null;
  range: Range;
  /** Pixels a residue, 0 to fit; residue (from 1) at the left edge. */
  zoom: number;
  at: number;
  motif: string;
  hover: number | null;
  onHover(position: number | null): void;
  onChoose(latent: number): void;
  onRange(range: Range): void;
  onView(zoom: number, at: number): void;
}

const ROW = 30;
const NARROW_ROW = 56;
const LANES = 5;

export function Tracks(props: TracksProps) {
  const { protein, rows, hover } = props;
  const length = protein.sequence.length;
  const [measure, width] = useWidth<HTMLDivElement>();
  const { dark } = useTheme();
  const scroller = useRef<HTMLDivElement>(null);
  const fitted = Math.min(16, (width || 600) / length);
  const zoom = props.zoom ? Math.max(fitted, props.zoom) : fitted;
  const seen = width / zoom;
  const left = Math.max(0, Math.min(length - seen, props.zoom ? props.at : 0));
  const view = useMemo<View>(() => ({ zoom, centre: left + seen / 2 - 0.5, width }), [zoom, left, seen, width]);
  const columns = useMemo(() => Int32Array.from({ length }, (_, i) => i), [length]);
  const example = useMemo(() => ({ features: protein.features, track: { positions: rows[0]?.track?.positions ?? [], values: [] } }), [protein, rows]);
  const concepts = useMemo(() => conceptColours([example as never], []), [example]);
  const colours = useMemo(() => new Map(concepts.map((c) => [c.concept, c.colour])), [concepts]);
  const placed = useMemo(() => lanes(protein.features, concepts.map((c) => c.concept), LANES), [protein, concepts]);
  const marks = useMemo(() => readMarks(props.motif, protein.sequence), [props.motif, protein]);
  const height = useNarrow() ? NARROW_ROW : ROW;
  const virtual = useVirtualizer({ count: rows.length, getScrollElement: () => scroller.current, estimateSize: () => height, overscan: 8 });
  useEffect(() => virtual.measure(), [virtual, height]);
  const zoomBy = (factor: number) => {
    const next = Math.min(24, Math.max(fitted, zoom * factor));
    props.onView(next <= fitted * 1.01 ? 0 : next, Math.max(0, Math.round(left + seen / 2 - width / next / 2)));
  };
  const pan = (step: number) => props.zoom && props.onView(props.zoom, Math.max(0, Math.min(length - seen, Math.round(left + step))));
  const inside = hover ? protein.features.filter((f) => hover >= f.start && hover <= f.end) : [];
  return (
    <div className="strips tracks" onMouseLeave={() => props.onHover(null)}>
      <div className="striphead">
        <div className="zoom group-of" role="group" aria-label="Zoom">
          <button type="button" className="iconbutton" aria-label="Left" disabled={!props.zoom} onClick={() => pan(-seen / 2)}><Icon name="left" size={14} /></button>
          <button type="button" className="iconbutton" aria-label="Zoom out" onClick={() => zoomBy(0.5)}><Icon name="minus" size={14} /></button>
          <button type="button" className="iconbutton" aria-label="Zoom in" onClick={() => zoomBy(2)}><Icon name="plus" size={14} /></button>
          <button type="button" className="iconbutton" aria-label="Whole protein" aria-pressed={!props.zoom} onClick={() => props.onView(0, 0)}><Icon name="fit" size={14} /></button>
          <button type="button" className="iconbutton" aria-label="Right" disabled={!props.zoom} onClick={() => pan(seen / 2)}><Icon name="right" size={14} /></button>
        </div>
        <div>
          <BrushAxis view={view} dark={dark} range={props.range} length={length} hover={hover} onRange={props.onRange} onHover={props.onHover} />
        </div>
      </div>
      <div className="striphead">
        <small className="lanename">annotations</small>
        <Features view={view} dark={dark} sequence={protein.sequence} columns={columns} placed={placed} colours={colours} marks={marks} hover={hover} onHover={props.onHover} />
      </div>
      <div className="striprows" ref={scroller} tabIndex={0} role="table" aria-label="Latents along the protein">
          <div className="striprow measure" aria-hidden="true"><div className="who" /><div className="strip" ref={measure} /></div>
          {rows.length === 0 && <Empty title="No latent here">None of the active latents passes the filters.</Empty>}
          <div style={{ height: virtual.getTotalSize(), position: "relative" }} role="rowgroup">
            {virtual.getVirtualItems().map(({ index, start }) => {
              const row = rows[index]!;
              return (
                <div key={row.latent} className="place" style={{ transform: `translateY(${start}px)` }} role="presentation">
                  <TrackRow sae={props.sae} row={row} max={props.maxima?.[row.latent] ?? row.max} accession={protein.accession} sequence={protein.sequence} columns={columns} view={view} dark={dark} chosen={row.latent === props.chosen} hover={hover} onHover={props.onHover} onChoose={props.onChoose} />
                </div>
              );
            })}
          </div>
      </div>
      <p className="hoverline" role="status">
        {hover ? <><b>{protein.sequence[hover - 1]}{hover}</b> {inside.slice(0, 6).map((f) => conceptName(f.concept)).join(" · ") || "no annotation"}</> : "\u00a0"}
      </p>
      {concepts.length > 0 && (
        <ul className="conceptlegend" aria-label="Annotations">
          {concepts.slice(0, 7).map((c) => <li key={c.concept}><i className="swatch" style={{ background: c.colour }} /> {conceptName(c.concept)}</li>)}
          {concepts.length > 7 && <li><i className="swatch" style={{ background: concepts[7]!.colour }} /> {concepts.length - 7} more</li>}
        </ul>
      )}
    </div>
  );
}

function readMarks(motif: string, sequence: string): [number, number][] {
  try {
    return motif ? motifMatches(parseMotif(motif), sequence) : [];
  } catch {
    return [];
  }
}

const positionIn = (event: React.PointerEvent, view: View, length: number): number | null => {
  const box = event.currentTarget.getBoundingClientRect();
  const position = xToColumn(view, event.clientX - box.left) + 1;
  return position >= 1 && position <= length ? position : null;
};

function BrushAxis({ view, dark, range, length, hover, onRange, onHover }: { view: View; dark: boolean; range: Range; length: number; hover: number | null; onRange(range: Range): void; onHover(p: number | null): void }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const from = useRef<number | null>(null);
  const [drag, setDrag] = useState<Range>(null);
  const band = drag ?? range;
  useEffect(() => {
    if (!canvas.current || view.width < 10) return;
    const context = prepare(canvas.current, view.width, 26);
    if (!context) return;
    const ink = readInk();
    if (band) {
      context.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--accent-soft");
      const x = columnToX(view, band[0] - 1);
      context.fillRect(x, 0, columnToX(view, band[1] - 1) + view.zoom - x, 26);
    }
    drawAxis(context, view, ink, true, hover === null ? null : hover - 1);
  }, [view, dark, band, hover]);
  const clamp = (event: React.PointerEvent) => {
    const box = event.currentTarget.getBoundingClientRect();
    return Math.min(length, Math.max(1, xToColumn(view, event.clientX - box.left) + 1));
  };
  return (
    <canvas ref={canvas} className="axis brushaxis" style={{ width: view.width, height: 26 }} role="img" aria-label="Axis: drag to choose a stretch"
      onPointerDown={(e) => { e.currentTarget.setPointerCapture(e.pointerId); from.current = clamp(e); }}
      onPointerMove={(e) => {
        if (from.current === null) return onHover(positionIn(e, view, length));
        const p = clamp(e);
        setDrag([Math.min(from.current, p), Math.max(from.current, p)]);
      }}
      onPointerUp={(e) => {
        const start = from.current;
        const p = clamp(e);
        from.current = null;
        setDrag(null);
        if (start !== null) onRange(Math.abs(p - start) * view.zoom < 4 ? null : [Math.min(start, p), Math.max(start, p)]);
      }} />
  );
}

function Features(props: { view: View; dark: boolean; sequence: string; columns: Int32Array; placed: readonly Lane[]; colours: ReadonlyMap<string, string>; marks: readonly [number, number][]; hover: number | null; onHover(p: number | null): void }) {
  const { view, sequence, columns, placed, colours, marks, hover, dark } = props;
  const canvas = useRef<HTMLCanvasElement>(null);
  const height = CELL + 4 + (1 + Math.max(-1, ...placed.map((l) => l.lane))) * (LANE + 1);
  const silent = useMemo(() => new Float32Array(sequence.length), [sequence]);
  useEffect(() => {
    if (!canvas.current || view.width < 10) return;
    const context = prepare(canvas.current, view.width, height);
    if (context) drawRow(context, { sequence, columns, values: silent, lanes: placed, colours, marks, hover: hover === null ? null : hover - 1, peak: null }, view, activationScale(1, dark), readInk());
  }, [view, dark, sequence, columns, placed, colours, marks, hover, silent, height]);
  return <canvas ref={canvas} style={{ width: view.width, height, display: "block" }} role="img" aria-label={`${placed.length} annotations`} onPointerMove={(e) => props.onHover(positionIn(e, view, sequence.length))} />;
}

function TrackRow(props: { sae: string; accession: string; row: ProteinLatent; max: number; sequence: string; columns: Int32Array; view: View; dark: boolean; chosen: boolean; hover: number | null; onHover(p: number | null): void; onChoose(latent: number): void }) {
  const { row, sequence, columns, view, dark, hover } = props;
  const canvas = useRef<HTMLCanvasElement>(null);
  const values = useMemo(() => dense(row.track ?? { positions: [row.argmax], values: [row.max] }, sequence.length), [row, sequence]);
  const scale = useMemo(() => activationScale(props.max, dark), [props.max, dark]);
  useEffect(() => {
    if (!canvas.current || view.width < 10) return;
    const context = prepare(canvas.current, view.width, CELL);
    if (context) drawRow(context, { sequence, columns, values, lanes: [], colours: new Map(), marks: [], hover: hover === null ? null : hover - 1, peak: null }, view, scale, readInk());
  }, [sequence, columns, values, view, scale, hover]);
  return (
    <div className="striprow" role="row" aria-selected={props.chosen}>
      <div className="who" role="rowheader">
        <span className="line">
          <Link href={latentHref(props.sae, row.latent, `?p=${encodeURIComponent(props.accession)}`)} title={row.label}><span className="number">{row.latent}</span> {row.label}</Link>
          <b>{sig(row.max)}</b>
        </span>
      </div>
      <div className="strip" role="cell" tabIndex={0} aria-label={`Latent ${row.latent}, highest ${sig(row.max)} at ${row.argmax}; Enter puts it on the structure`}
        onPointerMove={(e) => props.onHover(positionIn(e, view, sequence.length))} onClick={() => props.onChoose(row.latent)}
        onKeyDown={(e) => { if (e.key === "Enter" || e.key === " ") { e.preventDefault(); e.stopPropagation(); props.onChoose(row.latent); } }}>
        <canvas ref={canvas} style={{ width: view.width, height: CELL }} aria-hidden="true" />
      </div>
    </div>
  );
}
