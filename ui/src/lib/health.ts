// Levels of health: words, order and the shape that stands beside the colour.
import type { Edge, HealthLevel } from './types';

export const WORDS: Record<HealthLevel, string> = {
  failing: 'Failing',
  degraded: 'Degraded',
  unknown: 'Not enough data',
  idle: 'Idle',
  healthy: 'Healthy',
};

const RANK: Record<HealthLevel, number> = { failing: 0, degraded: 1, unknown: 2, healthy: 3, idle: 4 };

/** Worst first; among equals the one that fails more, then the slower, then by name so that rows do not swap. */
export function worseFirst(a: Edge, b: Edge): number {
  return (
    RANK[a.health] - RANK[b.health] ||
    Math.round(b.traffic.errorRatio * 1000) - Math.round(a.traffic.errorRatio * 1000) ||
    a.id.localeCompare(b.id)
  );
}
