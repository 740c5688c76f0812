/** The bar above every page: where one is, the search box, light or dark, and the keys. */
import { useState } from "react";
import { Link, useLocation, useRoute, useSearch } from "wouter";
import { useCapabilities, useSae } from "../api/queries";
import { unsegment } from "../lib/links";
import { useKeys } from "../lib/keys";
import { useTheme } from "../lib/theme";
import { Icon } from "../ui/icons";
import { KeysDialog } from "./KeysDialog";
import { SearchBox } from "./SearchBox";

function Mark() {
  return (
    <svg className="mark" viewBox="0 0 32 22" aria-hidden="true">
      <rect x="0" y="7" width="5" height="8" rx="1.2" className="m1" />
      <rect x="7" y="4" width="5" height="14" rx="1.2" className="m2" />
      <rect x="14" y="0" width="5" height="22" rx="1.2" className="m3" />
      <rect x="21" y="6" width="5" height="10" rx="1.2" className="m2" />
      <rect x="28" y="9" width="4" height="4" rx="1.2" className="m1" />
    </svg>
  );
}

export function TopBar() {
  const { choice, dark, choose } = useTheme();
  const { mode, notes } = useCapabilities();
  const [keys, setKeys] = useState(false);
  const [location] = useLocation();
  const search = useSearch();
  // The first page has the box in its middle, unless it shows answers.
  const asked = location === "/" ? (new URLSearchParams(search).get("q")?.trim() ?? "") : "";
  const [, params] = useRoute("/sae/:id/*?");
  const sae = useSae(params ? unsegment(params.id) : undefined);
  useKeys([{ key: "?", label: "Show these keys", run: () => setKeys((open) => !open) }]);
  const at = (path: string) => (location === path || location.startsWith(`${path}/`) ? "page" : undefined);
  return (
    <header className="topbar">
      <Link href="/" className="brand" aria-label="Protein latents: all dictionaries" title={sae?.name}>
        <Mark />
        <span>Protein latents</span>
      </Link>
      {(location !== "/" || asked) && <SearchBox key={asked} sae={sae?.id} initial={asked} />}
      <nav aria-label="Pages">
        <Link href="/" aria-current={location === "/" ? "page" : undefined}>Dictionaries</Link>
        <Link href="/concepts" aria-current={at("/concepts")}>Concepts</Link>
        {mode === "live" && <Link href="/play" aria-current={at("/play")}>Play</Link>}
        {mode === "live" && <Link href="/steer" aria-current={at("/steer")}>Steer</Link>}
        {mode === "live" && <Link href="/compare" aria-current={at("/compare")}>Compare</Link>}
        {notes && <Link href="/lists" aria-current={at("/lists")}>Lists</Link>}
        {notes && <Link href="/rate" aria-current={at("/rate")}>Rate</Link>}
        {mode === "static" && <span className="chip quiet" title="A copy of files: search is by text, and nothing can be written.">static copy</span>}
        <button type="button" className="iconbutton" aria-label={dark ? "Light" : "Dark"}
          title={`${dark ? "Light" : "Dark"} (now ${choice === "system" ? "as the system says" : choice})`}
          onClick={() => choose(dark ? "light" : "dark")}>
          <Icon name={dark ? "sun" : "moon"} />
        </button>
        <button type="button" className="iconbutton" aria-label="Keys" title="Keys (?)" onClick={() => setKeys(true)}>
          <Icon name="help" />
        </button>
      </nav>
      <KeysDialog open={keys} onClose={() => setKeys(false)} />
    </header>
  );
}
