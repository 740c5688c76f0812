/** The map of all latents: move, magnify, draw a lasso, click to open. */
import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import type { Columns } from "../../api/queries";
import { percent, sig } from "../../lib/format";
import { useTheme } from "../../lib/theme";
import type { Point } from "../../lib/urlstate";
import { Empty, Panel, Problem, Select, Term, useWidth } from "../../ui/basics";
import { Icon } from "../../ui/icons";
import { nearest, PointMap, toMap, toScreen, WHOLE, zoomAt, type MapView } from "./pointmap";
import { colouring, simplify, type ColourBy } from "./select";

const NAMES: Record<ColourBy, string> = { kind: "kind", concept: "best concept", frequency: "frequency", f1: "F1 of best concept", precision: "precision of label", max: "maximum" };

export interface AtlasMapProps {
  columns: Columns;
  chosen: readonly number[];
  by: ColourBy;
  view: MapView;
  lasso: readonly Point[];
  hover: number | null;
  probed: boolean;
  onBy(by: ColourBy): void;
  onView(view: MapView): void;
  onLasso(points: readonly Point[]): void;
  onHover(j: number | null): void;
  onOpen(j: number): void;
}

export function AtlasMap(props: AtlasMapProps) {
  const { columns, chosen, by, lasso, hover } = props;
  const { dark } = useTheme();
  const [box, width] = useWidth<HTMLDivElement>();
  const height = Math.round(Math.min(width * 0.8, typeof window === "undefined" ? 600 : Math.max(320, window.innerHeight - 240)));
  const canvas = useRef<HTMLCanvasElement>(null);
  const [map, setMap] = useState<PointMap | null>(null);
  const [failure, setFailure] = useState<unknown>(null);
  const [view, setView] = useLateView(props.view, props.onView);
  const [mode, setMode] = useState<"pan" | "lasso">("pan");
  const paint = useMemo(() => colouring(columns, by, dark), [columns, by, dark]);
  const { x, y } = columns;
  useEffect(() => {
    if (!canvas.current || !x || !y) return;
    let made: PointMap;
    try {
      made = new PointMap(canvas.current);
    } catch (error) {
      setFailure(error);
      return;
    }
    made.points(x, y);
    setMap(made);
    return () => {
      made.dispose();
      setMap(null);
    };
  }, [x, y]);
  useEffect(() => {
    if (!map || width < 20) return;
    const table = paint.colours.map((c) => parseInt(c.slice(1), 16));
    const colours = paint.values.map((v) => table[paint.categorical ? v : Math.round(v * (table.length - 1))]!);
    map.paint(colours, chosen);
  }, [map, paint, chosen, width]);
  useEffect(() => {
    if (map && width > 20) map.draw(view, width, height);
  }, [map, view, width, height, paint, chosen]);
  const drag = useDrag({ view, setView, width, height, mode, onLasso: props.onLasso });
  const zoom = (factor: number) => setView(zoomAt(view, width, height, width / 2, height / 2, factor));
  useWheelZoom(canvas, (px, py, factor) => setView(zoomAt(view, width, height, px, py, factor)));
  const at = (event: React.PointerEvent): number => {
    const r = event.currentTarget.getBoundingClientRect();
    return nearest(x!, y!, chosen, view, width, height, event.clientX - r.left, event.clientY - r.top);
  };
  const outline = drag.line.length ? drag.line : lasso;
  const spot = hover !== null && x && y ? toScreen(view, width, height, x[hover]!, y[hover]!) : null;
  return (
    <Panel className="atlasmap" title={<Term of="umap">Map</Term>} side={
      <>
        <Select label="Colour by" value={by} onChange={props.onBy} options={(Object.keys(NAMES) as ColourBy[]).filter((k) => props.probed || !["concept", "f1", "precision"].includes(k)).map((value) => ({ value, label: NAMES[value] }))} />
        <span className="group-of" role="group" aria-label="Map">
          <button type="button" className="iconbutton" aria-pressed={mode === "pan"} aria-label="Move" title="Drag to move" onClick={() => setMode("pan")}><Icon name="hand" /></button>
          <button type="button" className="iconbutton" aria-pressed={mode === "lasso"} aria-label="Lasso" title="Drag to select (or hold Shift)" onClick={() => setMode("lasso")}><Icon name="lasso" /></button>
          <button type="button" className="iconbutton" aria-label="Zoom out" title="Zoom out" onClick={() => zoom(1 / 1.6)}><Icon name="minus" /></button>
          <button type="button" className="iconbutton" aria-label="Zoom in" title="Zoom in" onClick={() => zoom(1.6)}><Icon name="plus" /></button>
          <button type="button" className="iconbutton" aria-label="Whole map" title="Whole map" onClick={() => setView(WHOLE)}><Icon name="fit" /></button>
        </span>
      </>
    }>
      <div ref={box} className={`map ${mode}`} style={{ minHeight: height }}>
        {failure ? <Problem error={failure} /> : !x || !y ? <Empty title="No map">This bundle was built without one.</Empty> : (
          <div className="mapstage" style={{ width, height }}>
            <canvas
              ref={canvas} style={{ width, height }} role="img" tabIndex={0}
              aria-label={`Map of ${columns.label.length} latents, ${chosen.length} of them chosen; the table lists them`}
              onPointerDown={drag.down} onPointerUp={(e) => {
                if (drag.up() && mode === "pan") {
                  const j = at(e);
                  if (j >= 0) props.onOpen(j);
                }
              }}
              onPointerMove={(e) => { if (!drag.move(e)) { const j = at(e); props.onHover(j < 0 ? null : j); } }}
              onPointerLeave={() => props.onHover(null)}
              onKeyDown={(e) => {
                const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[e.key];
                if (step) setView({ ...view, x: view.x + (0.1 * step[0]!) / view.zoom, y: view.y + (0.1 * step[1]!) / view.zoom });
                else if (e.key === "+" || e.key === "-") zoom(e.key === "+" ? 1.6 : 1 / 1.6);
                else return;
                e.preventDefault();
              }}
            />
            <svg width={width} height={height} aria-hidden="true">
              {outline.length > 1 && <polygon className="lasso" points={outline.map(([a, b]) => toScreen(view, width, height, a, b).map((v) => v.toFixed(1)).join(",")).join(" ")} />}
              {spot && <circle className="spot" cx={spot[0]} cy={spot[1]} r={7} />}
            </svg>
            {spot && hover !== null && <MapTip columns={columns} j={hover} at={spot} width={width} />}
          </div>
        )}
      </div>
      <MapLegend by={by} paint={paint} />
    </Panel>
  );
}

function MapTip({ columns, j, at, width }: { columns: Columns; j: number; at: [number, number]; width: number }) {
  const left = at[0] > width * 0.6;
  return (
    <div className="maptip" style={{ left: at[0], top: at[1], transform: `translate(${left ? "calc(-100% - 12px)" : "12px"}, -50%)` }}>
      <b>{j}</b> {columns.label[j]}
      <small>{columns.kind[j]} · fires on {percent(columns.frequency[j])}{columns.f1[j] != null && ` · F1 ${sig(columns.f1[j], 2)}`}</small>
    </div>
  );
}

function MapLegend({ by, paint }: { by: ColourBy; paint: ReturnType<typeof colouring> }) {
  if (paint.categorical)
    return <ul className="conceptlegend">{paint.legend.map((name, i) => <li key={name}><i className="swatch" style={{ background: paint.colours[i] }} /> {name}</li>)}</ul>;
  const [low, high] = paint.legend.map(Number) as [number, number];
  const show = by === "frequency" ? percent : (v: number) => sig(v, 2);
  return <div className="conceptlegend"><span className="legend"><span>{show(low)}</span><span className="ramp" /><span>{show(high)}</span></span></div>;
}

/** The view moves at once and is written to the address a little later. */
function useLateView(saved: MapView, save: (view: MapView) => void): [MapView, (view: MapView) => void] {
  const [view, setNow] = useState(saved);
  const timer = useRef<ReturnType<typeof setTimeout> | null>(null);
  const { x, y, zoom } = saved;
  useEffect(() => {
    if (timer.current === null) setNow({ x, y, zoom });
  }, [x, y, zoom]);
  const set = useCallback((next: MapView) => {
    setNow(next);
    if (timer.current !== null) clearTimeout(timer.current);
    timer.current = setTimeout(() => {
      timer.current = null;
      save(next);
    }, 250);
  }, [save]);
  return [view, set];
}

interface DragOptions {
  view: MapView;
  setView(view: MapView): void;
  width: number;
  height: number;
  mode: "pan" | "lasso";
  onLasso(points: readonly Point[]): void;
}

function useDrag({ view, setView, width, height, mode, onLasso }: DragOptions) {
  const from = useRef<{ x: number; y: number; view: MapView; lasso: boolean; moved: boolean } | null>(null);
  const [line, setLine] = useState<Point[]>([]);
  const here = (event: React.PointerEvent): [number, number] => {
    const r = event.currentTarget.getBoundingClientRect();
    return [event.clientX - r.left, event.clientY - r.top];
  };
  return {
    line,
    down(event: React.PointerEvent) {
      if (event.button !== 0) return;
      event.currentTarget.setPointerCapture(event.pointerId);
      const [x, y] = here(event);
      from.current = { x, y, view, lasso: mode === "lasso" || event.shiftKey, moved: false };
      if (from.current.lasso) setLine([toMap(view, width, height, x, y)]);
    },
    /** Whether a drag is under way. */
    move(event: React.PointerEvent): boolean {
      const start = from.current;
      if (!start) return false;
      const [x, y] = here(event);
      if (Math.hypot(x - start.x, y - start.y) > 4) start.moved = true;
      if (start.lasso) setLine((now) => [...now, toMap(view, width, height, x, y)]);
      else if (start.moved) {
        const [ax, ay] = toMap(start.view, width, height, start.x, start.y);
        const [bx, by] = toMap(start.view, width, height, x, y);
        setView({ ...start.view, x: start.view.x + ax - bx, y: start.view.y + ay - by });
      }
      return true;
    },
    /** Ends it; whether it was a mere click. */
    up(): boolean {
      const start = from.current;
      from.current = null;
      if (start?.lasso) {
        onLasso(line.length > 3 ? simplify(line, 0.004 / start.view.zoom) : []);
        setLine([]);
        return false;
      }
      return start !== null && !start.moved;
    },
  };
}

function useWheelZoom(ref: React.RefObject<HTMLElement | null>, onZoom: (x: number, y: number, factor: number) => void): void {
  const latest = useRef(onZoom);
  latest.current = onZoom;
  useEffect(() => {
    const node = ref.current;
    if (!node) return;
    const onWheel = (event: WheelEvent) => {
      event.preventDefault();
      const r = node.getBoundingClientRect();
      latest.current(event.clientX - r.left, event.clientY - r.top, Math.exp(-event.deltaY / 400));
    };
    node.addEventListener("wheel", onWheel, { passive: false });
    return () => node.removeEventListener("wheel", onWheel);
  }, [ref]);
}
