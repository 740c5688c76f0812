/** Many proteins, lined up: the list of examples of a latent. */
import { useVirtualizer } from "@tanstack/react-virtual";
import { useCallback, useEffect, useMemo, useRef, useState, useSyncExternalStore } from "react";
import type { Example } from "../api/queries";
import type { Scale } from "../lib/colour";
import { conceptName } from "../lib/concept";
import { sig } from "../lib/format";
import { motifMatches, parseMotif } from "../lib/motif";
import { useTheme } from "../lib/theme";
import { useWidth } from "../ui/basics";
import { Icon } from "../ui/icons";
import { drawAxis, prepare, readInk, type View } from "./draw";
import { conceptColours, dense, fitZoom, lanes, lay, type Alignment } from "./layout";
import { ROW, StripRow, type Hover } from "./StripRow";

export interface StripListProps {
  sae: string;
  examples: readonly Example[];
  scale: Scale;
  align: Alignment;
  /** Pixels a residue; 0 fits all. */
  zoom: number;
  centre: number;
  motif: string;
  /** Concepts that are coloured first. */
  lead: readonly string[];
  selected: string | null;
  hover: Hover | null;
  onView(change: { zoom?: number; centre?: number }): void;
  onHover(hover: Hover | null): void;
  /** Put a protein on the structure; without it nothing offers to. */
  onSelect?(accession: string): void;
}

const NARROW = "(max-width: 620px)";
const NARROW_ROW = 92;
const NO_MARKS: readonly [number, number][] = [];

export function StripList(props: StripListProps) {
  const { examples, align, hover } = props;
  const { dark } = useTheme();
  const [measure, width] = useWidth<HTMLDivElement>();
  const scroller = useRef<HTMLDivElement>(null);
  const [tip, setTip] = useState<{ x: number; y: number } | null>(null);
  const laid = useMemo(() => lay(examples, align), [examples, align]);
  const concepts = useMemo(() => conceptColours(examples, props.lead), [examples, props.lead]);
  const colours = useMemo(() => new Map(concepts.map((c) => [c.concept, c.colour])), [concepts]);
  const rows = useMemo(() => {
    const order = concepts.map((c) => c.concept);
    const motif = readMotif(props.motif);
    return examples.map((e) => ({
      values: dense(e.track, e.sequence.length),
      lanes: lanes(e.features, order),
      marks: motif ? motifMatches(motif, e.sequence) : NO_MARKS,
    }));
  }, [examples, concepts, props.motif]);
  const zoom = props.zoom || fitZoom(laid, width || 600);
  const middle = props.zoom ? props.centre : (laid.first + laid.last) / 2;
  // From the start, position 1 is at the left edge rather than in the middle.
  const centre = align === "start" && props.zoom ? middle + width / zoom / 2 - 1 : middle;
  const view = useMemo<View>(() => ({ zoom, centre, width }), [zoom, centre, width]);
  const height = useNarrow() ? NARROW_ROW : ROW;
  const virtual = useVirtualizer({ count: examples.length, getScrollElement: () => scroller.current, estimateSize: () => height, overscan: 6 });
  useEffect(() => virtual.measure(), [virtual, height]);

  const { onView, onHover } = props;
  const latest = useRef({ centre: props.centre, zoom, middle, zoomed: props.zoom > 0 });
  latest.current = { centre: props.centre, zoom, middle, zoomed: props.zoom > 0 };
  const onDrag = useCallback((step: number) => {
    const { centre: now, zoom: z, zoomed, middle: m } = latest.current;
    onView(zoomed ? { centre: now + step } : { zoom: z, centre: m + step });
  }, [onView]);
  const onRowHover = useCallback((next: Hover | null, at?: { x: number; y: number }) => {
    onHover(next);
    setTip(next && at ? at : null);
  }, [onHover]);
  useWheel(scroller, onDrag, (factor) => onView({ zoom: Math.min(28, Math.max(0.05, latest.current.zoom * factor)), centre: latest.current.middle }));

  const hovered = hover ? examples.findIndex((e) => e.accession === hover.accession) : -1;
  const column = hovered >= 0 ? (laid.columns[hovered]?.[hover!.position - 1] ?? null) : null;
  return (
    <div className="strips">
      <div className="striphead">
        <ZoomButtons zoom={zoom} fitted={!props.zoom} onZoom={(z) => onView({ zoom: z, centre: z ? middle : 0 })} />
        <Axis view={view} absolute={align === "start"} hover={column} dark={dark} />
      </div>
      <div ref={scroller} className="striprows" role="table" aria-label="Examples" tabIndex={0}>
        <div className="striprow measure" aria-hidden="true"><div className="who" /><div className="strip" ref={measure} /></div>
        <div style={{ height: virtual.getTotalSize(), position: "relative" }} role="rowgroup">
          {virtual.getVirtualItems().map(({ index, start }) => {
            const example = examples[index]!;
            const row = rows[index]!;
            return (
              <div key={example.accession} className="place" style={{ transform: `translateY(${start}px)` }} role="presentation">
                <StripRow
                  sae={props.sae} example={example} columns={laid.columns[index]!} {...row} colours={colours} view={view}
                  scale={props.scale} dark={dark} selected={props.selected === example.accession}
                  hover={hover?.accession === example.accession ? hover.position : null}
                  onHover={onRowHover} onSelect={props.onSelect} onDrag={onDrag}
                />
              </div>
            );
          })}
        </div>
      </div>
      {concepts.length > 0 && (
        <ul className="conceptlegend" aria-label="Annotations">
          {concepts.slice(0, 7).map((c) => (
            <li key={c.concept}><i className="swatch" style={{ background: c.colour }} /> {conceptName(c.concept)}</li>
          ))}
          {concepts.length > 7 && <li><i className="swatch" style={{ background: concepts[7]!.colour }} /> {concepts.length - 7} more</li>}
        </ul>
      )}
      {hover && tip && hovered >= 0 && (
        <Readout example={examples[hovered]!} position={hover.position} value={rows[hovered]!.values[hover.position - 1] ?? 0} at={tip} scale={props.scale} />
      )}
    </div>
  );
}

/** On a phone a protein's name stands over its strip. */
export function useNarrow(): boolean {
  return useSyncExternalStore(
    (changed) => {
      const media = window.matchMedia(NARROW);
      media.addEventListener("change", changed);
      return () => media.removeEventListener("change", changed);
    },
    () => window.matchMedia(NARROW).matches,
  );
}

function readMotif(text: string) {
  try {
    return text ? parseMotif(text) : null;
  } catch {
    return null;
  }
}

/** Sideways wheels move along the sequences; with Ctrl, the wheel zooms. */
function useWheel(ref: React.RefObject<HTMLElement | null>, onMove: (columns: number) => void, onZoom: (factor: number) => void): void {
  const latest = useRef({ onMove, onZoom });
  latest.current = { onMove, onZoom };
  useEffect(() => {
    const node = ref.current;
    if (!node) return;
    let rest = 0;
    const onWheel = (event: WheelEvent) => {
      const sideways = event.shiftKey ? event.deltaY : event.deltaX;
      if (event.ctrlKey) {
        event.preventDefault();
        latest.current.onZoom(Math.exp(-event.deltaY / 300));
      } else if (Math.abs(sideways) > Math.abs(event.deltaY) || event.shiftKey) {
        event.preventDefault();
        rest += sideways / 12;
        const step = Math.trunc(rest);
        rest -= step;
        if (step) latest.current.onMove(step);
      }
    };
    node.addEventListener("wheel", onWheel, { passive: false });
    return () => node.removeEventListener("wheel", onWheel);
  }, [ref]);
}

function ZoomButtons({ zoom, fitted, onZoom }: { zoom: number; fitted: boolean; onZoom(zoom: number): void }) {
  const step = (factor: number) => onZoom(Math.min(28, Math.max(0.05, zoom * factor)));
  return (
    <div className="zoom group-of" role="group" aria-label="Zoom">
      <button type="button" className="iconbutton" aria-label="Zoom out" title="Zoom out" onClick={() => step(0.5)}><Icon name="minus" size={14} /></button>
      <button type="button" className="iconbutton" aria-label="Zoom in" title="Zoom in" onClick={() => step(2)}><Icon name="plus" size={14} /></button>
      <button type="button" className="iconbutton" aria-label="Letters" title="Letters around the peak" onClick={() => onZoom(11)}>A</button>
      <button type="button" className="iconbutton" aria-label="Whole proteins" title="Whole proteins" aria-pressed={fitted} onClick={() => onZoom(0)}><Icon name="fit" size={14} /></button>
    </div>
  );
}

function Axis({ view, absolute, hover, dark }: { view: View; absolute: boolean; hover: number | null; dark: boolean }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    if (!canvas.current || view.width < 10) return;
    const context = prepare(canvas.current, view.width, 22);
    if (context) drawAxis(context, view, readInk(), absolute, hover);
  }, [view, absolute, hover, dark]);
  return <canvas ref={canvas} className="axis" style={{ width: view.width, height: 22 }} aria-hidden="true" />;
}

function Readout({ example, position, value, at, scale }: { example: Example; position: number; value: number; at: { x: number; y: number }; scale: Scale }) {
  const inside = example.features.filter((f) => position >= f.start && position <= f.end);
  const right = at.x > window.innerWidth - 260;
  return (
    <div className="readout" role="status" style={{ left: at.x, top: at.y, transform: `translate(${right ? "calc(-100% - 14px)" : "14px"}, 14px)` }}>
      <p>
        <i className="cell" style={{ background: scale.css(value), color: scale.ink(value) }}>{example.sequence[position - 1]}</i>
        <b>{position}</b> <span>{value > 0 ? sig(value) : "silent"}</span>
      </p>
      {inside.slice(0, 5).map((f, i) => (
        <p key={i} className="in">{conceptName(f.concept)} <small>{f.start}–{f.end}</small></p>
      ))}
    </div>
  );
}
