// A demo shop with moving numbers, in the shapes of openapi/weft.json.

const LEVELS = { failing: 0, degraded: 1, unknown: 2, healthy: 3, idle: 4 };
const START_MS = Date.now() - 42 * 60_000;
const NS = 'shop';

/** [source, destination, protocol, requests/s, error ratio, p99 ms, mTLS share, versions] */
const LINKS = [
  ['/load', 'shop/gateway', 'http', 24, 0.004, 92, 0, []],
  ['shop/gateway', 'shop/frontend', 'http', 24, 0.004, 90, 1, ['v1']],
  ['shop/frontend', 'shop/catalog', 'http', 21, 0, 4.1, 1, ['v1']],
  ['shop/frontend', 'shop/cart', 'http', 9.4, 0, 6.3, 1, ['v1']],
  ['shop/frontend', 'shop/reviews', 'http', 18, 0.012, 31, 1, ['v1', 'v2', 'v3']],
  ['shop/frontend', 'shop/checkout', 'grpc', 2.6, 0.124, 210, 1, ['v1']],
  ['shop/reviews', 'shop/ratings', 'http', 14.2, 0, 2.2, 1, ['v1']],
  ['shop/checkout', 'shop/payments', 'http', 2.6, 0.124, 204, 1, ['v1']],
  ['shop/checkout', 'shop/cart', 'http', 2.6, 0, 5.2, 1, ['v1']],
  ['shop/cart', 'shop/redis', 'tcp', 3.1, 0, 1.1, 0, []],
  ['shop/payments', '/api.bank.example', 'http', 0.08, 0, 120, 0, []],
];
const KINDS = { '/load': 'program', 'shop/gateway': 'gateway', '/api.bank.example': 'external' };
const SHARES = { reviews: { v1: [0.2, 0.21], v2: [0.7, 0.68], v3: [0.1, 0.11] } };
const FAIL_ID = '7f1c0a52-1b6e-4b6c-9d0a-51f24a8f5a11';
const DENY_ID = '0b9d3c1e-88a2-4a70-9a2b-6b0d53c1f3de';
const SLOW_ID = 'c44f8d0a-2f5d-4d7e-8a59-90e1bd2c7711';

const wobble = (seed, depth = 0.06) => 1 + depth * Math.sin(Date.now() / 4000 + seed * 1.7);
const name = (id) => id.slice(id.indexOf('/') + 1);
const spiffe = (id) => `spiffe://cluster.local/ns/${NS}/sa/${name(id)}`;
const us = (ms) => Math.round(ms * 1000);

function traffic(windowS, ratePerS, errorRatio, p99Ms, mtlsShare) {
  const requests = Math.round(ratePerS * windowS);
  const failures = Math.round(requests * errorRatio);
  return {
    requests,
    ratePerS: requests / windowS,
    failures,
    denied: 0,
    errorRatio: requests ? failures / requests : 0,
    mtlsShare: requests ? mtlsShare : 0,
    enoughData: requests >= 10,
    ...(requests ? { p50Us: us(p99Ms * 0.35), p90Us: us(p99Ms * 0.72), p99Us: us(p99Ms), bytesReceived: requests * 420, bytesSent: requests * 5200 } : {}),
  };
}

function level(t) {
  if (t.requests === 0) return 'idle';
  if (!t.enoughData) return 'unknown';
  return t.errorRatio >= 0.05 ? 'failing' : t.errorRatio >= 0.01 ? 'degraded' : 'healthy';
}

export function edges(windowS) {
  return LINKS.map(([source, destination, protocol, rate, errors, p99, mtls, versions], i) => {
    const t = traffic(windowS, rate * wobble(i), errors * wobble(i + 3, 0.15), p99 * wobble(i + 5, 0.1), mtls);
    const shares = SHARES[name(destination)];
    return {
      id: `${source}>${destination}>${protocol}`,
      source,
      destination,
      protocol,
      health: level(t),
      traffic: t,
      versions: versions.map((version) => {
        const share = shares ? shares[version][1] : 1;
        return { version, share, traffic: traffic(windowS, rate * share, version === 'v3' ? errors * 8 : shares ? errors * 0.2 : errors, p99 * (version === 'v3' ? 1.4 : 0.8), mtls) };
      }),
      host: KINDS[destination] === 'external' ? name(destination) : `${name(destination)}.${NS}.svc.cluster.local`,
      ...(mtls ? { sourcePrincipals: [spiffe(source)], destinationPrincipals: [spiffe(destination)] } : {}),
      ...(errors > 0.1 ? { lastFailureId: FAIL_ID } : errors > 0.01 ? { lastFailureId: SLOW_ID } : {}),
    };
  });
}

export function graph(windowS, extra = []) {
  const all = [...edges(windowS), ...extra];
  const ids = [...new Set(all.flatMap((e) => [e.source, e.destination]))];
  const nodes = ids.map((id) => {
    const into = all.filter((e) => e.destination === id);
    const sum = traffic(windowS, into.reduce((n, e) => n + e.traffic.ratePerS, 0), 0, Math.max(1, ...into.map((e) => (e.traffic.p99Us ?? 0) / 1000)), 1);
    sum.failures = into.reduce((n, e) => n + e.traffic.failures, 0);
    sum.errorRatio = sum.requests ? sum.failures / sum.requests : 0;
    const versions = [...new Set(into.flatMap((e) => e.versions.map((v) => v.version)))];
    const kind = KINDS[id] ?? 'service';
    return { id, namespace: id.split('/')[0], name: name(id), kind, health: kind === 'program' ? 'idle' : level(sum), versions: versions.map((version) => ({ version, workloads: 1 })), inbound: sum, host: `${name(id)}.${NS}.svc.cluster.local`, workloads: Math.max(1, versions.length) };
  });
  return { generation: 14, atUnixMs: Date.now(), windowS, nodes, edges: all };
}

const origin = (kind, object, line, field) => ({ kind, namespace: NS, name: object, file: 'examples/shop/shop.yaml', line, ...(field ? { field } : {}) });

export function health(windowS) {
  const all = edges(windowS);
  const worst = [...all].sort((a, b) => LEVELS[a.health] - LEVELS[b.health] || b.traffic.errorRatio - a.traffic.errorRatio || b.traffic.p99Us - a.traffic.p99Us).slice(0, 5);
  const requests = all.reduce((n, e) => n + e.traffic.requests, 0);
  const failures = all.reduce((n, e) => n + e.traffic.failures, 0);
  const failing = all.find((e) => e.source === 'shop/checkout' && e.health === 'failing');
  const ago = (minutes) => Date.now() - minutes * 60_000;
  return {
    status: failing ? 'failing' : 'degraded',
    sentence: `checkout → payments fails ${((failing?.traffic.errorRatio ?? 0) * 100).toFixed(0)} % of requests, and frontend → checkout with it; the other ${all.length - 2} edges answer.`,
    generation: 14,
    atUnixMs: Date.now(),
    windowS,
    counts: { services: 9, workloads: 10, proxies: 10, proxiesConnected: 9, edges: all.length, errors: 1, warnings: 2, traffic: { ...traffic(windowS, requests / windowS, failures / requests, 92, 0.72) } },
    worstEdges: worst,
    changes: [
      { atUnixMs: ago(0.4), kind: 'configured', text: 'VirtualService shop/reviews configured: v3 gets 10 %', generation: 14, object: 'VirtualService shop/reviews', origin: origin('VirtualService', 'reviews', 58) },
      { atUnixMs: ago(2), kind: 'rejected', text: 'shop/reviews-v3-77c1 refused routes/mesh/ratings.shop.svc.cluster.local/9080', object: 'VirtualService shop/ratings', origin: origin('VirtualService', 'ratings', 92) },
      { atUnixMs: ago(4), kind: 'workloadJoined', text: 'reviews-v3 joined as sa/reviews' },
      { atUnixMs: ago(9), kind: 'created', text: 'AuthorizationPolicy shop/only-checkout-charges created', generation: 13, origin: origin('AuthorizationPolicy', 'only-checkout-charges', 97) },
      { atUnixMs: ago(11), kind: 'workloadLeft', text: 'ratings-v0 ended (exit status 0)' },
      { atUnixMs: ago(40), kind: 'created', text: 'shop.yaml applied: 12 resources created', generation: 12 },
    ],
    trustDomain: 'cluster.local',
    startedUnixMs: START_MS,
  };
}

const party = (id, version = 'v1') => ({ workload: `${name(id)}-${version}`, namespace: NS, service: name(id), version, ...(KINDS[id] === 'program' ? {} : { principal: spiffe(id) }) });

function summary(id, i, source, destination, extra) {
  return { id, startUnixMs: Date.now() - i * 1370 - 200, durationUs: 3100 + ((i * 7919) % 9000), protocol: 'HTTP/1.1', method: 'GET', authority: `${name(destination)}:8080`, path: '/', status: 200, failed: false, denied: false, flags: [], source: party(source), destination: party(destination), records: 2, mtls: true, details: 'via_upstream', destinationService: `${name(destination)}.${NS}.svc.cluster.local`, ...extra };
}

export function requests(status, service, limit) {
  const fixed = [
    summary(FAIL_ID, 0, 'shop/gateway', 'shop/frontend', { method: 'POST', path: '/checkout', status: 502, failed: true, durationUs: 204_100, records: 6 }),
    summary(DENY_ID, 2, 'shop/frontend', 'shop/payments', { method: 'GET', path: '/charges?limit=10', status: 403, denied: true, flags: ['UAEX'], details: 'rbac_access_denied_matched_policy[none]' }),
    summary(SLOW_ID, 3, 'shop/frontend', 'shop/reviews', { path: '/reviews/0', status: 504, failed: true, flags: ['UT'], durationUs: 500_400, destination: party('shop/reviews', 'v3') }),
  ];
  const paths = ['/', '/catalog/items?page=2', '/cart/4711', '/reviews/0', '/catalog/items/18', '/checkout'];
  const to = ['shop/frontend', 'shop/catalog', 'shop/cart', 'shop/reviews', 'shop/catalog', 'shop/checkout'];
  const rest = Array.from({ length: 57 }, (_, k) => {
    const i = k + 4;
    const which = i % 6;
    const bad = i % 11 === 0;
    return summary(`0000${i.toString(16).padStart(4, '0')}-5a5a-4a4a-8b8b-0123456789ab`, i, which === 0 ? 'shop/gateway' : 'shop/frontend', to[which], { path: paths[which], ...(bad ? { status: 503, failed: true, flags: ['UF', 'URX'] } : {}), ...(which === 3 ? { destination: party('shop/reviews', `v${1 + (i % 3)}`) } : {}) });
  });
  const fits = (r) => {
    const end = r.status;
    if (status === 'failed' && !(r.failed || r.denied)) return false;
    if (/^\dxx$/.test(status) && Math.floor(end / 100) !== Number(status[0])) return false;
    if (/^\d{3}$/.test(status) && end !== Number(status)) return false;
    const short = service.split('/').pop();
    return !service || r.source.service === short || r.destination.service === short;
  };
  return { requests: [...fixed, ...rest].filter(fits).slice(0, limit), dropped: 12 };
}

function record(id, source, destination, reporter, extra) {
  return { id, traceId: '4bf92f3577b34da6a3ce929d0e0e4736', spanId: '00f067aa0ba902b7', proxy: `${NS}/${name(reporter === 'source' ? source : destination)}-v1-1f3a`, reporter, startUnixMs: Date.now() - 900, durationUs: 204_100, protocol: 'HTTP/1.1', grpc: false, method: 'POST', path: '/charge', authority: `${name(destination)}:8080`, status: 502, bytesReceived: 120, bytesSent: 0, flags: [], details: 'via_upstream', source: party(source), destination: party(destination), destinationService: `${name(destination)}.${NS}.svc.cluster.local`, tls: { version: 'TLSv1_3', group: 'X25519MLKEM768', peer: spiffe(reporter === 'source' ? destination : source), peerNotAfterUnixS: Math.round(Date.now() / 1000) + 3000 }, ...extra };
}

export function request(id) {
  const hop = (source, destination, depth, extra = {}) => ({ source, destination, depth, status: 200, flags: '-', durationUs: 4000, mtls: true, attempts: 1, failed: false, decisive: false, ...extra });
  const at = (kind, object, line) => ({ name: `${NS}/${object}`, text: `${kind} ${NS}/${object} (examples/shop/shop.yaml:${line})`, origin: origin(kind, object, line) });
  if (id === DENY_ID) {
    return {
      why: { id, failed: false, status: 403, cause: 'notAllowed', sentence: 'payments’ proxy denied GET /charges from sa/frontend: an ALLOW policy applies to payments, and none of its rules matches.', hop: 'frontend-v1 → payments-v1', side: 'destination', route: { name: 'default', text: 'no route: every endpoint of payments' }, policy: at('AuthorizationPolicy', 'only-checkout-charges', 97), endpoint: '127.0.0.1:41007', certificate: 'spiffe://cluster.local/ns/shop/sa/payments, valid for 50 min', fix: 'If frontend may read charges, add a rule from principal cluster.local/ns/shop/sa/frontend to GET /charges in AuthorizationPolicy shop/only-checkout-charges (examples/shop/shop.yaml:97).', evidence: ['details: rbac_access_denied_matched_policy[none]', 'proved identity of the caller: spiffe://cluster.local/ns/shop/sa/frontend', '1 ALLOW policy with 1 rule; the rule wants principal cluster.local/ns/shop/sa/checkout'], hops: [hop('frontend-v1', 'payments-v1', 0, { status: 403, flags: 'UAEX', durationUs: 800, failed: true, decisive: true })] },
      records: [record(id, 'shop/frontend', 'shop/payments', 'source', { method: 'GET', path: '/charges?limit=10', status: 403, durationUs: 1400 }), record(id, 'shop/frontend', 'shop/payments', 'destination', { method: 'GET', path: '/charges?limit=10', status: 403, durationUs: 800, flags: ['UAEX'], policy: { policy: `${NS}/only-checkout-charges`, allowed: false, origin: origin('AuthorizationPolicy', 'only-checkout-charges', 97), reason: 'no ALLOW rule matched' } })],
    };
  }
  if (id === SLOW_ID) {
    return {
      why: { id, failed: true, status: 504, cause: 'routeTimeout', sentence: 'reviews v3 did not answer GET /reviews/0 within 500 ms, the timeout of the route “canary”; frontend’s proxy gave up and answered 504.', hop: 'frontend-v1 → reviews-v3', side: 'source', route: { ...at('VirtualService', 'reviews', 66), name: 'canary' }, endpoint: '127.0.0.1:41005 (reviews-v3)', certificate: 'spiffe://cluster.local/ns/shop/sa/reviews, valid for 41 min', timer: 'route timeout of 500 ms, set by VirtualService shop/reviews (examples/shop/shop.yaml:74)', fix: 'Raise `timeout` in the route, or find out why reviews v3 is slow: its p99 is 610 ms, that of v2 is 25 ms.', evidence: ['the connection to 127.0.0.1:41005 was made and the request sent', 'no response header after 500 ms'], hops: [hop('frontend-v1', 'reviews-v3', 0, { status: 504, flags: 'UT', durationUs: 500_400, failed: true, decisive: true })] },
      records: [record(id, 'shop/frontend', 'shop/reviews', 'source', { method: 'GET', path: '/reviews/0', status: 504, durationUs: 500_400, flags: ['UT'], route: 'canary', routeOrigin: origin('VirtualService', 'reviews', 66) })],
    };
  }
  const known = requests('', '', 100).requests.find((r) => r.id === id);
  if (!known) return undefined;
  if (id !== FAIL_ID) {
    const bad = known.failed;
    return {
      why: { id, failed: bad, status: known.status, cause: bad ? 'connectionRefused' : 'success', sentence: bad ? `Nothing listens at ${known.destination.workload}: connection refused by 127.0.0.1:41003, after 2 attempts.` : `${known.destination.workload} answered 200 in ${(known.durationUs / 1000).toFixed(1)} ms.`, hop: `${known.source.workload} → ${known.destination.workload}`, side: 'source', route: { name: 'default', text: 'no route: every endpoint of the service' }, endpoint: '127.0.0.1:41003', evidence: [], hops: [hop(known.source.workload, known.destination.workload, 0, { status: known.status, flags: known.flags.join(',') || '-', durationUs: known.durationUs, failed: bad, decisive: true })], ...(bad ? { fix: `Is the program of ${known.destination.workload} running? \`weft get workloads\` tells.` } : { certificate: `${spiffe(`shop/${known.destination.service}`)}, valid for 44 min` }) },
      records: [record(id, `shop/${known.source.service}`, `shop/${known.destination.service}`, 'source', { method: 'GET', path: known.path, status: known.status, durationUs: known.durationUs, flags: known.flags }), ...(bad ? [] : [record(id, `shop/${known.source.service}`, `shop/${known.destination.service}`, 'destination', { method: 'GET', path: known.path, status: 200, durationUs: known.durationUs - 600 })])],
    };
  }
  return {
    why: {
      id, failed: true, status: 502, cause: 'programError',
      sentence: 'payments itself answered 503 to POST /charge: the mesh delivered the request and the program refused it. checkout gave up, and the shopper got 502.',
      hop: 'checkout-v1 → payments-v1', side: 'destination',
      route: { name: 'default', text: 'no route: every endpoint of payments' },
      policy: at('AuthorizationPolicy', 'only-checkout-charges', 97),
      endpoint: '127.0.0.1:41007 (payments-v1)', certificate: 'spiffe://cluster.local/ns/shop/sa/payments, X25519MLKEM768, valid for 50 min',
      fix: 'Look at the log of payments around 08:14:07. If a second try helps, add `retries: { attempts: 2, retryOn: 5xx }` to a VirtualService for payments.',
      evidence: ['both sides’ proxies report 503 with details via_upstream and no flag', 'payments answered 8 of 10 requests in the same minute', 'mutual TLS was up; the policy allowed sa/checkout'],
      hops: [hop('gateway', 'frontend-v1', 0, { status: 502, durationUs: 204_100, failed: true }), hop('frontend-v1', 'catalog-v1', 1, { durationUs: 2100 }), hop('frontend-v1', 'checkout-v1', 1, { status: 502, durationUs: 198_000, failed: true }), hop('checkout-v1', 'cart-v1', 2, { durationUs: 3200 }), hop('checkout-v1', 'payments-v1', 2, { status: 503, durationUs: 190_400, failed: true, decisive: true })],
    },
    records: [record(id, 'shop/gateway', 'shop/frontend', 'source', { path: '/checkout' }), record(id, 'shop/gateway', 'shop/frontend', 'destination', { path: '/checkout' }), record(id, 'shop/frontend', 'shop/checkout', 'source', { path: '/checkout', parentSpanId: 'aa' }), record(id, 'shop/checkout', 'shop/payments', 'source', { status: 503, parentSpanId: 'ab' }), record(id, 'shop/checkout', 'shop/payments', 'destination', { status: 503, parentSpanId: 'ac', policy: { policy: `${NS}/only-checkout-charges`, allowed: true, origin: origin('AuthorizationPolicy', 'only-checkout-charges', 97), reason: 'ALLOW rule matched' } })],
  };
}

export function services(windowS) {
  const g = graph(windowS);
  return g.nodes.filter((n) => n.kind === 'service' || n.kind === 'external').map((n, i) => {
    const up = n.versions.length || 1;
    return { namespace: n.namespace || NS, name: n.name, host: n.kind === 'external' ? n.name : `${n.name}.${NS}.svc.cluster.local`, location: n.kind === 'external' ? 'external' : 'internal', addresses: [`240.240.17.${20 + i}`], ports: [{ number: n.name === 'redis' ? 6379 : 8080, protocol: n.name === 'redis' ? 'TCP' : n.name === 'checkout' ? 'GRPC' : 'HTTP', name: 'http' }], versions: n.versions.map((v) => v.version), workloads: up, endpointsHealthy: up, endpointsTotal: up, health: n.health, inbound: n.inbound, ...(n.kind === 'external' ? { origin: origin('ServiceEntry', 'bank', 120) } : {}) };
  });
}

export function service(namespace, short, windowS) {
  const found = services(windowS).find((s) => s.name === short);
  if (!found || (namespace !== NS && namespace !== '-')) return undefined;
  const all = edges(windowS);
  const id = `${NS}/${short}`;
  const versions = found.versions.length ? found.versions : ['latest'];
  const shares = SHARES[short];
  const address = (i) => `127.0.0.1:${41_000 + short.length + i}`;
  return {
    service: found,
    callers: all.filter((e) => e.destination === id),
    callees: all.filter((e) => e.source === id),
    versions: versions.map((version) => {
      const share = shares?.[version]?.[1] ?? 1;
      return { version, workloads: 1, endpointsHealthy: 1, endpointsTotal: 1, observedShare: share, ...(shares ? { configuredShare: shares[version][0], subset: version } : {}), labels: { app: short, version }, traffic: traffic(windowS, found.inbound.ratePerS * share, version === 'v3' ? 0.09 : 0.002, version === 'v3' ? 610 : 25, 1) };
    }),
    endpoints: versions.map((version, i) => ({ address: address(i), port: 8080, workload: `${NS}/${short}-${version}-${i}f3a`, workloadName: `${short}-${version}`, version, healthy: true, tls: short === 'redis' ? 'none' : 'mesh', identity: spiffe(id), weight: 1, ...(version === 'v3' ? { ejected: true } : {}) })),
    identities: [spiffe(id)],
    policies: [
      { kind: 'PeerAuthentication', name: `${NS}/strict`, effect: 'STRICT', summary: 'plain text is refused on every port', origin: origin('PeerAuthentication', 'strict', 37) },
      ...(short === 'payments' ? [{ kind: 'AuthorizationPolicy', name: `${NS}/only-checkout-charges`, effect: 'ALLOW', summary: 'from sa/checkout to POST /charge', origin: origin('AuthorizationPolicy', 'only-checkout-charges', 97) }] : []),
      ...(short === 'frontend' ? [{ kind: 'AuthorizationPolicy', name: `${NS}/no-admin`, effect: 'DENY', summary: 'any caller to /admin*', origin: origin('AuthorizationPolicy', 'no-admin', 83) }] : []),
      ...(short === 'reviews' ? [{ kind: 'DestinationRule', name: `${NS}/reviews`, effect: 'least request', summary: '3 subsets; outlier detection: 5 consecutive errors, put aside for 30 s', origin: origin('DestinationRule', 'reviews', 41) }] : []),
    ],
    routes: shares
      ? [
          { name: 'jason', match: 'header end-user = jason', action: 'forward', destinations: [{ host: found.host, subset: 'v3', share: 1 }], origin: origin('VirtualService', 'reviews', 62) },
          { name: 'canary', match: 'any request', action: 'forward', destinations: Object.entries(shares).map(([subset, [share]]) => ({ host: found.host, subset, share })), timeoutMs: 500, retries: 2, filters: ['delay 7 s for 1 %'], origin: origin('VirtualService', 'reviews', 66) },
        ]
      : [],
    failures: requests('failed', id, 20).requests,
  };
}

export { DENY_ID, FAIL_ID, NS, SLOW_ID, spiffe };
