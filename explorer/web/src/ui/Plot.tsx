/** A figure by Observable Plot, drawn anew when what it depends on changes. */
import * as P from "@observablehq/plot";
import { useEffect, useRef } from "react";
import { useWidth } from "./basics";

export function Plot(props: {
  label: string;
  height: number;
  draw(width: number): P.PlotOptions;
  onMount?(figure: Element): (() => void) | void;
}) {
  const [box, width] = useWidth<HTMLDivElement>();
  const slot = useRef<HTMLDivElement>(null);
  const { draw, label, height, onMount } = props;
  useEffect(() => {
    const node = slot.current;
    if (!node || width < 40) return;
    const figure = P.plot({ style: { background: "none", fontFamily: "inherit", overflow: "visible" }, ...draw(width), width, height });
    figure.setAttribute("role", "img");
    figure.setAttribute("aria-label", label);
    // Plot names its groups ("rect", "dot"), which ARIA allows only where there is a role.
    for (const group of figure.querySelectorAll("g[aria-label]")) group.removeAttribute("aria-label");
    node.replaceChildren(figure);
    const undo = onMount?.(figure);
    return () => {
      undo?.();
      node.replaceChildren();
    };
  }, [draw, width, height, label, onMount]);
  return (
    <div ref={box} className="plot" style={{ minHeight: height }}>
      <div ref={slot} />
    </div>
  );
}
