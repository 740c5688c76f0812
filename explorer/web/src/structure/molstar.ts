/**
 * Mol* (Sehnal et al. 2021) without its panels, loaded when a structure is first shown. Built from its
 * modules rather than its prebuilt viewer: a third of the size, and without the video encoder, whose
 * `new Function` would need a page that may run any text as code.
 */
import { StructureElement, StructureProperties, type Structure } from "molstar/lib/mol-model/structure";
import type { Loci } from "molstar/lib/mol-model/loci";
import type { Location } from "molstar/lib/mol-model/location";
import { Bond } from "molstar/lib/mol-model/structure/structure/unit/bonds";
import type { PluginStateObject } from "molstar/lib/mol-plugin-state/objects";
import { PluginContext } from "molstar/lib/mol-plugin/context";
import { PluginBehaviors } from "molstar/lib/mol-plugin/behavior";
import { PluginSpec } from "molstar/lib/mol-plugin/spec";
import type { StateObjectSelector } from "molstar/lib/mol-state";
import type { ColorTheme } from "molstar/lib/mol-theme/color";
import { Color } from "molstar/lib/mol-util/color";
import { ParamDefinition } from "molstar/lib/mol-util/param-definition";
import type { Rgb } from "../lib/colour";

const SPEC: PluginSpec = {
  actions: [],
  behaviors: [
    PluginSpec.Behavior(PluginBehaviors.Representation.HighlightLoci),
    PluginSpec.Behavior(PluginBehaviors.Camera.CameraControls),
  ],
};
const THEME = "latent-activation";
const PARAMS = { version: ParamDefinition.Numeric(0) };
type Params = typeof PARAMS;

/** Colour of a residue, by its number in the sequence (from 1). */
export type Colouring = (position: number) => Rgb;

/** One protein in three dimensions, coloured residue by residue. */
export class StructureView {
  private version = 0;
  private colouring: Colouring = () => [128, 128, 128];
  private cartoon: StateObjectSelector | null = null;
  private structure: StateObjectSelector<PluginStateObject.Molecule.Structure> | null = null;
  private shown = "";
  private queue: Promise<void> = Promise.resolve();
  /** Called with the residue under the mouse, or null. */
  onHover: (position: number | null) => void = () => {};

  private constructor(private readonly plugin: PluginContext) {
    plugin.representation.structure.themes.colorThemeRegistry.add(this.theme());
    plugin.behaviors.interaction.hover.subscribe((event) => this.onHover(positionOf(event.current.loci)));
  }

  static async open(element: HTMLDivElement): Promise<StructureView> {
    const plugin = new PluginContext(SPEC);
    await plugin.init();
    if (!(await plugin.mountAsync(element))) throw new Error("This browser shows no 3D graphics (WebGL), so the structure can't be drawn.");
    return new StructureView(plugin);
  }

  private theme(): ColorTheme.Provider<Params, typeof THEME> {
    const place = StructureElement.Location.create(undefined);
    const color = (location: Location): Color => {
      let at: StructureElement.Location | null = StructureElement.Location.is(location) ? location : null;
      if (Bond.isLocation(location)) {
        StructureElement.Location.set(place, location.aStructure, location.aUnit, location.aUnit.elements[location.aIndex]!);
        at = place;
      }
      return Color.fromRgb(...(at ? this.colouring(StructureProperties.residue.auth_seq_id(at)) : ([128, 128, 128] as const)));
    };
    const factory = (_: unknown, props: ParamDefinition.Values<Params>): ColorTheme<Params> => ({
      factory, granularity: "group", color, props, contextHash: this.version, description: "Activation of the latent",
    });
    return {
      name: THEME, label: "Latent activation", category: "Residue Property", factory, getParams: () => PARAMS,
      defaultValues: { version: 0 }, isApplicable: () => true,
    };
  }

  /** Show a structure in PDB format; one that is shown already is only coloured anew. */
  show(name: string, pdb: string, colouring: Colouring): Promise<void> {
    const next = this.queue.then(() => this.draw(name, pdb, colouring));
    this.queue = next.catch(() => undefined);
    return next;
  }

  private async draw(name: string, pdb: string, colouring: Colouring): Promise<void> {
    this.colouring = colouring;
    this.version++;
    if (this.shown === name) return this.recolour();
    this.shown = "";
    const { plugin } = this;
    await plugin.clear();
    const data = await plugin.builders.data.rawData({ data: pdb, label: name });
    const trajectory = await plugin.builders.structure.parseTrajectory(data, "pdb");
    const model = await plugin.builders.structure.createModel(trajectory);
    this.structure = await plugin.builders.structure.createStructure(model);
    const part = await plugin.builders.structure.tryCreateComponentStatic(this.structure, "polymer");
    if (!part) throw new Error("The structure has no chain that can be drawn.");
    this.cartoon = await plugin.builders.structure.representation.addRepresentation(part, {
      type: "cartoon", color: THEME as never, colorParams: { version: this.version } as never,
    });
    this.shown = name;
    plugin.managers.camera.reset(undefined, 0);
  }

  private async recolour(): Promise<void> {
    if (!this.cartoon) return;
    const update = this.plugin.build();
    update.to(this.cartoon).update((old: object) => ({ ...old, colorTheme: { name: THEME, params: { version: this.version } } }));
    await update.commit();
  }

  private lociOf(position: number): Loci | null {
    const structure: Structure | undefined = this.structure?.obj?.data;
    return structure ? StructureElement.Loci.fromSchema(structure, { auth_seq_id: position }) : null;
  }

  highlight(position: number | null): void {
    const { lociHighlights } = this.plugin.managers.interactivity;
    lociHighlights.clearHighlights();
    const loci = position === null || !this.shown ? null : this.lociOf(position);
    if (loci) lociHighlights.highlight({ loci }, false);
  }

  focus(position: number): void {
    const loci = this.lociOf(position);
    if (loci) this.plugin.managers.camera.focusLoci(loci, { minRadius: 14, durationMs: 300 });
  }

  reset(): void {
    this.plugin.managers.camera.reset(undefined, 300);
  }

  background(rgb: Rgb): void {
    this.plugin.canvas3d?.setProps({
      renderer: { backgroundColor: Color.fromRgb(...rgb), highlightColor: Color(0x0b9aa8), highlightStrength: 0.75, ambientIntensity: 0.7 },
      camera: { helper: { axes: { name: "off", params: {} } } },
      cameraFog: { name: "on", params: { intensity: 30 } },
    });
  }

  resize(): void {
    this.plugin.handleResize();
  }

  dispose(): void {
    this.plugin.dispose();
  }
}

/** Residue of what is under the mouse. */
function positionOf(loci: Loci): number | null {
  if (!StructureElement.Loci.is(loci) || StructureElement.Loci.isEmpty(loci)) return null;
  const location = StructureElement.Loci.getFirstLocation(loci);
  return location ? StructureProperties.residue.auth_seq_id(location) : null;
}
