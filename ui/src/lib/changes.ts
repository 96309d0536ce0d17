// What changed, for the strip: a burst of the same is one line.
import type { Change } from './types';

/** Changes of one kind that follow each other within so long are one burst. */
const BURST_MS = 20_000;

export interface Folded extends Change {
  /** How many others this line stands for. */
  more: number;
}

/** Newest first, as they came. What a person did (a change with a place in a file) is never folded away. */
export function fold(changes: Change[]): Folded[] {
  const out: Folded[] = [];
  for (const change of changes) {
    const last = out.find((f) => f.kind === change.kind && !f.origin && f.atUnixMs - change.atUnixMs < BURST_MS);
    if (last && !change.origin) last.more += 1;
    else out.push({ ...change, more: 0 });
  }
  return out;
}
