/** Live requests: the server tells how far it is, and closing the page gives the request up. */
import { useQuery, type UseQueryResult } from "@tanstack/react-query";
import { useState } from "react";
import { ApiError, apiUrl, type Query, type Schemas } from "../api/client";

export interface Progress {
  state: "waiting" | "running" | "done" | "failed";
  ahead?: number;
  done?: number;
  doing?: string;
}

interface Line extends Progress {
  status?: number;
  detail?: string;
  result?: unknown;
}

/** Pages of one machine take turns by this name; it says nothing of anybody and lasts as long as the page. */
const CLIENT = Math.random().toString(36).slice(2, 14);

export interface Asked {
  method: "GET" | "POST";
  path: string;
  body?: unknown;
  query?: Query;
}

/** Run a request; `told` hears of its progress. Aborting it frees the server's worker. */
export async function runLive<T>(asked: Asked, told: (progress: Progress) => void, signal?: AbortSignal): Promise<T> {
  let response: Response;
  try {
    response = await fetch(apiUrl(asked.path, asked.query), {
      method: asked.method, signal, credentials: "same-origin",
      headers: {
        accept: "application/x-ndjson", "x-explorer-client": CLIENT,
        ...(asked.body === undefined ? {} : { "content-type": "application/json" }),
      },
      body: asked.body === undefined ? undefined : JSON.stringify(asked.body),
    });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError(0, "The server does not answer. Is `python -m explorer serve --live` still running?");
  }
  if (!response.ok || !response.body) throw new ApiError(response.status, await detailOf(response));
  for await (const line of linesOf(response.body)) {
    const said = JSON.parse(line) as Line;
    if (said.state === "done") return said.result as T;
    if (said.state === "failed") throw new ApiError(said.status ?? 500, said.detail ?? "This failed inside the server.");
    told(said);
  }
  throw new ApiError(0, "The server closed the connection before it was done.");
}

async function detailOf(response: Response): Promise<string> {
  try {
    const { detail } = (await response.json()) as { detail?: unknown };
    if (typeof detail === "string") return detail;
  } catch {
    // not JSON: the status says all there is
  }
  return `The server answered ${response.status}.`;
}

/** Lines of a stream of bytes; what follows the last line break counts as one. */
export async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const reader = stream.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    const parts = (rest + value).split("\n");
    rest = parts.pop()!;
    for (const part of parts) if (part) yield part;
  }
  if (rest) yield rest;
}

export type LiveResult<T> = UseQueryResult<T> & { progress: Progress | null };

/** The answer of a live request, asked for while `asked` is not null and given up when it changes. */
export function useLive<T>(asked: Asked | null): LiveResult<T> {
  const [progress, setProgress] = useState<Progress | null>(null);
  const query = useQuery<T>({
    queryKey: ["live", asked?.path, asked?.query, asked?.body],
    enabled: asked !== null,
    staleTime: Infinity,
    gcTime: 300_000,
    retry: (failures, error) => failures < 2 && error instanceof ApiError && error.status === 503,
    retryDelay: 2_000,
    queryFn: async ({ signal }) => {
      setProgress(null);
      return runLive<T>(asked!, setProgress, signal);
    },
  });
  return { ...query, progress: query.isFetching ? progress : null } as LiveResult<T>;
}

export type Live = Schemas["LiveInfo"];
