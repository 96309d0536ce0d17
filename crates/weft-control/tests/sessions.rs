//! Control plane and control client against each other, over loopback with real certificates: joining, following
//! configuration, breaking and coming back.

#![allow(clippy::panic, reason = "tests say what did not come true")]

use hyper_util::rt::TokioIo;
use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::{Arc, LazyLock},
    time::Duration,
};
use tokio::{io::AsyncReadExt, net::TcpStream, sync::mpsc};
use tonic::transport::{Channel, Endpoint};
use weft_control::{Control, ControlConfig, JoinGrant, Presence, ProxyRole, ProxyStatus, TapRequest};
use weft_model::{Protocol, ResourceName, Root};
use weft_pki::{Alpn, Authority, SvidState};
use weft_proto::v1::{
    self, delta_request::Message as Request, delta_response::Message as Response, discovery_client::DiscoveryClient,
    identity_client::IdentityClient, telemetry_client::TelemetryClient,
};
use weft_proxy::{
    Shared,
    control::{self, ClientConfig, ControlEndpoint, ControlError, ControlHandle, ControlStatus, Needed, Needs, workload_port},
};
use weft_std::clock;
use weft_telemetry::{EdgeAggregator, Party, Report, Reporter, RequestRecord, Tapped};
use weft_wire::tls::ClientTls;

/// Longer than anything here takes; a test that reaches it has failed.
const LONG: Duration = Duration::from_secs(20);
const REVIEWS: &str = "reviews.default.svc.cluster.local";

/// A proxy without workers.
struct Sidecar {
    shared: Arc<Shared>,
    handle: ControlHandle,
}

fn listener(address: Option<SocketAddr>) -> TcpListener {
    TcpListener::bind(address.unwrap_or_else(|| "127.0.0.1:0".parse().expect("address"))).expect("a free port")
}

async fn control(state: &Path, address: Option<SocketAddr>) -> Control {
    Control::start(ControlConfig::new(state, listener(address))).await.expect("starts")
}

fn grant(name: &str) -> JoinGrant {
    let labels = [("app", name), ("version", "v1")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let workload = format!("{name}-v1");
    JoinGrant { namespace: "default".into(), service_account: name.into(), workload, labels, ..JoinGrant::default() }
}

async fn token(control: &Control, name: &str) -> Option<String> {
    Some(control.mint_join_token(grant(name)).await.expect("mints").token)
}

fn endpoint(control: &Control, join_token: Option<String>) -> ControlEndpoint {
    ControlEndpoint { address: control.address(), bundle_pem: control.bundle_pem().into(), join_token }
}

/// Where all proxies of these tests listen for the mesh. It is open: a listener that refuses connections is taken for dead.
static INBOUND: LazyLock<TcpListener> = LazyLock::new(|| TcpListener::bind("127.0.0.1:0").expect("loopback has ports"));

fn inbound() -> SocketAddr {
    INBOUND.local_addr().expect("bound")
}

fn sidecar(endpoint: ControlEndpoint, state: &Path) -> Sidecar {
    proxy_of(endpoint, state, false)
}

fn proxy_of(endpoint: ControlEndpoint, state: &Path, gateway: bool) -> Sidecar {
    let (needs, need_requests) = Needs::channel();
    let (reports, report_queue) = mpsc::channel(8);
    let shared = Shared::new(control::identity(&endpoint).expect("a bundle"), needs, reports);
    let config = ClientConfig {
        endpoint,
        state_dir: state.join("proxy"),
        gateway,
        ports: vec![workload_port(9080, inbound(), Protocol::Http)],
        admin: None,
        healthy: true,
        set_log_level: None,
        gateway_ports: None,
    };
    let handle = control::start(config, shared.clone(), need_requests, report_queue).expect("starts");
    Sidecar { shared, handle }
}

impl Sidecar {
    async fn until(&self, what: &str, wanted: impl Fn(&ControlStatus) -> bool) -> ControlStatus {
        let mut watch = self.handle.watch();
        let waited = tokio::time::timeout(LONG, watch.wait_for(|status| wanted(status))).await;
        waited.unwrap_or_else(|_| panic!("it did not come true that {what}: {:?}", self.handle.status())).expect("the client runs").clone()
    }
    async fn synced(&self) {
        self.until("it is synced", |status| status.synced).await;
    }
    async fn need(&self, host: &str) -> Needed {
        self.shared.needs.need(Root::Host(host.into()), LONG).await
    }
    /// Waits for a snapshot.
    async fn runs(&self, what: &str, wanted: impl Fn(&weft_proxy::Snapshot) -> bool) {
        let mut generations = self.shared.generation();
        let follow = async {
            while !wanted(&self.shared.snapshot()) {
                generations.changed().await.expect("the proxy is there");
            }
        };
        tokio::time::timeout(LONG, follow).await.unwrap_or_else(|_| panic!("it did not come true that {what}"));
    }
    fn id(&self) -> String {
        self.handle.status().workload_id.expect("joined")
    }
}

async fn joined(control: &Control, name: &str, state: &Path) -> Sidecar {
    let proxy = sidecar(endpoint(control, token(control, name).await), state);
    proxy.handle.ready(LONG).await.expect("ready");
    proxy
}

/// Waits until the control plane shows a proxy as `wanted`.
async fn shown(control: &Control, id: &str, what: &str, wanted: impl Fn(&ProxyStatus) -> bool) -> ProxyStatus {
    let look = async {
        loop {
            match control.parts().proxies.find(id) {
                Some(status) if wanted(&status) => return status,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    tokio::time::timeout(LONG, look).await.unwrap_or_else(|_| panic!("it is not shown that {what}: {:?}", control.parts().proxies.find(id)))
}

fn service(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  selector:\n    app: {name}\n  ports:\n  - name: http\n    port: 9080\n"
    )
}

fn route(headers: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: reviews\nspec:\n  hosts:\n  - reviews\n  http:\n  - route:\n    - destination:\n        host: reviews\n{headers}"
    )
}

#[tokio::test]
async fn a_proxy_joins_asks_and_follows() {
    let (state, dirs) = (tempfile::tempdir().expect("dir"), [tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir")]);
    let control = control(state.path(), None).await;
    control.apply(&service("reviews"), "shop.yaml", false).await.expect("applies");
    let reviews = joined(&control, "reviews", dirs[0].path()).await;
    reviews
        .runs("its own side says its port and service", |snapshot| {
            snapshot.inbound.as_ref().is_some_and(|i| i.ports.len() == 1 && i.ports[0].service == REVIEWS && i.workload.id == reviews.id())
        })
        .await;
    let status = reviews.handle.status();
    assert_eq!(status.identity.as_deref(), Some("spiffe://cluster.local/ns/default/sa/reviews"));

    let page = joined(&control, "productpage", dirs[1].path()).await;
    assert_eq!(page.need("reviews").await, Needed::Resolved(REVIEWS.into()));
    assert_eq!(page.need("reviews").await, Needed::Resolved(REVIEWS.into()));
    assert_eq!(page.need("nowhere").await, Needed::Unknown);
    let endpoints = page.shared.snapshot().clusters().map(|c| c.endpoints.clone()).next().expect("a cluster");
    assert_eq!(endpoints[0].address.to_string(), inbound().to_string());
    assert_eq!(endpoints[0].identity.as_ref().map(ToString::to_string), status.identity);

    // A change is there in less than a second.
    let begun = clock::now();
    control.apply(&route("    timeout: 3s\n"), "route.yaml", false).await.expect("applies");
    page.runs("the timeout is known", |s| {
        s.service_routes(REVIEWS, 9080).is_some_and(|t| t.table.hosts.iter().flat_map(|h| &h.routes).any(|r| r.timeout_ms == Some(3000)))
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    let generation = control.generation();
    let shown = shown(&control, &page.id(), "all is acknowledged", |s| s.generation == generation).await;
    assert!(shown.connected && shown.roots.contains(&Root::Host("reviews".into())));
    assert!(shown.resources.values().all(|r| r.sent == r.acked && r.nack.is_none()), "{:?}", shown.resources);

    // What was unknown comes by itself once it is known.
    control.apply(&service("nowhere"), "late.yaml", false).await.expect("applies");
    page.runs("the late service is there", |s| s.service("nowhere.default.svc.cluster.local").is_some()).await;
}

#[tokio::test]
async fn tokens_are_good_once_and_in_time() {
    let (state, dir) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let control = control(state.path(), None).await;
    let good = token(&control, "reviews").await;
    let first = sidecar(endpoint(&control, good.clone()), &dir.path().join("a"));
    first.handle.ready(LONG).await.expect("ready");
    let hour_ago = clock::unix_ms() - 3_600_000;
    let late = control.parts().tokens.mint(&grant("reviews"), hour_ago).await.expect("mints").token;
    for (name, token, said) in [("b", good, "used"), ("c", Some(late), "expired"), ("d", Some("weft-join-0".into()), "token")] {
        let proxy = sidecar(endpoint(&control, token), &dir.path().join(name));
        let error = proxy.handle.ready(LONG).await.expect_err("refused");
        assert!(matches!(&error, ControlError::Refused(text) if text.contains(said) && text.contains("weft run")), "{error}");
    }
    let without = sidecar(endpoint(&control, None), &dir.path().join("e"));
    let error = without.handle.ready(LONG).await.expect_err("no identity").to_string();
    assert!(error.contains("start it with a new token"), "{error}");
}

#[tokio::test]
async fn a_control_plane_of_another_mesh_is_refused_and_so_is_its_proxy() {
    let (state, dir) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let control = control(state.path(), None).await;
    let other = Authority::ephemeral("other.org").expect("made");
    let stranger = ControlEndpoint { bundle_pem: other.bundle_pem().into(), ..endpoint(&control, token(&control, "reviews").await) };
    let proxy = sidecar(stranger, &dir.path().join("a"));
    let error = proxy.handle.ready(LONG).await.expect_err("refused").to_string();
    assert!(error.contains("not the one of this mesh") && error.contains("cluster.local"), "{error}");

    // The same name and another root: its certificates are no good either.
    let twin = Authority::ephemeral("cluster.local").expect("made");
    let endpoint = ControlEndpoint { bundle_pem: twin.bundle_pem().into(), ..endpoint(&control, token(&control, "reviews").await) };
    let proxy = sidecar(endpoint, &dir.path().join("b"));
    let error = proxy.handle.ready(LONG).await.expect_err("refused").to_string();
    assert!(error.contains("not the one of this mesh"), "{error}");
}

#[tokio::test]
async fn nobody_is_a_workload_that_it_was_not_joined_as() {
    let (state, dir) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let control = control(state.path(), None).await;
    let victim = joined(&control, "victim", &dir.path().join("victim")).await;
    let thief = joined(&control, "thief", &dir.path().join("thief")).await;
    let (victim_id, thief_id) = (victim.id(), thief.id());
    thief.handle.leave().await;
    // The thief keeps its own certificate, and claims the other's workload.
    let member = dir.path().join("thief/proxy/member.json");
    let text = std::fs::read_to_string(&member).expect("kept");
    std::fs::write(&member, text.replace(&thief_id, &victim_id)).expect("written");
    let thief = sidecar(endpoint(&control, None), &dir.path().join("thief"));
    let status = thief.until("it is refused", |status| status.last_error.is_some()).await;
    assert!(status.last_error.as_ref().is_some_and(|text| text.contains("is not spiffe://")), "{status:?}");
    assert!(!status.synced);
    assert_eq!(control.parts().proxies.find(&victim_id).expect("there").identity, "spiffe://cluster.local/ns/default/sa/victim");
    assert!(victim.handle.status().connected);
}

/// A connection without the control client's rules, with the certificate that `svid` holds, if any.
async fn raw(control: &Control, svid: &SvidState) -> Channel {
    let stream = TcpStream::connect(control.address()).await.expect("listens");
    let expected = control.parts().authority.control_id();
    let tls = ClientTls::mesh(svid, &expected, &[Alpn::H2]).connect(stream, clock::now() + LONG).await.expect("the control plane");
    let mut once = Some(TokioIo::new(tls.stream));
    let connector = tower::service_fn(move |_| std::future::ready(once.take().ok_or_else(|| std::io::Error::other("once"))));
    Endpoint::from_static("http://control.invalid").connect_with_connector(connector).await.expect("connects")
}

/// A proxy that refuses what it likes.
struct Picky {
    requests: mpsc::Sender<v1::DeltaRequest>,
    responses: tonic::Streaming<v1::DeltaResponse>,
}

impl Picky {
    async fn connect(control: &Control, svid: &SvidState, hello: v1::Hello) -> Self {
        let (requests, outgoing) = mpsc::channel(8);
        let mut client = DiscoveryClient::new(raw(control, svid).await);
        let responses = client.delta(tokio_stream::wrappers::ReceiverStream::new(outgoing)).await.expect("a stream").into_inner();
        let mut picky = Self { requests, responses };
        picky.say(Request::Hello(v1::Hello { protocol: 1, ..hello })).await;
        picky
    }
    async fn say(&mut self, message: Request) {
        self.requests.send(v1::DeltaRequest { message: Some(message) }).await.expect("the stream lives");
    }
    async fn update(&mut self) -> v1::Update {
        loop {
            let response =
                tokio::time::timeout(LONG, self.responses.message()).await.expect("in time").expect("no error").expect("a message");
            if let Some(Response::Update(update)) = response.message {
                return update;
            }
        }
    }
}

#[tokio::test]
async fn a_refused_value_is_shown_with_its_field_until_it_changes() {
    let (state, dir) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let control = control(state.path(), None).await;
    control.apply(&service("reviews"), "shop.yaml", false).await.expect("applies");
    let proxy = joined(&control, "productpage", dir.path()).await;
    let (id, svid) = (proxy.id(), proxy.shared.svid.clone());
    drop(proxy);
    let ports = vec![workload_port(9080, inbound(), Protocol::Http)];
    let hello = v1::Hello { workload_id: id.clone(), roots: vec!["host/reviews".into()], ports, healthy: true, ..v1::Hello::default() };
    let mut picky = Picky::connect(&control, &svid, hello).await;
    let routes = format!("routes/mesh/{REVIEWS}/9080");
    let first = picky.update().await;
    assert!(first.resources.iter().any(|resource| resource.name == routes), "{first:?}");
    let error = v1::ResourceError { resource: routes.clone(), field: "hosts[0].routes[0]".into(), message: "I do not like it".into() };
    picky.say(Request::Nack(v1::Nack { nonce: first.nonce, errors: vec![error] })).await;
    let status = shown(&control, &id, "it is refused", |s| s.nacks().next().is_some()).await;
    let (resource, nack) = status.nacks().next().expect("one");
    assert_eq!((resource, nack.field.as_str(), nack.message.as_str()), (&routes, "hosts[0].routes[0]", "I do not like it"));
    assert_eq!((status.resources[&routes].acked.as_str(), status.nacks().count()), ("", 1));

    // Only what changed is sent, and taking it ends the refusal.
    control.apply(&route("    timeout: 1s\n"), "route.yaml", false).await.expect("applies");
    let second = picky.update().await;
    assert_eq!(second.resources.iter().map(|resource| &resource.name).collect::<Vec<_>>(), [&routes]);
    picky.say(Request::Ack(v1::Ack { nonce: second.nonce })).await;
    shown(&control, &id, "it is taken", |s| s.nacks().next().is_none() && s.resources[&routes].acked == s.resources[&routes].sent).await;
}

#[tokio::test]
async fn without_a_certificate_nothing_but_joining_is_allowed() {
    let state = tempfile::tempdir().expect("dir");
    let control = control(state.path(), None).await;
    let nobody = SvidState::new(control.parts().authority.bundle());
    let channel = raw(&control, &nobody).await;
    let delta = DiscoveryClient::new(channel.clone()).delta(tokio_stream::empty()).await.expect_err("refused");
    let renew = IdentityClient::new(channel.clone()).renew(v1::RenewRequest::default()).await.expect_err("refused");
    let report = TelemetryClient::new(channel.clone()).report(tokio_stream::empty()).await.expect_err("refused");
    for status in [delta, renew, report] {
        assert_eq!(
            (status.code(), status.message().contains("join the mesh with a token")),
            (tonic::Code::Unauthenticated, true),
            "{status}"
        );
    }
    let garbage = v1::JoinRequest { token: token(&control, "reviews").await.expect("minted"), csr: b"nonsense".to_vec() };
    let status = IdentityClient::new(channel).join(garbage).await.expect_err("no request");
    assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status}");
}

#[tokio::test]
async fn a_certificate_of_another_root_does_not_get_past_the_handshake() {
    let state = tempfile::tempdir().expect("dir");
    let control = control(state.path(), None).await;
    for domain in ["other.org", "cluster.local"] {
        let stranger = SvidState::new(control.parts().authority.bundle());
        stranger.install(Authority::ephemeral(domain).expect("made").server_certificate(LONG).expect("signed"));
        let stream = TcpStream::connect(control.address()).await.expect("listens");
        let tls = ClientTls::mesh(&stranger, &control.parts().authority.control_id(), &[Alpn::H2]);
        // In TLS 1.3 the refusal comes after the client is done.
        let refused = match tls.connect(stream, clock::now() + LONG).await {
            Ok(mut secured) => secured.stream.read_u8().await.is_err(),
            Err(_) => true,
        };
        assert!(refused, "{domain}");
    }
}

#[tokio::test]
async fn a_restart_of_the_control_plane_is_survived_and_nothing_is_lost() {
    let (state, dir) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let first = control(state.path(), None).await;
    let address = first.address();
    first.apply(&service("reviews"), "shop.yaml", false).await.expect("applies");
    let reviews = joined(&first, "reviews", &dir.path().join("reviews")).await;
    let page = joined(&first, "productpage", &dir.path().join("page")).await;
    assert_eq!(page.need("reviews").await, Needed::Resolved(REVIEWS.into()));
    let (before, generation) = (page.shared.snapshot().values.clone(), page.handle.status().generation);
    first.shutdown().await;
    drop(first);
    page.until("the stream is gone", |status| !status.connected).await;
    assert_eq!(page.shared.snapshot().values, before, "the proxy serves with what it has");

    let second = control(state.path(), Some(address)).await;
    page.synced().await;
    reviews.synced().await;
    assert_eq!(page.shared.snapshot().values, before, "nothing was taken away");
    assert!(page.handle.status().generation >= generation);
    second.apply(&service("ratings"), "more.yaml", false).await.expect("applies");
    assert_eq!(page.need("ratings").await, Needed::Resolved("ratings.default.svc.cluster.local".into()));

    // The proxy starts again while the control plane is away: it serves with its last good configuration.
    second.shutdown().await;
    drop(second);
    page.until("the stream is gone", |status| !status.connected).await;
    let (values, bundle_pem) = (page.shared.snapshot().values.clone(), bundle_of(&page));
    drop(page);
    let page = sidecar(ControlEndpoint { address, bundle_pem, join_token: None }, &dir.path().join("page"));
    page.handle.ready(LONG).await.expect("ready with the last good configuration");
    assert!(!page.handle.status().connected);
    assert_eq!(page.shared.snapshot().values, values);
    assert_eq!(page.need("reviews").await, Needed::Resolved(REVIEWS.into()), "what it knows it answers alone");
    assert_eq!(page.need("unheard-of").await, Needed::Timeout, "and what it does not know, nobody does");
    let third = control(state.path(), Some(address)).await;
    page.synced().await;
    assert_eq!(page.shared.snapshot().values.keys().collect::<Vec<_>>(), values.keys().collect::<Vec<_>>());
    third.shutdown().await;
}

fn bundle_of(proxy: &Sidecar) -> String {
    proxy.shared.svid.bundle().pem("cluster.local").expect("its own roots").into()
}

#[tokio::test]
async fn certificates_of_two_seconds_are_renewed_without_breaking_the_stream() {
    let (state, dir) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let config = ControlConfig { leaf_ttl: Duration::from_secs(2), ..ControlConfig::new(state.path(), listener(None)) };
    let control = Control::start(config).await.expect("starts");
    let proxy = joined(&control, "reviews", dir.path()).await;
    let since = control.parts().proxies.find(&proxy.id()).expect("connected").since_unix_ms;
    let first = proxy.shared.svid.svid().expect("joined");
    proxy.until("it was renewed four times", |status| status.renewals >= 4).await;
    let last = proxy.shared.svid.svid().expect("there");
    assert!(last.serial() != first.serial() && last.id() == first.id());
    assert!(last.is_valid_at(clock::unix()) && last.not_after_s() > first.not_after_s());
    assert_eq!(control.parts().proxies.find(&proxy.id()).expect("there").since_unix_ms, since, "the same stream");
    control.apply(&service("reviews"), "shop.yaml", false).await.expect("applies");
    proxy.runs("and it works", |s| s.inbound.as_ref().is_some_and(|i| i.ports.iter().any(|p| p.service == REVIEWS))).await;
}

#[tokio::test]
async fn who_says_good_bye_is_gone_at_once_and_who_breaks_off_is_kept_for_a_grace() {
    let (state, dir) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let control = control(state.path(), None).await;
    let polite = joined(&control, "polite", &dir.path().join("a")).await;
    let broken = joined(&control, "broken", &dir.path().join("b")).await;
    let (polite_id, broken_id) = (polite.id(), broken.id());
    polite.handle.leave().await;
    assert!(control.parts().registry.enrolled(&polite_id).is_none());
    drop(broken);
    shown(&control, &broken_id, "it is disconnected", |status| !status.connected).await;
    let entry = control.parts().registry.entries().into_iter().find(|e| e.workload.id == broken_id).expect("still there");
    assert_eq!(entry.presence, Presence::Away);
    assert_eq!(control.parts().registry.catalogue().len(), 1);
}

#[tokio::test]
async fn health_and_reports_arrive_and_reports_for_others_do_not() {
    let (state, dir) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let control = control(state.path(), None).await;
    let proxy = joined(&control, "reviews", dir.path()).await;
    proxy.handle.set_health(false);
    let (id, parts) = (proxy.id(), control.parts().clone());
    let sick = || parts.registry.entries().iter().any(|entry| entry.workload.id == id && !entry.healthy);
    let mut changes = parts.registry.watch();
    while !sick() {
        tokio::time::timeout(LONG, changes.changed()).await.expect("told in time").expect("the registry is there");
    }
    let mut edges = EdgeAggregator::default();
    for account in ["reviews", "somebody-else"] {
        let principal = format!("spiffe://cluster.local/ns/default/sa/{account}");
        let source = Party { workload: account.into(), principal, ..Party::default() };
        edges.observe(&RequestRecord { id: account.into(), reporter: Reporter::Source, status: 503, source, ..RequestRecord::default() });
    }
    proxy.shared.reports.send(edges.take()).await.expect("taken");
    let arrived = async {
        while control.record("reviews").is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, arrived).await.expect("the report arrives");
    assert!(control.record("somebody-else").is_empty());
}

#[tokio::test]
async fn only_who_was_granted_it_is_a_gateway_and_it_has_its_own_name() {
    let (state, dir) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let control = control(state.path(), None).await;
    let token_of_gateway = control.mint_join_token(JoinGrant { role: ProxyRole::Gateway, ..grant("edge") }).await.expect("mints").token;
    let gateway = proxy_of(endpoint(&control, Some(token_of_gateway)), &dir.path().join("a"), true);
    gateway.handle.ready(LONG).await.expect("ready");
    let name = gateway.shared.snapshot().inbound.as_ref().map(|inbound| inbound.workload.name.clone());
    assert_eq!(name.as_deref(), Some("edge-v1"));

    let sidecar = proxy_of(endpoint(&control, token(&control, "reviews").await), &dir.path().join("b"), true);
    let status = sidecar.until("it is refused", |status| status.last_error.is_some()).await;
    assert!(status.last_error.as_ref().is_some_and(|text| text.contains("role of a Gateway")), "{status:?}");
}

#[tokio::test]
async fn a_lost_store_takes_its_workloads_back() {
    let (state, dir) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let first = control(state.path(), None).await;
    let address = first.address();
    let proxy = joined(&first, "reviews", dir.path()).await;
    let id = proxy.id();
    first.shutdown().await;
    drop(first);
    for file in std::fs::read_dir(state.path()).expect("state") {
        let path = file.expect("entry").path();
        if path.is_file() {
            std::fs::remove_file(path).expect("removed");
        }
    }
    proxy.until("the stream is gone", |status| !status.connected).await;
    let second = control(state.path(), Some(address)).await;
    proxy.synced().await;
    let back = second.parts().registry.enrolled(&id).expect("taken back");
    assert_eq!((back.name.as_str(), back.labels.get("app").map(String::as_str)), ("reviews-v1", Some("reviews")));
    assert!(proxy.shared.snapshot().values.contains_key(&ResourceName::Inbound));
    second.shutdown().await;
}

const GLOBAL: &str = "apiVersion: weft.dev/v1alpha1\nkind: RateLimit\nmetadata: {name: all}\nspec:\n  limits:\n  - {name: hourly, global: {requests: 300, per: 1h}}\n";

/// As many tokens as there are, one after the other.
async fn take_all(proxy: &Sidecar) -> u32 {
    let rate = weft_model::LimitRate { requests: 300, per_ms: 3_600_000, burst: 300 };
    let mut taken = 0;
    while proxy.shared.leases.take("default/all/hourly", &rate, "").await.is_ok() {
        taken += 1;
    }
    taken
}

#[tokio::test]
async fn a_global_limit_holds_over_all_proxies_and_shares_hold_without_the_control_plane() {
    let state = tempfile::tempdir().expect("dir");
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().expect("dir")).collect();
    let control = control(state.path(), None).await;
    control.apply(GLOBAL, "limit.yaml", false).await.expect("applies");
    let mut proxies = Vec::new();
    for (name, dir) in ["a", "b", "c"].into_iter().zip(&dirs) {
        let proxy = joined(&control, name, dir.path()).await;
        proxy.runs("the limit is there", |s| s.values.contains_key(&ResourceName::RateLimit("default/all".into()))).await;
        proxy.synced().await;
        proxies.push(proxy);
    }
    let (a, b, c) = tokio::join!(take_all(&proxies[0]), take_all(&proxies[1]), take_all(&proxies[2]));
    assert!(a + b + c <= 300 && a + b + c >= 285, "{a} + {b} + {c} of 300 in the hour");
    // Another limit's tokens are not for those whose view does not hold it.
    let rate = weft_model::LimitRate { requests: 5, per_ms: 3_600_000, burst: 5 };
    let unknown = proxies[0].shared.leases.take("default/other/x", &rate, "").await;
    assert!(unknown.is_ok(), "no answer: its own share decides");
    control.shutdown().await;
    proxies[0].until("the stream is gone", |status| !status.connected).await;
    // The hour's tokens are spent, as far as this proxy knows: nothing new before its end.
    assert!(
        proxies[0]
            .shared
            .leases
            .take("default/all/hourly", &weft_model::LimitRate { requests: 300, per_ms: 3_600_000, burst: 300 }, "")
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_tap_reaches_the_proxy_and_its_exchanges_come_back() {
    let (state, dir) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let control = control(state.path(), None).await;
    let reviews = joined(&control, "reviews", &dir.path().join("reviews")).await;
    let other = joined(&control, "other", &dir.path().join("other")).await;
    for proxy in [&reviews, &other] {
        shown(&control, &proxy.id(), "it is connected", |status| status.connected).await;
    }
    let wanted = TapRequest { workload: "reviews-v1".into(), filter: "response.code >= 500".into(), total: 2, seconds: 60 };
    for (refused, why) in [
        (TapRequest { workload: "nobody".into(), ..wanted.clone() }, "no proxy of a workload nobody"),
        (TapRequest { filter: "response.code >=".into(), ..wanted.clone() }, "not an expression"),
        (TapRequest { seconds: 100_000, ..wanted.clone() }, "duration must be from 1 to 600"),
    ] {
        let error = control.tap(&refused, "test").expect_err("refused").to_string();
        assert!(error.contains(why), "{error}");
    }
    let mut tap = control.tap(&wanted, "test").expect("begins");
    assert_eq!(tap.proxies(), [reviews.id()]);
    let taps = &reviews.shared.taps;
    let until = async |active: bool| {
        let look = async {
            while taps.active() != active {
                tokio::time::sleep(Duration::from_millis(5)).await
            }
        };
        tokio::time::timeout(LONG, look).await.expect("the proxy hears of it");
    };
    until(true).await;
    assert!(!other.shared.taps.active());
    let exchange =
        |status| Tapped { tap: tap.id().into(), record: RequestRecord { status, ..RequestRecord::default() }, ..Tapped::default() };
    // Who was not asked has nothing to tell.
    let report = |status| Report { tapped: vec![exchange(status)], ..Report::default() };
    let (foreign, first, second) = (report(500), report(501), report(502));
    other.shared.reports.send(foreign).await.expect("open");
    for own in [first, second] {
        reviews.shared.reports.send(own).await.expect("open");
    }
    let mut seen = Vec::new();
    while let Some(exchange) = tap.next().await {
        seen.push(exchange.record.status);
    }
    assert_eq!(seen, [501, 502], "and no more than were wanted");
    drop(tap);
    until(false).await;
}
