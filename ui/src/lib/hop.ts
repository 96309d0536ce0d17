// The picture of the decisive hop: which of its five stations failed.
import { party } from './format';
import type { RequestRecord, Why } from './types';

export type Station = 'caller' | 'callerProxy' | 'wire' | 'calleeProxy' | 'program';

/** Causes that belong to the way between the two proxies. */
const WIRE = new Set(['upstreamTls', 'connectionRefused', 'connectTimeout', 'connectFailure', 'reset', 'noEndpoints', 'noHealthyUpstream', 'upstreamProtocol']);
/** Causes in which the callee's program did it, or was waited for. */
const PROGRAM = new Set(['programError', 'routeTimeout', 'perTryTimeout', 'retriesExhausted']);
const CALLER = new Set(['clientLeft', 'downstreamProtocol', 'headersTooLarge']);

/** Where it went wrong; nothing when it went well. */
export function failedAt(why: Why): Station | undefined {
  if (why.cause === 'success') return undefined;
  if (PROGRAM.has(why.cause)) return 'program';
  if (why.side === 'source' && CALLER.has(why.cause)) return 'caller';
  if (WIRE.has(why.cause)) return why.side === 'source' ? 'wire' : 'program';
  if (why.cause === 'unknown') return undefined;
  return why.side === 'source' ? 'callerProxy' : 'calleeProxy';
}

/** Names at the ends of the decisive hop. */
export function ends(why: Why): { source: string; destination: string; mtls: boolean; status: number; durationUs: number } {
  const hop = why.hops.find((h) => h.decisive) ?? why.hops[0];
  const [source = '', destination = ''] = why.hop.split(' → ');
  return {
    source: hop?.source || source,
    destination: hop?.destination || destination,
    mtls: hop?.mtls ?? false,
    status: hop?.status ?? why.status,
    durationUs: hop?.durationUs ?? 0,
  };
}

/** The records of both sides of the decisive hop come first. */
export function ordered(records: RequestRecord[], why: Why): RequestRecord[] {
  const { source, destination } = ends(why);
  const near = (r: RequestRecord) =>
    [r.source.workload, r.source.service].includes(source) && [r.destination.workload, r.destination.service].includes(destination) ? 0 : 1;
  return [...records].sort((a, b) => near(a) - near(b) || a.startUnixMs - b.startUnixMs || (a.reporter < b.reporter ? 1 : -1));
}

/** One line about a record. */
export function title(record: RequestRecord): string {
  const side = record.reporter === 'source' ? 'caller’s proxy' : 'callee’s proxy';
  return `${party(record.source)} → ${party(record.destination)}, ${side}`;
}
