import { sig } from "../lib/format";

/** The one colour scale of a latent, from silent to its maximum. */
export function ScaleLegend({ max, label = "activation" }: { max: number; label?: string }) {
  return (
    <span className="legend" role="img" aria-label={`Colour scale of ${label}, from 0 to ${sig(max)}`}>
      <span>0</span>
      <span className="ramp" />
      <span>{sig(max)}</span>
    </span>
  );
}
