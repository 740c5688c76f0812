/** Parts that the live pages share. */
import { useState, type ReactNode } from "react";
import { Link } from "wouter";
import { ApiError } from "../api/client";
import { latentHref } from "../lib/links";
import { splitLabel } from "../lib/label";
import { Empty, Problem, Skeleton } from "../ui/basics";
import { Icon } from "../ui/icons";
import type { LiveResult, Progress } from "./run";

/** What a live request is doing, with a bar and a way to stop it. */
export function Working({ progress, onCancel, height = 160 }: { progress: Progress | null; onCancel?: (() => void) | undefined; height?: number }) {
  const waiting = progress?.state === "waiting";
  const share = progress?.state === "running" ? (progress.done ?? 0) : 0;
  const words = waiting ? (progress.ahead ? `Waiting: ${progress.ahead} ${progress.ahead === 1 ? "request is" : "requests are"} ahead` : "Waiting for the worker") : (progress?.doing ?? "Running the model");
  return (
    <div className="working" role="status" style={{ minHeight: height }}>
      <p>{words}{share > 0 && ` · ${Math.round(100 * share)} %`}</p>
      <progress max={1} value={share > 0 ? share : undefined} aria-label={words} />
      {onCancel && <button type="button" className="button small" onClick={onCancel}>Stop</button>}
    </div>
  );
}

/** A live result: why there is none, that it is on its way, or what it is. */
export function Result<T>(props: { of: LiveResult<T>; asked: boolean; empty?: ReactNode; onCancel?: (() => void) | undefined; height?: number; children(found: T): ReactNode }) {
  const { of, asked } = props;
  if (!asked) return <>{props.empty ?? null}</>;
  if (of.error) return <Problem error={of.error} retry={retryable(of.error) ? () => void of.refetch() : undefined} />;
  if (of.isFetching && !of.data) return <Working progress={of.progress} onCancel={props.onCancel} height={props.height ?? 160} />;
  return of.data ? <>{props.children(of.data)}</> : <Skeleton lines={4} />;
}

const retryable = (error: unknown): boolean => !(error instanceof ApiError) || error.status === 0 || error.status >= 429;

/** Code to paste. */
export function CopyPython({ code, what }: { code: string; what: string }) {
  const [copied, setCopied] = useState(false);
  return (
    <div className="pythonrow">
      <details className="python">
        <summary>Copy as Python</summary>
        <p className="note">Run where the server was started; it prints the same numbers as {what}.</p>
        <pre tabIndex={0}><code>{code}</code></pre>
      </details>
      <button type="button" className="button small" onClick={() => void navigator.clipboard.writeText(code).then(() => setCopied(true), () => setCopied(false))}>
        <Icon name={copied ? "check" : "share"} size={12} /> {copied ? "Copied" : "Copy"}
      </button>
    </div>
  );
}

/** A latent in a narrow row: its number and what it is called. */
export function RowName({ sae, latent, label, onChoose, chosen }: { sae: string; latent: number; label: string; onChoose?: () => void; chosen?: boolean }) {
  const [words, letters] = splitLabel(label);
  return (
    <span className="rowname">
      {onChoose ? <button type="button" aria-pressed={chosen} onClick={onChoose} title={label}><b>{latent}</b> {words || "no label"} {letters && <code>{letters}</code>}</button> : <span title={label}><b>{latent}</b> {words}</span>}
      <Link href={latentHref(sae, latent)} title={`Latent ${latent}: its page`} aria-label={`Open latent ${latent}`}><Icon name="right" size={11} /></Link>
    </span>
  );
}

/** Said where nothing can be run. */
export function NotLive() {
  return (
    <Empty title="This server only reads">
      Nothing can be encoded or steered here. Start it with <code>python -m explorer serve BUNDLE --live</code>, which runs the model on this machine.
    </Empty>
  );
}

/** The promise that every page with an input repeats. */
export function Privacy() {
  return <p className="note privacy">What you enter is computed on this server and kept in its memory for a while at most; nothing is written to its disk and nothing is sent elsewhere. The address of this page holds your sequence: who gets the address gets it, too.</p>;
}
