// Numbers, times and names as the page shows them.
import type { Edge, Origin, Party, Traffic } from './types';

/** A narrow no-break space: between a number and its unit. */
const THIN = '\u202f';

/** Requests per second: `24.0/s`, `<0.1/s`, `1.2k/s`. */
export function rate(perS: number): string {
  if (perS <= 0) return '0/s';
  if (perS < 0.1) return '<0.1/s';
  if (perS < 100) return `${perS.toFixed(1)}/s`;
  if (perS < 1000) return `${Math.round(perS)}/s`;
  return `${(perS / 1000).toFixed(perS < 10_000 ? 1 : 0)}k/s`;
}

/** A ratio as a percentage that never rounds a few failures to none, nor almost all to all. */
export function percent(ratio: number): string {
  const value = ratio * 100;
  if (value <= 0) return `0${THIN}%`;
  if (value >= 100) return `100${THIN}%`;
  if (value < 0.1) return `<0.1${THIN}%`;
  if (value > 99.9) return `>99.9${THIN}%`;
  return `${value < 10 || value > 99 ? value.toFixed(1) : Math.round(value)}${THIN}%`;
}

/** A length given in microseconds: `950 µs`, `1.8 ms`, `48 ms`, `1.2 s`. */
export function duration(us: number | undefined): string {
  if (us === undefined) return '–';
  if (us < 1000) return `${Math.round(us)}${THIN}µs`;
  if (us < 9_950) return `${(us / 1000).toFixed(1)}${THIN}ms`;
  if (us < 999_500) return `${Math.round(us / 1000)}${THIN}ms`;
  if (us < 59_950_000) return `${(us / 1_000_000).toFixed(us < 9_950_000 ? 1 : 0)}${THIN}s`;
  return `${Math.round(us / 60_000_000)}${THIN}min`;
}

/** Whole numbers with thin groups. */
export function count(value: number): string {
  return value.toString().replace(/\B(?=(\d{3})+$)/g, THIN);
}

/** How long ago, in one unit: `now`, `12 s ago`, `3 min ago`. */
export function ago(atMs: number, nowMs: number): string {
  const s = Math.round((nowMs - atMs) / 1000);
  if (s < 3) return 'now';
  if (s < 60) return `${s} s ago`;
  if (s < 3600) return `${Math.floor(s / 60)} min ago`;
  if (s < 172_800) return `${Math.floor(s / 3600)} h ago`;
  return `${Math.floor(s / 86_400)} d ago`;
}

/** How long from now: `in 42 min`. */
export function until(atMs: number, nowMs: number): string {
  const s = Math.round((atMs - nowMs) / 1000);
  if (s <= 0) return 'expired';
  if (s < 90) return `in ${s} s`;
  if (s < 5400) return `in ${Math.round(s / 60)} min`;
  if (s < 172_800) return `in ${Math.round(s / 3600)} h`;
  return `in ${Math.round(s / 86_400)} d`;
}

/** Time of day with milliseconds, local. */
export function clock(ms: number, millis = true): string {
  const d = new Date(ms);
  const two = (n: number) => n.toString().padStart(2, '0');
  const hms = `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`;
  return millis ? `${hms}.${d.getMilliseconds().toString().padStart(3, '0')}` : hms;
}

/** The name that a person would use for one end of a hop. */
export function party(p: Party | undefined, otherwise = 'unknown'): string {
  return p?.service || p?.workload || otherwise;
}

/** `reviews-v2`, or the best that is known. */
export function workload(p: Party | undefined, otherwise = 'unknown'): string {
  return p?.workload || p?.service || otherwise;
}

/** `shop.yaml:58`, or nothing. */
export function place(origin: Origin | undefined): string {
  if (!origin) return '';
  const file = (origin.file ?? '').split('/').pop() ?? '';
  if (file) return origin.line ? `${file}:${origin.line}` : file;
  return origin.line ? `line ${origin.line}` : '';
}

/** `VirtualService shop/reviews`. */
export function object(origin: Origin): string {
  if (!origin.kind) return origin.name;
  return `${origin.kind} ${origin.namespace ? `${origin.namespace}/` : ''}${origin.name}`;
}

/** The part of a node id that people read. */
export function nodeName(id: string): string {
  return id.slice(id.indexOf('/') + 1) || id;
}

/** What the lock says. */
export function security(traffic: Traffic): { kind: 'mtls' | 'partial' | 'plain' | 'none'; text: string } {
  if (traffic.requests === 0) return { kind: 'none', text: 'no traffic' };
  if (traffic.mtlsShare >= 1) return { kind: 'mtls', text: 'mTLS' };
  if (traffic.mtlsShare <= 0) return { kind: 'plain', text: 'plain text' };
  return { kind: 'partial', text: `${percent(traffic.mtlsShare)} mTLS` };
}

/** An edge in a sentence: what a screen reader says. */
export function edgeSentence(edge: Edge): string {
  const t = edge.traffic;
  const ends = `${nodeName(edge.source)} to ${nodeName(edge.destination)}, ${edge.protocol}`;
  if (t.requests === 0) return `${ends}: idle`;
  const unit = edge.protocol === 'tcp' ? 'connections' : 'requests';
  const judged = t.enoughData ? edge.health : 'not enough data';
  return `${ends}: ${judged}, ${rate(t.ratePerS).replace('/s', '')} ${unit} per second, ${percent(t.errorRatio)} failed, p99 ${duration(t.p99Us)}, ${security(t).text}`;
}

/** SPIFFE id without its scheme and trust domain, for tight places. */
export function shortIdentity(id: string): string {
  return id.replace(/^spiffe:\/\/[^/]+\//, '');
}
