import { describe, expect, it } from 'vitest';
import { disclose, dots, key, NODE_HEIGHT, NODE_WIDTH, place, remember, smooth, structure } from './layout';
import type { Edge, Graph, GraphNode } from './types';

const traffic = (ratePerS: number) => ({ requests: ratePerS * 60, ratePerS, failures: 0, denied: 0, errorRatio: 0, mtlsShare: 1, enoughData: true });
const node = (id: string, ratePerS = 1): GraphNode => ({ id, namespace: 'shop', name: id, kind: 'service', health: 'healthy', versions: [], inbound: traffic(ratePerS) });
const edge = (source: string, destination: string, ratePerS = 1, health: Edge['health'] = 'healthy'): Edge => ({
  id: `${source}>${destination}>http`,
  source,
  destination,
  protocol: 'http',
  health,
  traffic: traffic(ratePerS),
  versions: [],
});
const graph = (nodes: GraphNode[], edges: Edge[]): Graph => ({ generation: 1, atUnixMs: 0, windowS: 60, nodes, edges });

const shop = () =>
  graph(
    ['a', 'b', 'c', 'd'].map((id) => node(id)),
    [edge('a', 'b'), edge('a', 'c'), edge('b', 'd'), edge('c', 'd')],
  );

describe('layout', () => {
  it('does not depend on numbers nor on the order of the answer', () => {
    const first = shop();
    const second = graph([...first.nodes].reverse(), [...first.edges].reverse());
    second.edges[0]!.traffic = traffic(900);
    expect(key(structure(second))).toBe(key(structure(first)));
    expect(place(structure(second))).toEqual(place(structure(first)));
  });

  it('keeps nodes apart, from left to right', () => {
    const placed = place(structure(shop()));
    const at = [...placed.nodes.values()];
    for (const [i, p] of at.entries())
      for (const q of at.slice(i + 1)) expect(Math.abs(p.x - q.x) >= NODE_WIDTH || Math.abs(p.y - q.y) >= NODE_HEIGHT).toBe(true);
    expect(placed.nodes.get('a')!.x).toBeLessThan(placed.nodes.get('b')!.x);
    expect(placed.nodes.get('b')!.x).toBeLessThan(placed.nodes.get('d')!.x);
  });

  it('stays as it is when an edge rests, and has room for a new one', () => {
    const all = structure(shop());
    const fewer = structure(graph(shop().nodes, shop().edges.slice(1)));
    expect(key(remember(all, fewer))).toBe(key(all));
    expect(remember(all, structure(graph([node('e')], [edge('d', 'e')]))).nodes).toContain('e');
  });

  it('takes cycles, self calls, two protocols, lone nodes, unknown ends and nothing', () => {
    const odd = graph(
      [node('a'), node('b'), node('alone')],
      [edge('a', 'b'), edge('b', 'a'), edge('a', 'a'), { ...edge('a', 'b'), id: 'a>b>grpc', protocol: 'grpc' }, edge('a', 'ghost'), edge('a', 'b')],
    );
    const placed = place(structure(odd));
    expect(placed.nodes.size).toBe(4);
    expect(placed.edges.size).toBe(5);
    for (const e of placed.edges.values()) {
      expect(e.path).not.toContain('NaN');
      expect(Number.isFinite(e.label.x + e.label.y + e.length)).toBe(true);
    }
    expect(place({ nodes: [], edges: [] })).toMatchObject({ width: 0, height: 0 });
  });

  it('draws the ends of what fails and the busiest when there are too many', () => {
    const many = Array.from({ length: 300 }, (_, i) => node(`n${i}`, i));
    const shown = disclose(graph(many, [edge('n0', 'n1', 0.1, 'failing'), edge('n2', 'n3')]), 100);
    expect(shown.graph.nodes).toHaveLength(100);
    expect(shown.hidden).toBe(200);
    expect(shown.graph.edges.map((e) => e.id)).toEqual(['n0>n1>http']);
  });
});

describe('the way of an edge', () => {
  it('starts and ends where it should', () => {
    const { path, length } = smooth([{ x: 0, y: 0 }, { x: 10, y: 5 }, { x: 20, y: 0 }]);
    expect(path.startsWith('M0,0')).toBe(true);
    expect(path.endsWith('L20,0')).toBe(true);
    expect(length).toBeCloseTo(22.36, 1);
    expect(smooth([])).toEqual({ path: '', length: 0 });
  });

  it('has more dots the busier it is, and never a crowd', () => {
    expect(dots(0, 200)).toBe(0);
    expect(dots(0.1, 200)).toBe(1);
    expect(dots(5, 200)).toBeLessThan(dots(50, 200));
    expect(dots(1e6, 200)).toBeLessThanOrEqual(9);
    expect(dots(1e6, 30)).toBe(2);
  });
});
