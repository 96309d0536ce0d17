import { expect, it } from 'vitest';
import { fold } from './changes';
import type { Change } from './types';

const change = (atUnixMs: number, kind: Change['kind'], line?: number): Change => ({ atUnixMs, kind, text: `${kind} ${atUnixMs}`, ...(line ? { origin: { kind: 'Service', name: 'x', line } } : {}) });

it('folds bursts, and nothing that was written by someone', () => {
  const folded = fold([
    change(100_000, 'proxyConnected'),
    change(99_900, 'workloadJoined'),
    change(99_800, 'proxyConnected'),
    change(99_700, 'workloadJoined'),
    change(99_600, 'created', 3),
    change(99_500, 'created', 9),
    change(40_000, 'proxyConnected'),
  ]);
  expect(folded.map((f) => [f.kind, f.more])).toEqual([
    ['proxyConnected', 1],
    ['workloadJoined', 1],
    ['created', 0],
    ['created', 0],
    ['proxyConnected', 0],
  ]);
});
