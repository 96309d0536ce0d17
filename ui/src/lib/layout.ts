// Where nodes and edges stand. Depends on which nodes and edges there are, never on their numbers: so that nothing moves when
// a rate changes.
import { Graph as Dagre, layout } from '@dagrejs/dagre';
import type { Edge, Graph, GraphNode } from './types';

export const NODE_WIDTH = 138;
export const NODE_HEIGHT = 46;
export const LABEL_WIDTH = 100;
export const LABEL_HEIGHT = 38;
/** Above this many nodes only the important ones are drawn. */
export const NODES_MAX = 150;

export interface Point {
  x: number;
  y: number;
}
export interface PlacedEdge {
  path: string;
  length: number;
  label: Point;
}
export interface Layout {
  width: number;
  height: number;
  nodes: Map<string, Point>;
  edges: Map<string, PlacedEdge>;
}
export interface Structure {
  nodes: string[];
  edges: { id: string; source: string; destination: string }[];
}

/** Names only, in an order that does not depend on the answer's. */
export function structure(graph: Pick<Graph, 'nodes' | 'edges'>): Structure {
  const nodes = [...new Set([...graph.nodes.map((n) => n.id), ...graph.edges.flatMap((e) => [e.source, e.destination])])].sort();
  const edges = graph.edges
    .map(({ id, source, destination }) => ({ id, source, destination }))
    .filter((edge, i, all) => all.findIndex((other) => other.id === edge.id) === i)
    .sort((a, b) => (a.id < b.id ? -1 : 1));
  return { nodes, edges };
}

/** Equal keys: equal layouts. */
export function key(s: Structure): string {
  return JSON.stringify([s.nodes, s.edges.map((e) => e.id)]);
}

/** Places everything from left to right. */
export function place(s: Structure): Layout {
  const g = new Dagre({ multigraph: true });
  g.setGraph({ rankdir: 'LR', nodesep: 38, edgesep: 26, ranksep: 56, marginx: 12, marginy: 12, ranker: 'network-simplex' });
  g.setDefaultEdgeLabel(() => ({}));
  for (const id of s.nodes) g.setNode(id, { width: NODE_WIDTH, height: NODE_HEIGHT });
  for (const e of s.edges) g.setEdge(e.source, e.destination, { width: LABEL_WIDTH, height: LABEL_HEIGHT, labelpos: 'c' }, e.id);
  layout(g);
  const nodes = new Map(s.nodes.map((id) => [id, point(g.node(id))]));
  const edges = new Map<string, PlacedEdge>();
  for (const e of s.edges) {
    const placed = g.edge(e.source, e.destination, e.id) as { points: Point[]; x?: number; y?: number };
    const points = placed.points.map(point);
    const label = placed.x === undefined || placed.y === undefined ? middle(points) : { x: placed.x, y: placed.y };
    edges.set(e.id, { ...smooth(level(points, label)), label });
  }
  const size = g.graph() as { width?: number; height?: number };
  return { width: finite(size.width), height: finite(size.height), nodes, edges };
}

function finite(value: number | undefined): number {
  return value !== undefined && Number.isFinite(value) ? value : 0;
}

function point(p: unknown): Point {
  const { x, y } = p as Point;
  return { x, y };
}

function middle(points: Point[]): Point {
  return points[Math.floor(points.length / 2)] ?? { x: 0, y: 0 };
}

/** Makes the wire level under its label, so that it runs between the label's two lines of text. */
function level(points: Point[], label: Point): Point[] {
  const at = points.findIndex((p) => Math.abs(p.x - label.x) < 1 && Math.abs(p.y - label.y) < 1);
  if (at <= 0 || at >= points.length - 1) return points;
  const half = LABEL_WIDTH / 2;
  const flat = [-half - 12, -half - 4, -half + 8, half - 8, half + 4, half + 12].map((dx) => ({ x: label.x + dx, y: label.y }));
  return [...points.slice(0, at), ...flat, ...points.slice(at + 1)];
}

/** A uniform cubic B-spline through the first and last point, near the others; and its length. */
export function smooth(points: Point[]): { path: string; length: number } {
  const [first, second] = points;
  const last = points[points.length - 1];
  if (!first || !second || !last) return { path: '', length: 0 };
  const n = (v: number) => Math.round(v * 10) / 10;
  let path = `M${n(first.x)},${n(first.y)}`;
  if (points.length === 2) return { path: `${path}L${n(last.x)},${n(last.y)}`, length: distance(first, last) };
  path += `L${n((5 * first.x + second.x) / 6)},${n((5 * first.y + second.y) / 6)}`;
  for (let i = 1; i < points.length; i++) {
    const a = points[i - 1] ?? first;
    const b = points[i] ?? last;
    const c = points[i + 1] ?? last;
    const at = (u: Point, v: Point, wu: number, wv: number) => `${n((wu * u.x + wv * v.x) / 3)},${n((wu * u.y + wv * v.y) / 3)}`;
    path += `C${at(a, b, 2, 1)} ${at(a, b, 1, 2)} ${n((a.x + 4 * b.x + c.x) / 6)},${n((a.y + 4 * b.y + c.y) / 6)}`;
  }
  path += `L${n(last.x)},${n(last.y)}`;
  let length = 0;
  for (let i = 1; i < points.length; i++) length += distance(points[i - 1] ?? first, points[i] ?? last);
  return { path, length };
}

function distance(a: Point, b: Point): number {
  return Math.hypot(a.x - b.x, a.y - b.y);
}

/** Keeps what was seen before (as idle) so that an edge that rests does not make the others move. */
export function remember(before: Structure | undefined, now: Structure): Structure {
  if (!before) return now;
  const edges = new Map([...before.edges, ...now.edges].map((e) => [e.id, e]));
  const nodes = new Set([...before.nodes, ...now.nodes]);
  return { nodes: [...nodes].sort(), edges: [...edges.values()].sort((a, b) => (a.id < b.id ? -1 : 1)) };
}

/** Past `max` nodes: the ends of unhealthy edges first, then the busiest. */
export function disclose(graph: Graph, max = NODES_MAX): { graph: Graph; hidden: number } {
  if (graph.nodes.length <= max) return { graph, hidden: 0 };
  const bad = new Set(graph.edges.filter((e) => e.health === 'failing' || e.health === 'degraded').flatMap((e) => [e.source, e.destination]));
  const weight = (n: GraphNode) => (bad.has(n.id) ? 1e9 : 0) + n.inbound.ratePerS;
  const nodes = [...graph.nodes].sort((a, b) => weight(b) - weight(a) || (a.id < b.id ? -1 : 1)).slice(0, max);
  const kept = new Set(nodes.map((n) => n.id));
  const edges: Edge[] = graph.edges.filter((e) => kept.has(e.source) && kept.has(e.destination));
  return { graph: { ...graph, nodes, edges }, hidden: graph.nodes.length - nodes.length };
}

/** How many dots travel on an edge: grows with the logarithm of the rate, in steps, so that it seldom changes. */
export function dots(ratePerS: number, length: number): number {
  if (ratePerS <= 0) return 0;
  const wanted = ratePerS < 0.3 ? 1 : ratePerS < 1 ? 2 : ratePerS < 3 ? 3 : ratePerS < 10 ? 4 : ratePerS < 40 ? 6 : 9;
  return Math.max(1, Math.min(wanted, Math.floor(length / 14)));
}
