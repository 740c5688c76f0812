/** Single keys that do something, with what they do for the help. */
import { useEffect, useRef } from "react";

export interface Binding {
  key: string;
  label: string;
  run(): void;
}

const active = new Set<{ current: readonly Binding[] }>();

/** Bindings of everything that is shown now. */
export function currentBindings(): Binding[] {
  const seen = new Map<string, Binding>();
  for (const ref of active) for (const binding of ref.current) seen.set(binding.key, binding);
  return [...seen.values()];
}

function typing(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  return target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName);
}

/** Listen for keys while the component is shown; never while someone types. */
export function useKeys(bindings: readonly Binding[]): void {
  const ref = useRef(bindings);
  ref.current = bindings;
  useEffect(() => {
    active.add(ref);
    const onKey = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
      if (document.querySelector("dialog[open]") && event.key !== "?") return;
      const binding = ref.current.find((b) => b.key === event.key);
      if (!binding) return;
      event.preventDefault();
      binding.run();
    };
    window.addEventListener("keydown", onKey);
    return () => {
      active.delete(ref);
      window.removeEventListener("keydown", onKey);
    };
  }, []);
}
