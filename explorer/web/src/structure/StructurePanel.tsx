/** A protein's structure, coloured by a latent; what is under the mouse is shared with the strips. */
import { useQuery } from "@tanstack/react-query";
import { useEffect, useMemo, useRef, useState, type ReactNode } from "react";
import { structureQuery } from "../api/queries";
import { activationScale, type Rgb } from "../lib/colour";
import { useTheme } from "../lib/theme";
import { Empty, Panel, Problem } from "../ui/basics";
import { Icon } from "../ui/icons";
import type { StructureView } from "./molstar";

export interface StructurePanelProps {
  accession: string | null;
  /** The structure itself, in PDB format, where it is not the server's. */
  pdb?: string | null;
  /** Values by residue, from 0. */
  values: Float32Array | null;
  max: number;
  peak: number | null;
  hover: number | null;
  onHover(position: number | null): void;
  title?: ReactNode;
  /** Why there is none. */
  none: string;
}

const SILENT: Record<"light" | "dark", Rgb> = { light: [188, 200, 204], dark: [82, 96, 104] };
const PAPER: Record<"light" | "dark", Rgb> = { light: [255, 254, 251], dark: [26, 30, 33] };

export function StructurePanel(props: StructurePanelProps) {
  const { accession, values, max, hover } = props;
  const { dark } = useTheme();
  const slot = useRef<HTMLDivElement>(null);
  const [near, setNear] = useState(false);
  const [view, setView] = useState<StructureView | null>(null);
  const [failure, setFailure] = useState<unknown>(null);
  const [drawn, setDrawn] = useState<string | null>(null);
  const wanted = near && accession !== null;
  const given = props.pdb ?? null;
  const { data, error, refetch } = useQuery({ ...structureQuery(accession ?? ""), enabled: wanted && given === null });
  const pdb = given ?? data;
  useEffect(() => {
    if (!slot.current || near) return;
    const observer = new IntersectionObserver((seen) => seen.some((e) => e.isIntersecting) && setNear(true), { rootMargin: "200px" });
    observer.observe(slot.current);
    return () => observer.disconnect();
  }, [near]);
  useOpenView(slot, wanted, setView, setFailure);
  const latest = useRef(props.onHover);
  latest.current = props.onHover;
  useEffect(() => {
    if (view) view.onHover = (position) => latest.current(position);
  }, [view]);
  const colouring = useMemo(() => {
    const scale = activationScale(max, dark);
    const silent = SILENT[dark ? "dark" : "light"];
    return (position: number): Rgb => {
      const value = values?.[position - 1] ?? 0;
      return value > 0 ? scale.rgb(value) : silent;
    };
  }, [values, max, dark]);
  useEffect(() => void view?.background(PAPER[dark ? "dark" : "light"]), [view, dark, drawn]);
  useEffect(() => {
    if (!view || !pdb || !accession) return;
    let gone = false;
    view.show(accession, pdb, colouring).then(() => !gone && setDrawn(accession), (e: unknown) => !gone && setFailure(e));
    return () => void (gone = true);
  }, [view, pdb, accession, colouring]);
  useEffect(() => void view?.highlight(hover), [view, hover, drawn]);
  const problem = failure ?? error;
  return (
    <Panel
      className="structure"
      title={props.title ?? "Structure"}
      side={view && accession && !problem && (
        <>
          {props.peak !== null && <button type="button" className="button small" onClick={() => view.focus(props.peak!)}>Go to peak</button>}
          <button type="button" className="iconbutton" aria-label="Whole structure" title="Whole structure" onClick={() => view.reset()}><Icon name="fit" size={14} /></button>
        </>
      )}
    >
      <div className="stage" data-drawn={drawn ?? undefined} data-hover={hover ?? undefined}>
        <div ref={slot} className="molstar" aria-label={accession ? `Structure of ${accession}` : undefined} role="img" style={{ visibility: accession && !problem ? "visible" : "hidden" }} />
        {problem ? <Problem error={problem} retry={() => { setFailure(null); void refetch(); }} />
          : !accession ? <Empty title="No structure">{props.none}</Empty>
          : drawn === null && <p className="loading" role="status">Loading the structure viewer…</p>}
      </div>
    </Panel>
  );
}

/** Open the viewer once, and close it with the panel. */
function useOpenView(slot: React.RefObject<HTMLDivElement | null>, wanted: boolean, setView: (v: StructureView | null) => void, setFailure: (e: unknown) => void): void {
  useEffect(() => {
    if (!wanted || !slot.current) return;
    let gone = false;
    let opened: StructureView | null = null;
    const element = document.createElement("div");
    element.className = "molstar-root";
    slot.current.replaceChildren(element);
    const observer = new ResizeObserver(() => opened?.resize());
    observer.observe(slot.current);
    import("./molstar")
      .then(({ StructureView }) => StructureView.open(element))
      .then((view) => {
        opened = view;
        if (gone) view.dispose();
        else setView(view);
      })
      .catch((error: unknown) => !gone && setFailure(error));
    return () => {
      gone = true;
      observer.disconnect();
      opened?.dispose();
      setView(null);
    };
  }, [wanted, slot, setView, setFailure]);
}
