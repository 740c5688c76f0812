/** A view's state in the query string: what is at its default is left out, and nonsense is default. */
import { useCallback, useMemo } from "react";
import { useSearch } from "wouter";

/** How a value is written; `parse` of a text that fits nothing gives the default. */
export interface Codec<T> {
  readonly fallback: T;
  parse(text: string): T | undefined;
  format(value: T): string;
}

export const text = (fallback = ""): Codec<string> => ({ fallback, parse: (t) => t, format: (v) => v });

export const number = (fallback: number, min = -Infinity, max = Infinity): Codec<number> => ({
  fallback,
  parse: (t) => {
    const value = Number(t);
    return t.trim() !== "" && Number.isFinite(value) ? Math.min(max, Math.max(min, value)) : undefined;
  },
  format: (v) => String(Number(v.toFixed(4))),
});

export const oneOf = <const T extends string>(options: readonly T[], fallback: NoInfer<T>): Codec<T> => ({
  fallback,
  parse: (t) => options.find((o) => o === t),
  format: (v) => v,
});

/** Several texts, each percent-encoded where it has a comma. */
export const texts = (): Codec<readonly string[]> => ({
  fallback: [],
  parse: (t) => t.split(",").filter(Boolean).map(decode),
  format: (v) => v.map((s) => s.replace(/[%,]/g, encodeURIComponent)).join(","),
});

/** A closed interval of numbers, or null. */
export const interval = (): Codec<readonly [number, number] | null> => ({
  fallback: null,
  parse: (t) => {
    const [low, high, ...rest] = t.split("~").map((s) => (s.trim() === "" ? NaN : Number(s)));
    if (rest.length || !Number.isFinite(low) || !Number.isFinite(high) || low! > high!) return undefined;
    return [low!, high!];
  },
  format: (v) => (v ? v.map((x) => String(Number(x.toPrecision(5)))).join("~") : ""),
});

export type Point = readonly [number, number];

/** A polygon in the map's coordinates (−1 … 1), three digits each: `x.y.x.y…` in thousandths. */
export const polygon = (): Codec<readonly Point[]> => ({
  fallback: [],
  parse: (t) => {
    const values = t.split(".").map((s) => (/^-?\d{1,5}$/.test(s) ? Number(s) / 1000 : NaN));
    if (values.length < 6 || values.length % 2 || values.some((v) => !Number.isFinite(v))) return undefined;
    return Array.from({ length: values.length / 2 }, (_, i): Point => [values[2 * i]!, values[2 * i + 1]!]);
  },
  format: (v) => v.flatMap(([x, y]) => [Math.round(x * 1000), Math.round(y * 1000)]).join("."),
});

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

// eslint-disable-next-line @typescript-eslint/no-explicit-any
export type Spec = Record<string, Codec<any>>;
export type StateOf<S extends Spec> = { readonly [K in keyof S]: S[K] extends Codec<infer T> ? T : never };

/** Read a state from a query string. */
export function readState<S extends Spec>(spec: S, search: string): StateOf<S> {
  const params = new URLSearchParams(search);
  const entries = Object.entries(spec).map(([key, codec]) => {
    const text = params.get(key);
    return [key, text === null ? codec.fallback : (codec.parse(text) ?? codec.fallback)] as const;
  });
  return Object.fromEntries(entries) as StateOf<S>;
}

/** The query string with some values changed; keys outside the spec stay as they are. */
export function writeState<S extends Spec>(spec: S, search: string, change: Partial<StateOf<S>>): string {
  const params = new URLSearchParams(search);
  for (const [key, value] of Object.entries(change)) {
    const codec = spec[key];
    if (!codec) continue;
    const text = value === undefined ? "" : codec.format(value);
    if (text === "" || text === codec.format(codec.fallback)) params.delete(key);
    else params.set(key, text);
  }
  return params.toString();
}

export type SetState<S extends Spec> = (change: Partial<StateOf<S>>, options?: { push?: boolean }) => void;

/** The state of this page's query string; `push` makes a step that Back undoes. */
export function useUrlState<S extends Spec>(spec: S): [StateOf<S>, SetState<S>] {
  const search = useSearch();
  const state = useMemo(() => readState(spec, search), [spec, search]);
  const set = useCallback<SetState<S>>(
    (change, options) => {
      const now = window.location.search.replace(/^\?/, "");
      const next = writeState(spec, now, change);
      if (next === now) return;
      const url = window.location.pathname + (next ? `?${next}` : "");
      if (options?.push) window.history.pushState(null, "", url);
      else window.history.replaceState(null, "", url);
    },
    [spec],
  );
  return [state, set];
}
