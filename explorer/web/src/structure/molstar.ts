/**
 * Mol* (Sehnal et al. 2021) as its prebuilt viewer, loaded when a structure is first shown. Only what
 * is used here is typed; the viewer's own types pull in its whole source.
 */
import cssUrl from "molstar/build/viewer/molstar.css?url";
import jsUrl from "molstar/build/viewer/molstar.js?url";
import type { Rgb } from "../lib/colour";

/* eslint-disable @typescript-eslint/no-explicit-any */
interface Viewer {
  plugin: any;
  structureInteractivity(options: { elements?: { auth_seq_id: number }; action: "highlight" | "select" | "focus" }): void;
  handleResize(): void;
  dispose(): void;
}
interface Molstar {
  Viewer: { create(element: HTMLElement, options: Record<string, unknown>): Promise<Viewer> };
  lib: any;
}

let loading: Promise<Molstar> | null = null;

function loadMolstar(): Promise<Molstar> {
  loading ??= new Promise((resolve, reject) => {
    const style = document.createElement("link");
    style.rel = "stylesheet";
    style.href = cssUrl;
    const script = document.createElement("script");
    script.src = jsUrl;
    script.onload = () => resolve((window as unknown as { molstar: Molstar }).molstar);
    script.onerror = () => {
      loading = null;
      script.remove();
      reject(new Error("The structure viewer could not be loaded."));
    };
    document.head.append(style, script);
  });
  return loading;
}

const OPTIONS = {
  layoutIsExpanded: false, layoutShowControls: false, layoutShowRemoteState: false, layoutShowSequence: false,
  layoutShowLog: false, layoutShowLeftPanel: false, viewportShowExpand: false, viewportShowControls: false,
  viewportShowSettings: false, viewportShowSelectionMode: false, viewportShowAnimation: false,
  viewportShowTrajectoryControls: false, viewportShowScreenshotControls: false, viewportShowReset: false,
  viewportShowToggleFullscreen: false, viewportFocusBehavior: "disabled", volumeStreamingDisabled: true,
  volumeStreamingServer: "", pluginStateServer: "", extensions: [], customFormats: [], allowMajorPerformanceCaveat: true,
};
const THEME = "latent-activation";

/** Colour of a residue, by its number in the sequence (from 1). */
export type Colouring = (position: number) => Rgb;

/** One protein in three dimensions, coloured residue by residue. */
export class StructureView {
  private version = 0;
  private colouring: Colouring = () => [128, 128, 128];
  private representation: any = null;
  private shown = "";
  /** Called with the residue under the mouse, or null. */
  onHover: (position: number | null) => void = () => {};

  private constructor(
    private readonly viewer: Viewer,
    private readonly lib: any,
  ) {
    viewer.plugin.representation.structure.themes.colorThemeRegistry.add(this.theme());
    viewer.plugin.behaviors.interaction.hover.subscribe((event: any) => this.onHover(this.positionOf(event.current.loci)));
  }

  static async open(element: HTMLElement): Promise<StructureView> {
    const molstar = await loadMolstar();
    return new StructureView(await molstar.Viewer.create(element, OPTIONS), molstar.lib);
  }

  private positionOf(loci: any): number | null {
    if (loci?.kind !== "element-loci" || loci.elements.length === 0) return null;
    const { StructureElement, StructureProperties } = this.lib.structure;
    const location = StructureElement.Loci.getFirstLocation(loci);
    return location ? StructureProperties.residue.auth_seq_id(location) : null;
  }

  private theme(): Record<string, unknown> {
    const { StructureProperties, StructureElement } = this.lib.structure;
    const colour = (location: any): number => {
      let place = location;
      if (location?.kind === "bond-location")
        place = StructureElement.Location.create(location.aStructure, location.aUnit, location.aUnit.elements[location.aIndex]);
      const [r, g, b] = place?.kind === "element-location" ? this.colouring(StructureProperties.residue.auth_seq_id(place)) : [128, 128, 128];
      return (r << 16) | (g << 8) | b;
    };
    const factory = (_: unknown, props: unknown) => ({
      factory, granularity: "group", color: colour, props, contextHash: this.version, description: "Activation of the latent",
    });
    return { name: THEME, label: "Latent activation", category: "Residue Property", factory, getParams: () => ({}), defaultValues: {}, isApplicable: () => true };
  }

  /** Show a structure in PDB format; one that is shown already is only coloured anew. */
  async show(name: string, pdb: string, colouring: Colouring): Promise<void> {
    this.colouring = colouring;
    this.version++;
    if (this.shown === name) return this.recolour();
    this.shown = name;
    const { plugin } = this.viewer;
    await plugin.clear();
    const data = await plugin.builders.data.rawData({ data: pdb, label: name });
    const trajectory = await plugin.builders.structure.parseTrajectory(data, "pdb");
    const model = await plugin.builders.structure.createModel(trajectory);
    const structure = await plugin.builders.structure.createStructure(model);
    const part = await plugin.builders.structure.tryCreateComponentStatic(structure, "polymer");
    if (!part) throw new Error("The structure has no chain that can be drawn.");
    this.representation = await plugin.builders.structure.representation.addRepresentation(part, {
      type: "cartoon", typeParams: { quality: "medium" }, color: THEME, colorParams: { version: this.version },
    });
    plugin.managers.camera.reset(undefined, 0);
  }

  private async recolour(): Promise<void> {
    if (!this.representation) return;
    const update = this.viewer.plugin.build();
    update.to(this.representation).update((old: any) => ({ ...old, colorTheme: { name: THEME, params: { version: this.version } } }));
    await update.commit();
  }

  highlight(position: number | null): void {
    this.viewer.structureInteractivity({ action: "highlight" });
    if (position !== null) this.viewer.structureInteractivity({ elements: { auth_seq_id: position }, action: "highlight" });
  }

  focus(position: number): void {
    this.viewer.structureInteractivity({ elements: { auth_seq_id: position }, action: "focus" });
  }

  reset(): void {
    this.viewer.plugin.managers.camera.reset();
  }

  background([r, g, b]: Rgb): void {
    const colour = (r << 16) | (g << 8) | b;
    this.viewer.plugin.canvas3d?.setProps({ renderer: { backgroundColor: colour }, camera: { helper: { axes: { name: "off", params: {} } } } });
  }

  resize(): void {
    this.viewer.handleResize();
  }

  dispose(): void {
    this.viewer.dispose();
  }
}
