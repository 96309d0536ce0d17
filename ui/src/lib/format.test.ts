import { describe, expect, it } from 'vitest';
import { ago, count, duration, edgeSentence, nodeName, object, percent, place, rate, security, until } from './format';
import { failedAt } from './hop';
import { parse, href } from './route.svelte';
import { tokens } from './yaml';
import type { Edge, Why } from './types';

const plain = (text: string) => text.replaceAll('\u202f', ' ');

describe('numbers', () => {
  it('rates', () => {
    expect([0, 0.02, 0.5, 24, 99.96, 123.4, 1234, 56_789].map(rate)).toEqual(['0/s', '<0.1/s', '0.5/s', '24.0/s', '100.0/s', '123/s', '1.2k/s', '57k/s']);
  });
  it('percentages never hide a failure and never promise all', () => {
    expect([0, 0.0001, 0.004, 0.0999, 0.124, 0.9999, 1].map(percent).map(plain)).toEqual(['0 %', '<0.1 %', '0.4 %', '10.0 %', '12 %', '>99.9 %', '100 %']);
  });
  it('durations change their unit', () => {
    expect([undefined, 950, 1800, 48_000, 1_240_000, 12_000_000, 120_000_000].map(duration).map(plain)).toEqual(['–', '950 µs', '1.8 ms', '48 ms', '1.2 s', '12 s', '2 min']);
  });
  it('counts and spans', () => {
    expect(plain(count(1234567))).toBe('1 234 567');
    expect([ago(0, 1000), ago(0, 12_000), ago(0, 200_000), ago(0, 8_000_000)]).toEqual(['now', '12 s ago', '3 min ago', '2 h ago']);
    expect([until(0, 1), until(60_000, 0), until(3_000_000, 0)]).toEqual(['expired', 'in 60 s', 'in 50 min']);
  });
});

describe('names', () => {
  it('origins', () => {
    const origin = { kind: 'VirtualService', namespace: 'shop', name: 'reviews', file: 'examples/shop/shop.yaml', line: 58 };
    expect(place(origin)).toBe('shop.yaml:58');
    expect(object(origin)).toBe('VirtualService shop/reviews');
    expect(place({ kind: 'Gateway', name: 'x', line: 3 })).toBe('line 3');
    expect(place(undefined)).toBe('');
    expect(object({ kind: '', name: 'default timeout' })).toBe('default timeout');
  });
  it('node ids', () => {
    expect(['shop/reviews', '/api.example.com', 'odd'].map(nodeName)).toEqual(['reviews', 'api.example.com', 'odd']);
  });
  it('an edge in words', () => {
    const traffic = { requests: 60, ratePerS: 1, failures: 6, denied: 0, errorRatio: 0.1, mtlsShare: 0.5, enoughData: true, p99Us: 48_000 };
    const edge: Edge = { id: 'x', source: 'a/b', destination: 'a/c', protocol: 'http', health: 'failing', traffic, versions: [] };
    expect(plain(edgeSentence(edge))).toBe('b to c, http: failing, 1.0 requests per second, 10 % failed, p99 48 ms, 50 % mTLS');
    expect(security({ ...traffic, mtlsShare: 0 }).kind).toBe('plain');
  });
});

describe('addresses', () => {
  it('survive hostile names', () => {
    const parts = ['services', 'a/b', '<img onerror=x>%?#'];
    expect(parse(href(parts, { q: 'a&b=c#' }))).toMatchObject({ parts });
    expect(parse(href(parts, { q: 'a&b=c#' })).query.get('q')).toBe('a&b=c#');
    expect(parse('#/%E0%A4%A').parts).toEqual(['%E0%A4%A']);
  });
});

describe('the failing station', () => {
  const at = (cause: string, side: 'source' | 'destination') => failedAt({ cause, side, hops: [], hop: 'a → b', evidence: [], failed: true, id: '', sentence: '', status: 0 } as Why);
  it('is where the cause belongs', () => {
    expect(at('success', 'source')).toBeUndefined();
    expect(at('faultAbort', 'source')).toBe('callerProxy');
    expect(at('denied', 'destination')).toBe('calleeProxy');
    expect(at('upstreamTls', 'source')).toBe('wire');
    expect(at('connectionRefused', 'destination')).toBe('program');
    expect(at('programError', 'destination')).toBe('program');
    expect(at('clientLeft', 'source')).toBe('caller');
  });
});

describe('YAML colours', () => {
  it('keep every character', () => {
    for (const line of ['', '  - name: x # why', 'a: "b # c"', "- 'x': y", 'hosts: [a, b]', '  weight: 20', '# all', 'url: http://a:80/x', '\t- -', '"unclosed: x'])
      expect(tokens(line).map((t) => t.text).join('')).toBe(line);
  });
  it('find keys and comments', () => {
    expect(tokens('  - name: "x" # why').map((t) => t.kind)).toEqual(['mark', 'key', 'mark', 'text', 'string', 'text', 'comment']);
  });
});
