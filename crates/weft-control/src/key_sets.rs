//! Key sets of token issuers: fetched here, once for the mesh, and compiled into the views of the proxies.
//!
//! A proxy fetches nothing: it needs no way out, all proxies have the same keys, and they keep them when the control plane is gone.
//! What is fetched is written by users, therefore every address is checked after the name was resolved, and the connection goes to the
//! very address that was checked (no rebinding); redirects are not followed.

use crate::{MeshWatch, engine::Engine, limits};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, StatusCode, Uri, body::Bytes};
use hyper_util::rt::TokioIo;
use std::{
    collections::BTreeMap,
    io::Write as _,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{MissedTickBehavior, interval, timeout},
};
use weft_compile::KeySource;
use weft_model::{limits::JWKS_BYTES_MAX, read_jwks};
use weft_pki::Alpn;
use weft_std::clock::{self, Instant};
use weft_wire::tls::ClientTls;

/// What is known, by the address that was asked: the text, or why there is none.
pub(crate) type KeySets = BTreeMap<String, Result<Arc<str>, String>>;

/// May addresses of this machine be asked, and without TLS?
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FetchFrom {
    /// `https` at addresses that are neither this machine's nor link-local.
    #[default]
    Network,
    /// Also `http`, and also this machine: for tests and laptops.
    AlsoHere,
}

/// Keeps all key sets that the mesh names fresh, for ever.
pub(crate) async fn follow(mesh: MeshWatch, engine: Arc<tokio::sync::Mutex<Engine>>, from: FetchFrom, kept: PathBuf) {
    let mut known = load(&kept);
    if !known.is_empty() {
        publish(&engine, &known).await;
    }
    let mut due: BTreeMap<KeySource, (Instant, Duration)> = BTreeMap::new();
    let mut ticks = interval(limits::KEY_SETS_LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let wanted = mesh.current().mesh.key_sources.clone();
        due.retain(|source, _| wanted.contains(source));
        let mut changed = false;
        for source in wanted.into_iter().take(limits::KEY_SOURCES_MAX) {
            let (at, wait) = due.get(&source).copied().unwrap_or((clock::now(), limits::KEY_SETS_RETRY));
            if at > clock::now() {
                continue;
            }
            let fetched = fetch(&source, from).await;
            let next = if fetched.is_ok() { limits::KEY_SETS_REFRESH } else { wait };
            let wait = if fetched.is_ok() { limits::KEY_SETS_RETRY } else { (wait * 2).min(limits::KEY_SETS_REFRESH) };
            changed |= note(&mut known, &source.url, fetched);
            due.insert(source, (clock::now() + next, wait));
        }
        if changed {
            save(&kept, &known);
            publish(&engine, &known).await;
        }
    }
}

/// Takes a result over. What failed never replaces what is good.
fn note(known: &mut KeySets, url: &str, fetched: Result<String, String>) -> bool {
    let new = match fetched {
        Ok(text) => Ok(Arc::from(text)),
        Err(why) => {
            tracing::warn!(url, %why, "the keys of a token issuer could not be fetched");
            if matches!(known.get(url), Some(Ok(_))) {
                return false;
            }
            Err(why)
        }
    };
    let changed = known.get(url) != Some(&new);
    known.insert(url.to_owned(), new);
    changed
}

async fn publish(engine: &tokio::sync::Mutex<Engine>, known: &KeySets) {
    if let Err(error) = engine.lock().await.set_key_sets(known.clone(), clock::unix_ms()).await {
        tracing::error!(%error, "fetched keys could not be taken over");
    }
}

/// The last good sets of an earlier run: without them every restart would refuse tokens until all issuers have answered.
fn load(kept: &Path) -> KeySets {
    let text = std::fs::read_to_string(kept).unwrap_or_default();
    let good: BTreeMap<String, String> = serde_json::from_str(&text).unwrap_or_default();
    good.into_iter().map(|(url, text)| (url, Ok(Arc::from(text)))).collect()
}

fn save(kept: &Path, known: &KeySets) {
    let good: BTreeMap<&String, &str> = known.iter().filter_map(|(url, set)| Some((url, set.as_deref().ok()?))).collect();
    let half = kept.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::File::create(&half)?;
        file.write_all(&serde_json::to_vec(&good)?)?;
        file.sync_all()?;
        std::fs::rename(&half, kept)
    };
    if let Err(error) = write() {
        tracing::warn!(%error, "fetched keys could not be saved");
    }
}

/// The text of a key set that can be used.
///
/// # Errors
/// Why there is none, in words.
async fn fetch(source: &KeySource, from: FetchFrom) -> Result<String, String> {
    let limit = Duration::from_millis(source.timeout_ms).min(limits::KEY_SETS_TIMEOUT_MAX);
    let whole = async {
        let mut url = source.url.clone();
        if source.discovery {
            let configuration: serde_json::Value =
                serde_json::from_str(&get(&url, from).await?).map_err(|_| "the OpenID configuration is not JSON")?;
            // Discovery §4.3: the configuration must be the issuer's own.
            let issuer = url.trim_end_matches("/.well-known/openid-configuration").to_owned();
            if configuration["issuer"].as_str().map(|i| i.trim_end_matches('/')) != Some(issuer.as_str()) {
                return Err("the OpenID configuration is of another issuer".to_owned());
            }
            url = configuration["jwks_uri"].as_str().ok_or("the OpenID configuration names no jwks_uri")?.to_owned();
        }
        let text = get(&url, from).await?;
        read_jwks(&text)?;
        Ok(text)
    };
    timeout(limit, whole).await.unwrap_or_else(|_| Err(format!("no answer within {} ms", limit.as_millis())))
}

async fn get(url: &str, from: FetchFrom) -> Result<String, String> {
    let uri: Uri = url.parse().map_err(|_| "the address is not a URL")?;
    let here = from == FetchFrom::AlsoHere;
    let tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") if here => false,
        _ => return Err("only https is fetched".into()),
    };
    let authority = uri.authority().filter(|a| !a.as_str().contains('@')).ok_or("the address has no host, or a user")?;
    let host = authority.host().trim_matches(['[', ']']);
    let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await.map_err(|error| error.to_string())?.collect();
    // One address that is not allowed spoils the name: which one a resolver puts first is not ours to choose.
    if let Some(refused) = addresses.iter().find(|a| !here && !is_fetched_from(a.ip())) {
        return Err(format!("{} is an address of this machine or its neighbourhood", refused.ip()));
    }
    let address = addresses.first().ok_or("the name has no address")?;
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    if !tls {
        return exchange(stream, &uri, authority.as_str()).await;
    }
    let client = ClientTls::public(host, None, &[Alpn::Http11]).map_err(|error| error.to_string())?;
    let secured = client.connect(stream, clock::now() + limits::KEY_SETS_TIMEOUT_MAX).await.map_err(|error| error.to_string())?;
    exchange(secured.stream, &uri, authority.as_str()).await
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin + Send>(stream: S, uri: &Uri, authority: &str) -> Result<String, String> {
    let words = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(words)?;
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    let request = Request::get(path).header("host", authority).header("accept", "application/json").header("connection", "close");
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(words)?;
        // Redirects are not followed: they would lead past the checks.
        if response.status() != StatusCode::OK {
            return Err(format!("it answered {}", response.status().as_u16()));
        }
        let body = Limited::new(response.into_body(), JWKS_BYTES_MAX).collect().await.map_err(|error| error.to_string())?;
        String::from_utf8(body.to_bytes().to_vec()).map_err(|_| "the answer is not text".to_owned())
    };
    let mut answer = std::pin::pin!(answer);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        answer = answer.as_mut() => answer,
        _ = connection.as_mut() => answer.await,
    }
}

/// Not this machine, not the link (where clouds keep their metadata), nothing that is no address of a host.
fn is_fetched_from(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            !(ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_broadcast()
                || ip.is_multicast()
                || ip.octets()[0] == 0)
        }
        IpAddr::V6(ip) => {
            // fd00:ec2::254 is the metadata service of one cloud.
            let metadata = ip.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254];
            !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || ip.is_unicast_link_local() || metadata)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    const KEYS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

    /// Answers each connection with the next of `answers`.
    async fn issuer(answers: Vec<String>) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("address");
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.expect("accepted");
                let mut head = [0; 2048];
                let _ = stream.read(&mut head).await;
                stream.write_all(answer.replace("ADDRESS", &address.to_string()).as_bytes()).await.ok();
            }
        });
        address
    }
    fn ok(body: &str) -> String {
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{body}")
    }
    fn source(url: String, discovery: bool) -> KeySource {
        KeySource { url, discovery, timeout_ms: 2_000 }
    }

    #[tokio::test]
    async fn sets_are_fetched_directly_and_by_discovery() {
        let address = issuer(vec![ok(KEYS)]).await;
        let got = fetch(&source(format!("http://{address}/keys"), false), FetchFrom::AlsoHere).await;
        assert_eq!(got.as_deref(), Ok(KEYS));
        let configuration = r#"{"issuer":"http://ADDRESS","jwks_uri":"http://ADDRESS/keys"}"#;
        let address = issuer(vec![ok(configuration), ok(KEYS)]).await;
        let url = format!("http://{address}/.well-known/openid-configuration");
        assert_eq!(fetch(&source(url, true), FetchFrom::AlsoHere).await.as_deref(), Ok(KEYS));
        let address = issuer(vec![ok(r#"{"issuer":"http://evil.example","jwks_uri":"http://ADDRESS/keys"}"#)]).await;
        let url = format!("http://{address}/.well-known/openid-configuration");
        assert!(fetch(&source(url, true), FetchFrom::AlsoHere).await.is_err_and(|why| why.contains("another issuer")));
    }

    #[tokio::test]
    async fn bad_answers_are_no_sets() {
        for (answer, words) in [
            (ok("{}"), "not a JWK set"),
            (ok(&format!("{{\"keys\":[],\"x\":\"{}\"}}", "y".repeat(JWKS_BYTES_MAX))), "length limit"),
            ("HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n".to_owned(), "it answered 302"),
            ("HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n".to_owned(), "it answered 500"),
        ] {
            let address = issuer(vec![answer]).await;
            let got = fetch(&source(format!("http://{address}/"), false), FetchFrom::AlsoHere).await;
            assert!(got.as_ref().is_err_and(|why| why.contains(words)), "{words}: {got:?}");
        }
    }

    #[tokio::test]
    async fn this_machine_and_its_link_are_never_asked() {
        let address = issuer(vec![ok(KEYS)]).await;
        for url in [
            format!("https://{address}/"),
            format!("https://localhost:{}/", address.port()),
            "https://169.254.169.254/latest".into(),
            "https://[::1]/".into(),
            "https://[::ffff:127.0.0.1]/".into(),
            "https://[fe80::1]/".into(),
            "https://[fd00:ec2::254]/".into(),
            "https://0.0.0.0/".into(),
        ] {
            let got = get(&url, FetchFrom::Network).await;
            assert!(got.as_ref().is_err_and(|why| why.contains("of this machine")), "{url}: {got:?}");
        }
        assert!(get(&format!("http://{address}/"), FetchFrom::Network).await.is_err_and(|why| why.contains("only https")));
        assert!(get("https://user@issuer.example/", FetchFrom::Network).await.is_err_and(|why| why.contains("or a user")));
        assert!(get("file:///etc/passwd", FetchFrom::Network).await.is_err());
    }

    #[test]
    fn what_failed_never_replaces_what_is_good() {
        let mut known = KeySets::new();
        assert!(note(&mut known, "a", Err("down".into())));
        assert!(!note(&mut known, "a", Err("down".into())));
        assert!(note(&mut known, "a", Ok(KEYS.into())));
        assert!(!note(&mut known, "a", Err("down again".into())));
        assert_eq!(known["a"].as_deref().ok(), Some(KEYS));
        let folder = tempfile::tempdir().expect("made");
        save(&folder.path().join("keys.json"), &known);
        assert_eq!(load(&folder.path().join("keys.json")), known);
    }
}
