// The mock's configuration: resources with text and findings, and proxies.
import { NS, spiffe } from './shop.mjs';

const YAMLS = [
  ['gateway.networking.k8s.io/v1', 'Gateway', 'shop', 2, 'spec:\n  gatewayClassName: weft\n  listeners:\n    - name: http\n      port: 80\n      protocol: HTTP\n'],
  ['gateway.networking.k8s.io/v1', 'HTTPRoute', 'shop', 15, 'spec:\n  parentRefs:\n    - name: shop\n  hostnames: [shop.example.com, localhost]\n  rules:\n    - backendRefs:\n        - name: frontend # the page\n          port: 8080\n'],
  ['security.istio.io/v1', 'PeerAuthentication', 'strict', 37, 'spec:\n  mtls:\n    mode: STRICT\n'],
  ['networking.istio.io/v1', 'DestinationRule', 'reviews', 41, 'spec:\n  host: reviews\n  trafficPolicy:\n    loadBalancer:\n      simple: LEAST_REQUEST\n    tls:\n      mode: SIMPLE\n  subsets:\n    - name: v1\n      labels: { version: v1 }\n    - name: v2\n      labels: { version: v2 }\n    - name: v3\n      labels: { version: v3 }\n'],
  ['networking.istio.io/v1', 'VirtualService', 'reviews', 58, 'spec:\n  hosts: [reviews]\n  http:\n    - name: jason\n      match:\n        - headers:\n            end-user: { exact: "jason" }\n      route:\n        - destination: { host: reviews, subset: v3 }\n    - name: canary\n      timeout: 0.5s\n      route:\n        - destination: { host: reviews, subset: v1 }\n          weight: 20\n        - destination: { host: reviews, subset: v2 }\n          weight: 70\n        - destination: { host: reviews, subset: v3 }\n          weight: 10\n'],
  ['networking.istio.io/v1', 'VirtualService', 'ratings', 88, 'spec:\n  hosts: [ratings]\n  http:\n    - route:\n        - destination: { host: ratings, subset: v9 }\n'],
  ['security.istio.io/v1', 'AuthorizationPolicy', 'only-checkout-charges', 97, 'spec:\n  selector:\n    matchLabels: { app: payments }\n  action: ALLOW\n  rules:\n    - from:\n        - source:\n            principals: ["cluster.local/ns/shop/sa/checkout"]\n      to:\n        - operation:\n            methods: [POST]\n            paths: [/charge]\n'],
  ['networking.istio.io/v1', 'ServiceEntry', 'bank', 120, 'spec:\n  hosts: [api.bank.example]\n  location: MESH_EXTERNAL\n  resolution: DNS\n  ports:\n    - { number: 443, name: https, protocol: HTTPS }\n'],
];

const origin = (kind, object, line) => ({ kind, namespace: NS, name: object, file: 'examples/shop/shop.yaml', line });
const FINDINGS = [
  { severity: 'error', code: 'WEFT-1203', message: 'The route leads to subset v9 of ratings, and no DestinationRule has a subset of that name.', origin: { ...origin('VirtualService', 'ratings', 97), field: 'spec.http[0].route[0]' }, fix: 'Add subset v9 to a DestinationRule for ratings, or use one of: v1.' },
  { severity: 'warning', code: 'WEFT-1101', message: '`tls.mode: SIMPLE` towards a service of the mesh is read and not acted on: the mesh’s own mutual TLS is used.', origin: { ...origin('DestinationRule', 'reviews', 52), field: 'spec.trafficPolicy.tls' }, fix: 'Remove the block, or set ISTIO_MUTUAL.' },
  { severity: 'warning', code: 'WEFT-1310', message: 'Port 443 is declared HTTPS: requests inside are not seen, and HTTP rules do not apply.', origin: { ...origin('ServiceEntry', 'bank', 130) } },
];

function text([apiVersion, kind, object, , body]) {
  return `apiVersion: ${apiVersion}\nkind: ${kind}\nmetadata:\n  name: ${object}\n  namespace: ${NS}\n${body}`;
}

function resource(row) {
  const [apiVersion, kind, object, line] = row;
  return { apiVersion, kind, namespace: NS, name: object, origin: origin(kind, object, line), generation: kind === 'VirtualService' ? 14 : 12, updatedUnixMs: Date.now() - (kind === 'VirtualService' ? 24_000 : 2_400_000), diagnostics: FINDINGS.filter((f) => f.origin.kind === kind && f.origin.name === object) };
}

export const resources = () => YAMLS.map(resource);
export const diagnostics = () => ({ diagnostics: FINDINGS });
export function resourceDetail(kind, object) {
  const row = YAMLS.find((r) => r[1] === kind && r[2] === object);
  return row && { resource: resource(row), yaml: text(row), firstLine: row[3] };
}

export function proxies() {
  const names = ['gateway', 'frontend-v1', 'catalog-v1', 'cart-v1', 'reviews-v1', 'reviews-v2', 'reviews-v3', 'ratings-v1', 'checkout-v1', 'payments-v1'];
  return names.map((workload, i) => {
    const refused = workload === 'reviews-v3';
    const gone = workload === 'ratings-v1';
    const host = 'ratings.shop.svc.cluster.local';
    const version = `9f2c41d0a1b2c3${i}${i}`;
    const ok = { sent: version, acked: version };
    return {
      id: `${NS}/${workload}-${i}f3a`, namespace: NS, workload, identity: spiffe(`${NS}/${workload.replace(/-v\d$/, '')}`), role: i === 0 ? 'gateway' : 'sidecar', version: '0.1.0', connected: !gone,
      sinceUnixMs: Date.now() - 2_400_000 + i * 1000, lastSeenUnixMs: Date.now() - (gone ? 95_000 : 400), generation: refused || gone ? 13 : 14, certificateNotAfterUnixS: Math.round(Date.now() / 1000) + 3000 - i * 60, logLevel: 'info',
      ...(i === 0 ? { problems: [{ resource: 'gateway-listeners', field: 'listeners[0].port', message: 'port 80: another program has 127.0.0.1:8080', fix: 'stop it, or start with `--gateway 80=8081`', origin: origin('Gateway', 'shop', 9) }] } : {}),
      resources: { inbound: ok, [`service/${host}`]: ok, [`routes/mesh/${host}/9080`]: refused ? { sent: version, acked: '77', nack: { version, field: 'rules[0].destinations[0].cluster', message: 'no cluster outbound|9080|v9|ratings.shop.svc.cluster.local' } } : ok, [`cluster/outbound|9080||${host}`]: ok, [`endpoints/outbound|9080||${host}`]: ok },
    };
  });
}
