/** Addresses of the pages, and names that lie in them. */
import { segment } from "../api/client";

export const saeHref = (sae: string): string => `/sae/${segment(sae)}`;
export const latentHref = (sae: string, latent: number, query = ""): string => `/sae/${segment(sae)}/latent/${latent}${query}`;
export const proteinHref = (accession: string, sae?: string): string =>
  `/protein/${segment(accession)}${sae ? `?sae=${segment(sae)}` : ""}`;
export const conceptHref = (concept: string): string => `/concepts/${segment(concept)}`;

/** A segment as it was before it was put in a path. */
export function unsegment(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
