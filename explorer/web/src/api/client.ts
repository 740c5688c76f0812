/** Requests to the server, or to the files of a static export: nothing else is ever fetched. */
import type { components } from "./types";

export type Schemas = components["schemas"];
export type Query = Record<string, string | number | null | undefined>;

/** Path of the folder that holds the pages, with a slash at its end. */
export const BASE: string =
  typeof document === "undefined" ? "/" : new URL(".", document.baseURI).pathname;

/** A refusal by the server: its sentence, and the HTTP status. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

let isStatic = false;

/** Say whether the pages lie beside files (a static export) or a server. */
export function setStatic(value: boolean): void {
  isStatic = value;
}

/** Whether the answers are files. */
export function staticMode(): boolean {
  return isStatic;
}

const OWN_ENDING = /\.(csv|jsonl|json)$|^structures\//;

/** Keys and values that are set, keys in order. */
export function settled(query: Query): [string, string][] {
  return Object.entries(query)
    .filter((pair): pair is [string, string | number] => pair[1] !== null && pair[1] !== undefined && pair[1] !== "")
    .map(([key, value]): [string, string] => [key, String(value)])
    .sort(([a], [b]) => (a < b ? -1 : 1));
}

/** Where the answer of a GET lies: under /api/v1, or as a file of a static export. */
export function apiUrl(path: string, query: Query = {}, asFile = isStatic): string {
  const pairs = settled(query);
  if (!asFile) {
    const search = new URLSearchParams(pairs).toString();
    return `${BASE}api/v1/${path}${search ? `?${search}` : ""}`;
  }
  const tail = pairs.map(([k, v]) => `${segment(k)}=${segment(v)}`).join("&");
  const file = `${path}${tail ? `~${tail}` : ""}${OWN_ENDING.test(path) ? "" : ".json"}`;
  // A file's name holds percent signs as they are: as an address, each is encoded once more.
  return `${BASE}api/v1/${file.replace(/%/g, "%25")}`;
}

async function answer(response: Response): Promise<Response> {
  if (response.ok) return response;
  let detail = `The server answered ${response.status}.`;
  try {
    const body = (await response.json()) as { detail?: unknown };
    if (typeof body.detail === "string") detail = body.detail;
  } catch {
    if (isStatic) detail = "This part is not in the static copy.";
  }
  throw new ApiError(response.status, detail);
}

async function request(url: string, init: RequestInit): Promise<Response> {
  try {
    return await answer(await fetch(url, { ...init, credentials: "same-origin" }));
  } catch (error) {
    if (error instanceof ApiError || (error instanceof DOMException && error.name === "AbortError")) throw error;
    throw new ApiError(0, "The server does not answer. Is `python -m explorer serve` still running?");
  }
}

/** A GET that answers JSON. */
export async function get<T>(path: string, query: Query = {}, signal?: AbortSignal): Promise<T> {
  const response = await request(apiUrl(path, query), { signal });
  return (await response.json()) as T;
}

/** A GET that answers text, such as a structure. */
export async function getText(path: string, query: Query = {}, signal?: AbortSignal): Promise<string> {
  return (await request(apiUrl(path, query), { signal })).text();
}

/** A PUT, POST or DELETE. */
export async function send<T>(method: "PUT" | "POST" | "DELETE", path: string, body?: unknown): Promise<T | null> {
  const response = await request(apiUrl(path), {
    method,
    headers: body === undefined ? {} : { "content-type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await response.text();
  return text ? (JSON.parse(text) as T) : null;
}

/** What the answers come from: a server, or else the files of a static copy. */
export async function getCapabilities(signal?: AbortSignal): Promise<Schemas["Capabilities"]> {
  try {
    const response = await request(apiUrl("capabilities", {}, false), { signal });
    return (await response.json()) as Schemas["Capabilities"];
  } catch (error) {
    if (error instanceof ApiError && error.status !== 404 && error.status !== 0) throw error;
    const file = await fetch(apiUrl("capabilities", {}, true), { signal }).catch(() => null);
    if (!file?.ok) throw error instanceof SyntaxError ? new ApiError(404, "Neither a server nor files of a static copy answer here.") : error;
    return (await file.json()) as Schemas["Capabilities"];
  }
}

/** One segment of a path. */
export const segment = encodeURIComponent;
