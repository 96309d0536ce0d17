// Addresses of the pages, made in one place.
import { href } from './route.svelte';
import type { Edge, Origin } from './types';

export const serviceLink = (id: string): string => {
  const cut = id.indexOf('/');
  return href(['services', id.slice(0, cut) || '-', id.slice(cut + 1)]);
};

export const whyLink = (id: string, query: Record<string, string | undefined> = {}): string => href(['requests', id], query);

/** Why of an edge: its last failure, or its requests when none is kept. */
export const edgeWhyLink = (edge: Edge): string =>
  edge.lastFailureId ? whyLink(edge.lastFailureId) : href(['requests'], { service: edge.destination.replace(/^\//, '') });

/** The place in the configuration where something is written; nothing for Weft's own defaults. */
export const originLink = (origin: Origin | undefined): string | undefined =>
  origin?.kind ? href(['configuration', origin.kind, origin.namespace || '-', origin.name], { line: origin.line }) : undefined;
