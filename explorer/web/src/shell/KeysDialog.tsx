/** What the keys of this page do. */
import { useEffect, useRef } from "react";
import { currentBindings } from "../lib/keys";
import { Icon } from "../ui/icons";

const NAMES: Record<string, string> = { ArrowLeft: "←", ArrowRight: "→" };

export function KeysDialog({ open, onClose }: { open: boolean; onClose(): void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    if (open) dialog.current?.showModal();
    else dialog.current?.close();
  }, [open]);
  return (
    <dialog ref={dialog} onClose={onClose} onClick={(e) => e.target === dialog.current && onClose()} aria-label="Keys">
      {open && (
        <>
          <header>
            <h2>Keys</h2>
            <button type="button" className="iconbutton" aria-label="Close" onClick={onClose}>
              <Icon name="close" />
            </button>
          </header>
          <dl className="keys">
            {currentBindings().map(({ key, label }) => (
              <div key={key}>
                <dt>
                  <kbd>{NAMES[key] ?? key}</kbd>
                </dt>
                <dd>{label}</dd>
              </div>
            ))}
            <div>
              <dt>
                <kbd>Esc</kbd>
              </dt>
              <dd>Leave the search box, close this</dd>
            </div>
          </dl>
        </>
      )}
    </dialog>
  );
}
