// A stand-in for `weft up`: serves ui/dist and the API of the demo shop, behind the same sign-in. For development and tests.
import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as config from './config.mjs';
import * as shop from './shop.mjs';

const DIST = fileURLToPath(new URL('../dist', import.meta.url));
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.woff2': 'font/woff2' };
const NOT_FOUND = { status: 404, body: { code: 'WEFT-4040', message: 'Nothing is known of it: the id is wrong, or older than what is kept.', fix: 'Failures are always kept for a while; try `weft why --last`.' } };

/**
 * Starts at `port` (0: any). `scene` changes what is served while it runs: `{ empty, down, extraEdges, noEvents }`.
 * Gives `{ url, token, scene, close }`.
 */
export async function start({ port = 0, token = 'mock-token', open = false } = {}) {
  const scene = {};
  const sessions = new Set();
  const streams = new Set();
  const server = createServer((request, response) => {
    const url = new URL(request.url, 'http://mock');
    if (scene.down) return void request.socket.destroy();
    const task = url.pathname.startsWith('/api/v1/') ? api(request, response, url) : file(response, url.pathname);
    task.catch((error) => {
      if (!response.headersSent) json(response, 500, { code: 'mock', message: String(error) });
    });
  });

  async function api(request, response, url) {
    const path = url.pathname.slice('/api/v1'.length);
    if (path === '/sign-in' && request.method === 'POST') {
      let body = '';
      for await (const chunk of request) body += chunk;
      if (JSON.parse(body).token !== token) return json(response, 401, { code: 'WEFT-4011', message: 'The token is wrong.' });
      const session = Math.random().toString(36).slice(2);
      sessions.add(session);
      response.setHeader('set-cookie', `weft_session=${session}; HttpOnly; SameSite=Strict; Path=/`);
      return response.writeHead(204).end();
    }
    const session = /weft_session=(\w+)/.exec(request.headers.cookie ?? '')?.[1];
    if (!open && !sessions.has(session) && request.headers.authorization !== `Bearer ${token}`) return json(response, 401, { code: 'WEFT-4010', message: 'Sign in first.', fix: 'Paste the token that `weft up` prints.' });
    if (path === '/events') return events(response);
    const answer = route(path, url.searchParams);
    if (!answer) return json(response, 404, NOT_FOUND.body);
    return json(response, 200, answer);
  }

  function events(response) {
    if (scene.noEvents) return json(response, 503, { code: 'mock', message: 'no events' });
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
    const tick = () => response.write(`event: tick\ndata: ${JSON.stringify({ atUnixMs: Date.now(), generation: 14, health: health(60), graph: graph(60) })}\n\n`);
    tick();
    const timer = setInterval(tick, 1000);
    streams.add(response);
    response.on('close', () => {
      clearInterval(timer);
      streams.delete(response);
    });
  }

  const graph = (windowS) => (scene.empty ? { generation: 1, atUnixMs: Date.now(), windowS, nodes: [], edges: [] } : shop.graph(windowS, scene.extraEdges));
  const health = (windowS) => {
    const whole = shop.health(windowS);
    if (!scene.empty) return whole;
    const none = { requests: 0, ratePerS: 0, failures: 0, denied: 0, errorRatio: 0, mtlsShare: 0, enoughData: false };
    return { ...whole, status: 'healthy', sentence: 'The mesh is up and empty: no service runs yet.', worstEdges: [], changes: [], counts: { services: 0, workloads: 0, proxies: 0, proxiesConnected: 0, edges: 0, errors: 0, warnings: 0, traffic: none } };
  };

  function route(path, query) {
    const windowS = Number(query.get('window')) || 60;
    const parts = path.split('/').filter(Boolean).map(decodeURIComponent);
    switch (parts[0]) {
      case 'health': return health(windowS);
      case 'graph': return graph(windowS);
      case 'version': return { version: '0.1.0', trustDomain: 'cluster.local' };
      case 'services': return parts[1] ? shop.service(parts[1], parts[2], windowS) : scene.empty ? [] : shop.services(windowS);
      case 'requests':
        if (parts[1] === 'last') return shop.request(shop.FAIL_ID);
        if (parts[1]) return (scene.requests ?? {})[parts[1]] ?? shop.request(parts[1]);
        return scene.empty ? { requests: [], dropped: 0 } : shop.requests(query.get('status') ?? '', query.get('service') ?? '', Number(query.get('limit')) || 50);
      case 'resources': return parts[1] ? config.resourceDetail(parts[1], parts[3]) : scene.empty ? [] : config.resources();
      case 'diagnostics': return scene.empty ? { diagnostics: [] } : config.diagnostics();
      case 'proxies': return scene.empty ? [] : config.proxies();
      default: return undefined;
    }
  }

  await new Promise((resolve) => server.listen(port, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    token,
    scene,
    /** Cuts the streams that are open. */
    cut: () => streams.forEach((stream) => stream.destroy()),
    forget: () => sessions.clear(),
    close: () => new Promise((resolve) => { server.closeAllConnections(); server.close(resolve); }),
  };
}

function json(response, status, body) {
  response.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' });
  response.end(JSON.stringify(body));
}

async function file(response, pathname) {
  const wanted = normalize(pathname === '/' ? '/index.html' : pathname).replace(/^(\.\.[/\\])+/, '');
  try {
    const body = await readFile(join(DIST, wanted));
    response.writeHead(200, { 'content-type': TYPES[extname(wanted)] ?? 'application/octet-stream', 'content-security-policy': "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'" });
    response.end(body);
  } catch {
    json(response, 404, NOT_FOUND.body);
  }
}
