/**
 * Many points by WebGL, in two draws: those that are faded, then those that are chosen. Our own, as
 * the libraries for it compile their shaders' callers from text, which the page's policy forbids.
 */

export interface MapView {
  /** The map's point in the middle, and the magnification. */
  x: number;
  y: number;
  zoom: number;
}

export const WHOLE: MapView = { x: 0, y: 0, zoom: 1 };
const MARGIN = 0.94;

/** Pixels from the left and top of a point of the map. */
export function toScreen(view: MapView, width: number, height: number, x: number, y: number): [number, number] {
  const s = scaleOf(view, width, height);
  return [width / 2 + (x - view.x) * s, height / 2 - (y - view.y) * s];
}

/** Point of the map under a pixel. */
export function toMap(view: MapView, width: number, height: number, px: number, py: number): [number, number] {
  const s = scaleOf(view, width, height);
  return [view.x + (px - width / 2) / s, view.y - (py - height / 2) / s];
}

function scaleOf(view: MapView, width: number, height: number): number {
  return (Math.min(width, height) / 2) * MARGIN * view.zoom;
}

/** Magnify by a factor about a pixel, which stays where it is. */
export function zoomAt(view: MapView, width: number, height: number, px: number, py: number, factor: number): MapView {
  const zoom = Math.min(200, Math.max(0.6, view.zoom * factor));
  const [mx, my] = toMap(view, width, height, px, py);
  const [nx, ny] = toMap({ ...view, zoom }, width, height, px, py);
  return { x: view.x + mx - nx, y: view.y + my - ny, zoom };
}

const VERTEX = `#version 300 es
in vec2 place; in vec4 colour; uniform vec2 middle; uniform vec2 scale; uniform float size; out vec4 fill;
void main() { gl_Position = vec4((place - middle) * scale, 0.0, 1.0); gl_PointSize = size; fill = colour; }`;
const FRAGMENT = `#version 300 es
precision highp float; in vec4 fill; uniform float alpha; uniform float size; out vec4 result;
void main() {
  float edge = length(gl_PointCoord - 0.5) * size;
  float cover = clamp(size * 0.5 - edge, 0.0, 1.0);
  if (cover <= 0.0) discard;
  float a = fill.a * alpha * cover; result = vec4(fill.rgb * a, a);
}`;

export class PointMap {
  private readonly gl: WebGL2RenderingContext;
  private readonly program: WebGLProgram;
  private readonly uniform: (name: string) => WebGLUniformLocation | null;
  private readonly places: WebGLBuffer;
  private readonly colours: WebGLBuffer;
  private readonly order: WebGLBuffer;
  private n = 0;
  private faded = 0;

  constructor(private readonly canvas: HTMLCanvasElement) {
    const gl = canvas.getContext("webgl2", { antialias: false, premultipliedAlpha: true, preserveDrawingBuffer: true });
    if (!gl) throw new Error("This browser shows no WebGL, so the map can't be drawn; the table has the same latents.");
    this.gl = gl;
    this.program = link(gl);
    this.uniform = (name) => gl.getUniformLocation(this.program, name);
    [this.places, this.colours, this.order] = [gl.createBuffer(), gl.createBuffer(), gl.createBuffer()];
    this.attribute("place", this.places, 2, gl.FLOAT, false);
    this.attribute("colour", this.colours, 4, gl.UNSIGNED_BYTE, true);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.order);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  }

  private attribute(name: string, buffer: WebGLBuffer, size: number, type: number, normal: boolean): void {
    const at = this.gl.getAttribLocation(this.program, name);
    this.gl.bindBuffer(this.gl.ARRAY_BUFFER, buffer);
    this.gl.enableVertexAttribArray(at);
    this.gl.vertexAttribPointer(at, size, type, normal, 0, 0);
  }

  points(x: readonly number[], y: readonly number[]): void {
    this.n = x.length;
    const places = new Float32Array(2 * this.n);
    for (let i = 0; i < this.n; i++) places.set([x[i]!, y[i]!], 2 * i);
    this.gl.bindBuffer(this.gl.ARRAY_BUFFER, this.places);
    this.gl.bufferData(this.gl.ARRAY_BUFFER, places, this.gl.STATIC_DRAW);
  }

  /** Colour of each point (r, g, b as one number), and which are chosen. */
  paint(colours: readonly number[], chosen: readonly number[]): void {
    const bytes = new Uint8Array(4 * this.n);
    for (let i = 0; i < this.n; i++) {
      const c = colours[i]!;
      bytes.set([c >> 16, (c >> 8) & 255, c & 255, 255], 4 * i);
    }
    const is = new Uint8Array(this.n);
    for (const i of chosen) is[i] = 1;
    const order = new Uint32Array(this.n);
    this.faded = this.n - chosen.length;
    let [a, b] = [0, this.faded];
    for (let i = 0; i < this.n; i++) order[is[i] ? b++ : a++] = i;
    const { gl } = this;
    gl.bindBuffer(gl.ARRAY_BUFFER, this.colours);
    gl.bufferData(gl.ARRAY_BUFFER, bytes, gl.STATIC_DRAW);
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, order, gl.STATIC_DRAW);
  }

  draw(view: MapView, width: number, height: number): void {
    const { gl } = this;
    const ratio = window.devicePixelRatio || 1;
    const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.canvas.width !== w || this.canvas.height !== h) [this.canvas.width, this.canvas.height] = [w, h];
    gl.viewport(0, 0, w, h);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.useProgram(this.program);
    const s = scaleOf(view, width, height);
    gl.uniform2f(this.uniform("middle"), view.x, view.y);
    gl.uniform2f(this.uniform("scale"), (2 * s) / width, (2 * s) / height);
    const size = pointSize(this.n, view.zoom, Math.min(width, height)) * ratio;
    this.part(0, this.faded, size * 0.8, 0.16);
    this.part(this.faded, this.n - this.faded, size, 0.9);
  }

  private part(from: number, n: number, size: number, alpha: number): void {
    if (n <= 0) return;
    this.gl.uniform1f(this.uniform("size"), size);
    this.gl.uniform1f(this.uniform("alpha"), alpha);
    this.gl.drawElements(this.gl.POINTS, n, this.gl.UNSIGNED_INT, 4 * from);
  }

  dispose(): void {
    this.gl.deleteProgram(this.program);
    for (const buffer of [this.places, this.colours, this.order]) this.gl.deleteBuffer(buffer);
  }
}

/** Pixels across a point: fewer points and more zoom make them larger. */
export function pointSize(n: number, zoom: number, side: number): number {
  return Math.min(16, Math.max(2, ((0.5 * side) / Math.sqrt(n + 100)) * Math.sqrt(zoom)));
}

/** The point nearest to a pixel, among some, or −1 when none is within `reach` pixels. */
export function nearest(x: readonly number[], y: readonly number[], among: readonly number[], view: MapView, width: number, height: number, px: number, py: number, reach = 9): number {
  const s = scaleOf(view, width, height);
  const [mx, my] = toMap(view, width, height, px, py);
  let best = (reach / s) ** 2;
  let at = -1;
  for (const i of among) {
    const d = (x[i]! - mx) ** 2 + (y[i]! - my) ** 2;
    if (d < best) [best, at] = [d, i];
  }
  return at;
}

function link(gl: WebGL2RenderingContext): WebGLProgram {
  const program = gl.createProgram();
  for (const [type, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]] as const) {
    const shader = gl.createShader(type)!;
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error("The map can't be drawn by this browser.");
  gl.useProgram(program);
  return program;
}
