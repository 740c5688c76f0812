/** Small parts that every page uses. */
import { Fragment, useEffect, useId, useRef, useState, type ReactNode } from "react";
import { ApiError } from "../api/client";
import { GLOSSARY, type TermKey } from "../lib/glossary";
import { title } from "../lib/format";

/** A term with its meaning on hover and focus. */
export function Term({ of, children }: { of: TermKey; children: ReactNode }) {
  return <Tip text={GLOSSARY[of]}>{children}</Tip>;
}

/** Any text with an explanation on hover, focus and touch. */
export function Tip({ text, children }: { text: string; children: ReactNode }) {
  const id = useId();
  const anchor = useRef<HTMLButtonElement>(null);
  const [at, setAt] = useState<{ x: number; y: number; below: boolean } | null>(null);
  const show = () => {
    const box = anchor.current?.getBoundingClientRect();
    if (!box) return;
    const x = Math.min(window.innerWidth - 148, Math.max(148, box.left + box.width / 2));
    setAt({ x, y: box.top > 110 ? box.top - 6 : box.bottom + 6, below: box.top <= 110 });
  };
  const hide = () => setAt(null);
  return (
    <>
      <button
        ref={anchor}
        type="button"
        className="term"
        aria-describedby={at ? id : undefined}
        onMouseEnter={show}
        onMouseLeave={hide}
        onFocus={show}
        onBlur={hide}
        onKeyDown={(e) => e.key === "Escape" && hide()}
        onClick={(e) => {
          e.stopPropagation();
          show();
        }}
      >
        {children}
      </button>
      {at && (
        <span id={id} role="tooltip" className={`tooltip${at.below ? " below" : ""}`} style={{ left: at.x, top: at.y }}>
          {text}
        </span>
      )}
    </>
  );
}

/** A titled panel. */
export function Panel(props: {
  title: ReactNode;
  side?: ReactNode;
  note?: ReactNode;
  className?: string;
  children: ReactNode;
}) {
  const id = useId();
  return (
    <section className={`panel ${props.className ?? ""}`} aria-labelledby={id}>
      <header>
        <h2 id={id}>{props.title}</h2>
        {props.side && <div className="side">{props.side}</div>}
      </header>
      {props.note && <p className="note">{props.note}</p>}
      {props.children}
    </section>
  );
}

/** A figure with its name. */
export function Figure({ name, children, sub }: { name: ReactNode; children: ReactNode; sub?: ReactNode }) {
  return (
    <div className="figure">
      <dt>{name}</dt>
      <dd>
        {children}
        {sub && <small>{sub}</small>}
      </dd>
    </div>
  );
}

/** Grey bars where something will be. */
export function Skeleton({ lines = 3, height }: { lines?: number; height?: number }) {
  return (
    <div className="skeleton" role="status" aria-label="Loading" style={height ? { minHeight: height } : undefined}>
      {Array.from({ length: lines }, (_, i) => (
        <span key={i} style={{ width: `${92 - ((i * 29) % 47)}%`, height: height && lines === 1 ? height : undefined }} />
      ))}
    </div>
  );
}

/** Nothing to show, and why. */
export function Empty({ title: heading, children }: { title: string; children?: ReactNode }) {
  return (
    <div className="empty">
      <svg viewBox="0 0 64 20" aria-hidden="true">
        {[3, 5, 2, 6, 3, 8, 4, 3, 5, 2].map((h, i) => (
          <rect key={i} x={2 + i * 6} y={10 - h} width="4" height={2 * h} rx="1" />
        ))}
      </svg>
      <strong>{heading}</strong>
      {children && <p>{children}</p>}
    </div>
  );
}

/** What went wrong, and a way out. */
export function Problem({ error, retry }: { error: unknown; retry?: () => void }) {
  const status = error instanceof ApiError ? error.status : null;
  const heading = status === 404 ? "Not here" : status === 429 ? "Busy just now" : status === 0 ? "No answer" : "That did not work";
  return (
    <div className="empty problem" role="alert">
      <strong>{heading}</strong>
      <p>{error instanceof Error ? error.message : "Something went wrong."}</p>
      {retry && (
        <button type="button" className="button" onClick={retry}>
          Try again
        </button>
      )}
    </div>
  );
}

/** Tabs as a radio-like row; arrow keys move. */
export function Tabs<T extends string>(props: {
  label: string;
  value: T;
  /** `before` is a caption in front of the first of several. */
  options: readonly { value: T; label: ReactNode; title?: string; before?: string }[];
  onChange(value: T): void;
  small?: boolean;
}) {
  const move = (event: React.KeyboardEvent, i: number) => {
    const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    if (!step) return;
    event.preventDefault();
    const n = props.options.length;
    const next = props.options[(i + step + n) % n]!;
    props.onChange(next.value);
    event.currentTarget.parentElement?.querySelectorAll<HTMLElement>("[role=tab]")[(i + step + n) % n]?.focus();
  };
  return (
    <div className={`tabs${props.small ? " small" : ""}`} role="tablist" aria-label={props.label}>
      {props.options.map((option, i) => (
        <Fragment key={option.value}>
        {option.before && <span className="before" aria-hidden="true">{option.before}</span>}
        <button
          type="button"
          role="tab"
          title={option.title}
          aria-selected={option.value === props.value}
          tabIndex={option.value === props.value ? 0 : -1}
          onKeyDown={(event) => move(event, i)}
          onClick={() => props.onChange(option.value)}
        >
          {option.label}
        </button>
        </Fragment>
      ))}
    </div>
  );
}

/** A native select with a visible name. */
export function Select<T extends string>(props: {
  label: string;
  value: T;
  options: readonly { value: T; label: string }[];
  onChange(value: T): void;
}) {
  return (
    <label className="select">
      <span>{props.label}</span>
      <select value={props.value} onChange={(e) => props.onChange(e.target.value as T)}>
        {props.options.map((o) => (
          <option key={o.value} value={o.value}>
            {o.label}
          </option>
        ))}
      </select>
    </label>
  );
}

/** Set the window's title while a page is shown. */
export function useTitle(...parts: (string | undefined | null)[]): void {
  const text = title(...parts);
  useEffect(() => {
    document.title = text;
  }, [text]);
}

/** A short word or two in a box. */
export function Chip({ children, tone }: { children: ReactNode; tone?: "accent" | "warn" | "quiet" }) {
  return <span className={`chip ${tone ?? ""}`}>{children}</span>;
}

/** Width of an element as it is laid out now. */
export function useWidth<T extends HTMLElement>(): [React.RefObject<T | null>, number] {
  const ref = useRef<T>(null);
  const [width, setWidth] = useState(0);
  useEffect(() => {
    const node = ref.current;
    if (!node) return;
    const observer = new ResizeObserver(([entry]) => entry && setWidth(Math.floor(entry.contentRect.width)));
    observer.observe(node);
    return () => observer.disconnect();
  }, []);
  return [ref, width];
}
