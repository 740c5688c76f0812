/** The letters around a latent's strongest residues. */
import { memo } from "react";
import type { Latent } from "../../api/queries";
import { Empty, Panel, Term, useWidth } from "../../ui/basics";
import { Logo } from "../../ui/Logo";

const HEIGHT = 128;

export const LogoPanel = memo(function LogoPanel({ latent }: { latent: Latent }) {
  const [box, width] = useWidth<HTMLDivElement>();
  const { logo, consensus } = latent;
  return (
    <Panel
      title={<Term of="logo">Letters around the peak</Term>}
      side={consensus && <code className="consensus" title="Letters that most of its proteins share">{consensus.replace(/^\.+|\.+$/g, "").replace(/\./g, "·")}</code>}
    >
      <div ref={box} style={{ minHeight: HEIGHT }}>
        {!logo ? <Empty title="No logo">Too few proteins to say.</Empty>
          : width > 20 && <Logo logo={logo} width={width} height={HEIGHT} axes label={`Sequence logo${consensus ? `, consensus ${consensus}` : ""}`} />}
      </div>
    </Panel>
  );
});
