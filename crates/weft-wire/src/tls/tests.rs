//! Handshakes between the mesh's own two sides, over an in-memory stream.

use super::*;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use weft_pki::{Authority, KeyAndCsr, Svid};
use weft_std::clock;

const DOMAIN: &str = "cluster.local";
const HOUR: Duration = Duration::from_secs(3600);

fn id(domain: &str, account: &str) -> SpiffeId {
    SpiffeId::new(domain, "default", account).expect("legal")
}

fn svid_at(authority: &Authority, account: &str, ttl: Duration, at: Duration) -> Svid {
    let made = KeyAndCsr::generate().expect("generated");
    let issued = authority.sign_workload_at(&id(authority.trust_domain(), account), made.csr_der(), ttl, at).expect("signed");
    Svid::new(made, issued.chain, issued.issued_at_ms).expect("fits")
}

fn state(authority: &Authority, account: &str) -> SvidState {
    let state = SvidState::new(authority.bundle());
    state.install(svid_at(authority, account, HOUR, clock::unix()));
    state
}

type Handshake = Result<Secured<DuplexStream>, TlsError>;

/// Both ends of a handshake: client, server.
async fn shake(client: &SvidState, expected: &SpiffeId, server: &SvidState, auth: ClientAuth) -> (Handshake, Handshake) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let deadline = clock::now() + Duration::from_secs(5);
    let client = ClientTls::mesh(client, expected, &[Alpn::WeftH2]);
    let server = ServerTls::mesh(server, &Alpn::MESH, auth);
    tokio::join!(client.connect(near, deadline), server.accept(far, deadline))
}

/// The message with which the handshake fails on the side that refuses.
fn refusal(handshake: Handshake) -> String {
    match handshake {
        Err(TlsError::Refused(error)) => error.to_string(),
        other => format!("not a refusal: {other:?}"),
    }
}

#[tokio::test]
async fn both_sides_prove_themselves_with_a_post_quantum_exchange() {
    let authority = Authority::ephemeral(DOMAIN).expect("made");
    let (caller, callee) = (state(&authority, "productpage"), state(&authority, "reviews"));
    let (client, server) = shake(&caller, &id(DOMAIN, "reviews"), &callee, ClientAuth::Required).await;
    let (mut client, mut server) = (client.expect("client"), server.expect("server"));
    assert_eq!(client.peer.as_ref().expect("proved").id, id(DOMAIN, "reviews"));
    assert_eq!(server.peer.as_ref().expect("proved").id, id(DOMAIN, "productpage"));
    let expected = TlsInUse { version: "TLSv1.3", group: "X25519MLKEM768", cipher: "TLS13_AES_128_GCM_SHA256", alpn: Some(Alpn::WeftH2) };
    assert_eq!((client.tls, server.tls), (expected, expected));

    client.stream.write_all(b"hello").await.expect("written");
    client.stream.shutdown().await.expect("closed");
    let mut text = String::new();
    server.stream.read_to_string(&mut text).await.expect("read");
    assert_eq!(text, "hello");
}

#[tokio::test]
async fn the_wrong_peer_is_refused_by_the_client() {
    let authority = Authority::ephemeral(DOMAIN).expect("made");
    let (caller, callee) = (state(&authority, "productpage"), state(&authority, "reviews"));
    let (client, server) = shake(&caller, &id(DOMAIN, "ratings"), &callee, ClientAuth::Required).await;
    let expected = "peer proved spiffe://cluster.local/ns/default/sa/reviews but spiffe://cluster.local/ns/default/sa/ratings was expected";
    assert_eq!(refusal(client), expected);
    let told = server.expect_err("ended").to_string();
    assert!(told.contains("refused this side's certificate"), "{told}");
}

#[tokio::test]
async fn other_trust_domains_and_other_roots_are_refused_by_both_sides() {
    let (ours, theirs) = (Authority::ephemeral(DOMAIN).expect("made"), Authority::ephemeral("elsewhere.org").expect("made"));
    let impostor = Authority::ephemeral(DOMAIN).expect("made");

    let (client, _) = shake(&state(&ours, "a"), &id(DOMAIN, "b"), &state(&theirs, "b"), ClientAuth::Required).await;
    let text = refusal(client);
    assert!(text.contains("certificate from another trust domain: the peer shows spiffe://elsewhere.org/"), "{text}");

    let (client, _) = shake(&state(&ours, "a"), &id(DOMAIN, "b"), &state(&impostor, "b"), ClientAuth::Required).await;
    let text = refusal(client);
    assert!(text.contains("not signed by the root that is trusted for cluster.local"), "{text}");

    // The server's side: a client that trusts our root but shows a foreign certificate.
    for (foreign, expected) in [(&theirs, "another trust domain"), (&impostor, "not signed by the root")] {
        let caller = SvidState::new(ours.bundle());
        caller.install(svid_at(foreign, "a", HOUR, clock::unix()));
        let (client, server) = shake(&caller, &id(DOMAIN, "b"), &state(&ours, "b"), ClientAuth::Required).await;
        let text = refusal(server);
        assert!(text.contains(expected), "{text}");
        // TLS 1.3: the client learns it at its first read.
        let error = client.expect("client's part is done").stream.read_u8().await.expect_err("refused");
        assert!(matches!(TlsError::from_io(error), TlsError::RefusedByPeer(_)));
    }
}

#[tokio::test]
async fn expired_certificates_are_refused_with_their_date() {
    let authority = Authority::ephemeral(DOMAIN).expect("made");
    let long_ago = clock::unix() - 2 * HOUR;
    let callee = SvidState::new(authority.bundle());
    callee.install(svid_at(&authority, "reviews", HOUR, long_ago));
    let (client, _) = shake(&state(&authority, "a"), &id(DOMAIN, "reviews"), &callee, ClientAuth::Required).await;
    let text = refusal(client);
    assert!(text.contains("sa/reviews expired at 2") && text.contains("(now 2"), "{text}");

    let (_, server) = shake(&callee, &id(DOMAIN, "b"), &state(&authority, "b"), ClientAuth::Required).await;
    assert!(refusal(server).contains("expired at"));

    callee.install(svid_at(&authority, "reviews", HOUR, clock::unix() + HOUR));
    let (client, _) = shake(&state(&authority, "a"), &id(DOMAIN, "reviews"), &callee, ClientAuth::Required).await;
    assert!(refusal(client).contains("check the clocks"));
}

#[tokio::test]
async fn a_client_without_certificate_may_only_join() {
    let authority = Authority::ephemeral(DOMAIN).expect("made");
    let newcomer = SvidState::new(authority.bundle());
    let control = state(&authority, "control");
    let (_, server) = shake(&newcomer, &id(DOMAIN, "control"), &control, ClientAuth::Required).await;
    assert_eq!(refusal(server), "the peer proved no identity: it sent no certificate");
    let (client, server) = shake(&newcomer, &id(DOMAIN, "control"), &control, ClientAuth::Optional).await;
    assert_eq!(server.expect("let in").peer, None);
    assert!(client.expect("joined").peer.is_some());
}

#[tokio::test]
async fn rotation_and_a_new_root_take_effect_at_the_next_handshake() {
    let (old, new) = (Authority::ephemeral(DOMAIN).expect("made"), Authority::ephemeral(DOMAIN).expect("made"));
    let (caller, callee) = (state(&old, "a"), state(&old, "b"));
    let handshake = async |expected_ok: bool| {
        let (client, server) = shake(&caller, &id(DOMAIN, "b"), &callee, ClientAuth::Required).await;
        assert_eq!(client.is_ok() && server.is_ok(), expected_ok);
        client.ok().and_then(|client| client.peer).map(|peer| peer.serial)
    };
    let first = handshake(true).await;
    callee.install(svid_at(&old, "b", HOUR, clock::unix()));
    assert_ne!(handshake(true).await, first, "the rotated certificate is shown");
    // The old root is no longer trusted: a session of before must not help.
    caller.install_bundle(new.bundle());
    handshake(false).await;
    callee.install(svid_at(&new, "b", HOUR, clock::unix()));
    callee.install_bundle(new.bundle());
    caller.install(svid_at(&new, "a", HOUR, clock::unix()));
    handshake(true).await;
}

#[tokio::test]
async fn a_server_without_svid_and_a_foreign_protocol_fail_in_words() {
    let authority = Authority::ephemeral(DOMAIN).expect("made");
    let nobody = SvidState::new(authority.bundle());
    let (client, server) = shake(&state(&authority, "a"), &id(DOMAIN, "b"), &nobody, ClientAuth::Required).await;
    assert!(client.is_err() && server.is_err());

    let server = ServerTls::mesh(&state(&authority, "b"), &Alpn::MESH, ClientAuth::Required);
    let error = server.accept(std::io::Cursor::new(b"GET / HTTP/1.1\r\n\r\n".to_vec()), clock::now() + HOUR).await.expect_err("no TLS");
    assert!(error.to_string().contains("does not speak TLS"), "{error}");

    let (near, far) = tokio::io::duplex(64 * 1024);
    let client = ClientTls::mesh(&state(&authority, "a"), &id(DOMAIN, "b"), &[Alpn::H2]);
    let deadline = clock::now() + HOUR;
    let (client, server) = tokio::join!(client.connect(near, deadline), server.accept(far, deadline));
    for error in [client.expect_err("no common protocol"), server.expect_err("no common protocol")] {
        assert!(error.to_string().contains("no application protocol in common"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_not_waited_for() {
    let authority = Authority::ephemeral(DOMAIN).expect("made");
    let (near, _far) = tokio::io::duplex(64);
    let server = ServerTls::mesh(&state(&authority, "b"), &Alpn::MESH, ClientAuth::Required);
    let error = server.accept(near, clock::now() + Duration::from_secs(10)).await.expect_err("silent");
    assert!(matches!(error, TlsError::Timeout));
}

/// A self-signed certificate and its key, in PEM.
fn public_pair(host: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed([host.to_owned()]).expect("made");
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[tokio::test]
async fn a_gateway_shows_the_certificate_of_the_host_that_is_asked_for() {
    let (shop, wild, other) = (public_pair("shop.example.org"), public_pair("*.example.org"), public_pair("other.net"));
    let hosts = [["other.net".to_owned()], ["*.example.org".to_owned()], ["shop.example.org".to_owned()]];
    let certificate = |index: usize, pair| {
        let (chain_pem, key_pem): &(String, String) = pair;
        PublicCertificate { hosts: &hosts[index], chain_pem, key_pem }
    };
    let all = [certificate(0, &other), certificate(1, &wild), certificate(2, &shop)];
    let server = ServerTls::public(&all, &[Alpn::H2, Alpn::Http11]).expect("made");
    let roots = format!("{}{}{}", shop.0, wild.0, other.0);
    for (name, fine) in
        [("shop.example.org", true), ("SHOP.example.org", true), ("any.example.org", true), ("other.net", true), ("example.org", false)]
    {
        let client = ClientTls::public(name, Some(&roots), &[Alpn::Http11]).expect("made");
        let (near, far) = tokio::io::duplex(64 * 1024);
        let deadline = clock::now() + HOUR;
        let (client, server) = tokio::join!(client.connect(near, deadline), server.accept(far, deadline));
        assert_eq!(client.is_ok(), fine, "{name}: {client:?}");
        if let (Ok(client), Ok(server)) = (client, server) {
            assert_eq!((client.peer, server.peer), (None, None), "a public name is no identity of the mesh");
            assert_eq!((server.tls.alpn, server.server_name), (Some(Alpn::Http11), Some(name.to_ascii_lowercase())));
        }
    }
    assert!(matches!(ServerTls::public(&[], &[]), Err(PublicTlsError::Chain(_))));
    let mixed = PublicCertificate { hosts: &hosts[0], chain_pem: &shop.0, key_pem: &wild.1 };
    assert!(matches!(ServerTls::public(&[mixed], &[]), Err(PublicTlsError::Pair(_))));
}

#[tokio::test]
async fn a_public_certificate_with_a_spiffe_name_proves_nothing() {
    let (chain, key) = {
        let names = ["shop.example.org".to_owned()];
        let mut params = rcgen::CertificateParams::new(names).expect("legal");
        let uri = "spiffe://cluster.local/ns/default/sa/admin".try_into().expect("legal");
        params.subject_alt_names.push(rcgen::SanType::URI(uri));
        params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
        let key = rcgen::KeyPair::generate().expect("made");
        (params.self_signed(&key).expect("made").pem(), key.serialize_pem())
    };
    let hosts = [String::from("*")];
    let server = ServerTls::public(&[PublicCertificate { hosts: &hosts, chain_pem: &chain, key_pem: &key }], &[]).expect("made");
    let client = ClientTls::public("shop.example.org", Some(&chain), &[]).expect("made");
    let (near, far) = tokio::io::duplex(64 * 1024);
    let deadline = clock::now() + HOUR;
    let (client, _server) = tokio::join!(client.connect(near, deadline), server.accept(far, deadline));
    assert_eq!(client.expect("the name is right").peer, None);
}

#[tokio::test]
async fn the_first_message_tells_the_host_and_is_read_again() {
    let roots = public_pair("shop.example.org").0;
    let client = ClientTls::public("shop.example.org", Some(&roots), &[Alpn::H2, Alpn::Http11]).expect("made");
    let (near, mut far) = tokio::io::duplex(64 * 1024);
    let deadline = clock::now() + HOUR;
    let mut first = vec![0; 64 * 1024];
    let length = tokio::select! {
        _ = client.connect(near, deadline) => unreachable!("nobody answers"),
        length = far.read(&mut first) => length.expect("sent"),
    };
    first.truncate(length);
    for step in [1, 7, length] {
        let (mut writer, reader) = tokio::io::duplex(16);
        let write = async {
            for part in first.chunks(step) {
                writer.write_all(part).await.expect("written");
            }
        };
        let read = client_hello(Prefixed::new(bytes::BytesMut::new(), reader), deadline);
        let ((), read) = tokio::join!(write, read);
        let (hello, stream) = read.expect("alive");
        let expected = ClientHello { server_name: Some("shop.example.org".into()), alpn: vec!["h2".into(), "http/1.1".into()] };
        assert_eq!(hello, Some(expected), "in steps of {step}");
        assert_eq!(stream.prefix(), first);
    }
    for garbage in [b"GET / HTTP/1.1\r\n\r\n".as_slice(), b"\x16\x03\x01\x00\x02\x01", b""] {
        let (hello, stream) = client_hello(Prefixed::new(garbage.into(), tokio::io::empty()), deadline).await.expect("alive");
        assert_eq!((hello, stream.prefix()), (None, garbage));
    }
}

#[tokio::test]
async fn handshakes_are_small() {
    let authority = Authority::ephemeral(DOMAIN).expect("made");
    let caller = state(&authority, "a");
    let (near, far) = tokio::io::duplex(64);
    let client = ClientTls::mesh(&caller, &id(DOMAIN, "b"), &[Alpn::WeftH2]);
    let server = ServerTls::mesh(&caller, &Alpn::MESH, ClientAuth::Required);
    let deadline = clock::now();
    let sizes = (
        size_of_val(&client.connect(near, deadline)),
        size_of_val(&server.accept(far, deadline)),
        size_of::<TlsStream<tokio::net::TcpStream>>(),
    );
    assert!(sizes.0 <= 4096 && sizes.1 <= 4096 && sizes.2 <= 2048, "futures grew: connect, accept, stream = {sizes:?}");
}

/// The same bytes, whatever the sizes of reads, writes and the pipe, and with the library's own stream at the other end.
#[tokio::test]
async fn bulk_passes_between_records_and_the_librarys_stream() {
    let authority = Authority::ephemeral(DOMAIN).expect("made");
    let (a, b) = (state(&authority, "a"), state(&authority, "b"));
    for (pipe, size) in [(300, 999), (64 * 1024, 70_000), (1 << 20, 16 * 1024)] {
        let server = ServerTls::mesh(&b, &Alpn::MESH, ClientAuth::Required);
        let (near, far) = tokio::io::duplex(pipe);
        let deadline = clock::now() + HOUR;
        let connector = tokio_rustls::TlsConnector::from(a.client_config(&id(DOMAIN, "b"), &[Alpn::WeftTcp]));
        let name = weft_pki::MESH_SERVER_NAME.try_into().expect("a name");
        let (client, server) = tokio::join!(connector.connect(name, near), server.accept(far, deadline));
        let (mut client, mut server) = (client.expect("accepted"), server.expect("accepted").stream);
        let data: Vec<u8> = (0..500_000_u32).map(|n| n.to_le_bytes()[usize::from(n % 3 == 0)]).collect();
        let send = async {
            for part in data.chunks(size) {
                client.write_all(part).await.expect("written");
            }
            client.shutdown().await.expect("closed");
            let mut back = Vec::new();
            client.read_to_end(&mut back).await.expect("read, and closed with close_notify");
            back
        };
        let echo = async {
            let mut all = Vec::new();
            server.read_to_end(&mut all).await.expect("read, and closed with close_notify");
            for part in all.chunks(size) {
                server.write_all(part).await.expect("written");
            }
            server.shutdown().await.expect("closed");
        };
        let (back, ()) = tokio::join!(send, echo);
        assert!(back == data, "{pipe} {size}");
    }
}
