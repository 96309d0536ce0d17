//! Request authentication: which tokens (JWT, RFC 7519) are believed, where they are looked for, and what they say of the caller.
//!
//! Everything but the arithmetic of signatures is here: reading a token, choosing rule and key, and the checks of its claims. A token
//! that is there and not good refuses the request; one that is missing gives no identity.

use crate::{Claims, Jwk, Origin, RequestHead, limits::TOKEN_BYTES_MAX};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::borrow::Cow;

/// Difference between two clocks that is forgiven in `exp` and `nbf`, in seconds (Envoy's default).
pub const CLOCK_SKEW_S: u64 = 60;

/// One policy that applies to the workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestAuthentication {
    /// `namespace/name`.
    pub name: String,
    /// Issuers.
    pub rules: Vec<JwtRule>,
    /// Where it was written.
    pub origin: Origin,
}

/// One issuer: whose tokens, with which keys, from where, and what the program is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JwtRule {
    /// Must equal the token's `iss`.
    pub issuer: String,
    /// One of these must be in the token's `aud`; none: any audience.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub audiences: Vec<String>,
    /// The issuer's public keys. None: every token is refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<Jwk>,
    /// Why there are no keys; empty when there are.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub no_keys: String,
    /// Where tokens of this rule may stand.
    pub locations: Vec<TokenLocation>,
    /// Is a request without any token refused?
    #[serde(skip_serializing_if = "crate::is_default")]
    pub required: bool,
    /// Does the program get the token?
    #[serde(skip_serializing_if = "crate::is_default")]
    pub forward_token: bool,
    /// Header for the payload in base64url; empty: none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub payload_header: String,
    /// Headers for single claims, each with the path into nested objects.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub claim_headers: Vec<(String, Vec<String>)>,
    /// Claims that are lists written with spaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub space_delimited: Vec<String>,
    /// Where it was written.
    pub origin: Origin,
}

/// A place of a request that may hold a token.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TokenLocation {
    /// A header (in lower case) whose value begins with a prefix.
    Header {
        /// Name.
        name: String,
        /// What stands before the token.
        prefix: String,
    },
    /// A query parameter.
    Param(String),
    /// A cookie.
    Cookie(String),
}

/// Why a token is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not three parts of base64url with JSON in the first two.
    #[error("the token is not a JWT: {0}")]
    Form(&'static str),
    /// Longer than the limit.
    #[error("the token is longer than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    /// None, where a rule asks for one.
    #[error("the request has no token, and one is required")]
    Missing,
    /// More than one, and they differ.
    #[error("the request holds more than one token")]
    Several,
    /// No rule is for it.
    #[error("no rule is for the token's issuer")]
    Issuer,
    /// `alg` is none, symmetric, unknown, or not one of the key's.
    #[error("the token's algorithm is not allowed for the issuer's keys")]
    Algorithm,
    /// The header has `crit`: extensions that must be understood.
    #[error("the token asks for an extension that is not understood (crit)")]
    Critical,
    /// There is nothing to check it with.
    #[error("no keys of the issuer are known: {0}")]
    NoKeys(String),
    /// No key has the token's `kid`.
    #[error("no key of the issuer has the token's kid")]
    NoSuchKey,
    /// Wrong.
    #[error("the token's signature is wrong")]
    Signature,
    /// Not for us.
    #[error("the token is for another audience")]
    Audience,
    /// No `exp`.
    #[error("the token has no expiry")]
    NoExpiry,
    /// Too old.
    #[error("the token has expired")]
    Expired,
    /// Too young.
    #[error("the token is not valid yet")]
    NotYet,
}

/// Algorithms of signatures that are checked (RFC 7518 §3.1, RFC 8037). No symmetric ones: a public key is never a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum JwtAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// With SHA-384.
    RS384,
    /// With SHA-512.
    RS512,
    /// RSASSA-PSS with SHA-256.
    PS256,
    /// With SHA-384.
    PS384,
    /// With SHA-512.
    PS512,
    /// ECDSA on P-256.
    ES256,
    /// ECDSA on P-384.
    ES384,
    /// Ed25519.
    EdDSA,
}

impl JwtAlgorithm {
    /// Reads the name of RFC 7518, case and all.
    pub fn read(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::RS256,
            "RS384" => Self::RS384,
            "RS512" => Self::RS512,
            "PS256" => Self::PS256,
            "PS384" => Self::PS384,
            "PS512" => Self::PS512,
            "ES256" => Self::ES256,
            "ES384" => Self::ES384,
            "EdDSA" => Self::EdDSA,
            _ => return None,
        })
    }
}

/// A token as it was sent: read, not believed.
#[derive(Debug, Clone)]
pub struct UnverifiedToken<'t> {
    /// The signed text: the first two parts with their dot.
    pub signed: &'t str,
    /// The second part, in base64url.
    pub payload: &'t str,
    /// The third part, in base64url.
    pub signature: &'t str,
    /// Algorithm.
    pub algorithm: JwtAlgorithm,
    /// Id of the key.
    pub kid: Option<String>,
    /// Claims.
    pub claims: Map<String, Value>,
}

impl<'t> UnverifiedToken<'t> {
    /// Reads a token in compact form (RFC 7515 §7.1).
    ///
    /// # Errors
    /// When it is not one, is too long, or asks for something that is never allowed.
    pub fn read(text: &'t str) -> Result<Self, TokenError> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(TokenError::Form("it has no three parts"))?;
        let (head, payload) = signed.split_once('.').ok_or(TokenError::Form("it has no three parts"))?;
        if payload.contains('.') {
            return Err(TokenError::Form("it has more than three parts"));
        }
        let header = object(head, "its header is not JSON in base64url")?;
        if header.contains_key("crit") {
            return Err(TokenError::Critical);
        }
        let algorithm = header.get("alg").and_then(Value::as_str).and_then(JwtAlgorithm::read).ok_or(TokenError::Algorithm)?;
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.clone()),
            Some(_) => return Err(TokenError::Form("its kid is not text")),
        };
        let claims = object(payload, "its payload is not JSON in base64url")?;
        Ok(Self { signed, payload, signature, algorithm, kid, claims })
    }

    /// The issuer that it names.
    pub fn issuer(&self) -> Option<&str> {
        self.claims.get("iss").and_then(Value::as_str)
    }
}

fn object(part: &str, wrong: &'static str) -> Result<Map<String, Value>, TokenError> {
    let bytes = decode_base64url(part).ok_or(TokenError::Form(wrong))?;
    serde_json::from_slice(&bytes).map_err(|_| TokenError::Form(wrong))
}

/// Base64url without padding (RFC 7515 §2), in its one form: no other letters, no bits left over.
fn decode_base64url(text: &str) -> Option<Vec<u8>> {
    let value = |b: u8| match b {
        b'A'..=b'Z' => Some(b - b'A'),
        b'a'..=b'z' => Some(b - b'a' + 26),
        b'0'..=b'9' => Some(b - b'0' + 52),
        b'-' => Some(62),
        b'_' => Some(63),
        _ => None,
    };
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for quad in text.as_bytes().chunks(4) {
        let bits = quad.iter().try_fold(0u32, |bits, b| Some(bits << 6 | u32::from(value(*b)?)))?;
        let (bytes, left) = match quad.len() {
            4 => (3, 0),
            3 => (2, 2),
            2 => (1, 4),
            _ => return None,
        };
        if bits & ((1 << left) - 1) != 0 {
            return None;
        }
        out.extend_from_slice(&(bits >> left << (8 * (3 - bytes))).to_be_bytes()[1..=bytes]);
    }
    Some(out)
}

impl JwtRule {
    /// The keys that may have signed `token`: those of its `kid`, all where it names none; each only for its own algorithms.
    ///
    /// # Errors
    /// When there are none.
    pub fn keys_for(&self, token: &UnverifiedToken<'_>) -> Result<Vec<usize>, TokenError> {
        if self.keys.is_empty() {
            return Err(TokenError::NoKeys(self.no_keys.clone()));
        }
        let named = |key: &Jwk| token.kid.is_none() || key.kid.is_none() || key.kid == token.kid;
        let of_kid: Vec<usize> = (0..self.keys.len()).filter(|i| named(&self.keys[*i])).collect();
        if of_kid.is_empty() {
            return Err(TokenError::NoSuchKey);
        }
        let fit: Vec<usize> = of_kid.into_iter().filter(|i| self.keys[*i].allows(token.algorithm)).collect();
        if fit.is_empty() { Err(TokenError::Algorithm) } else { Ok(fit) }
    }

    /// Checks what a token with a good signature claims (RFC 7519 §4.1). `now_s` is seconds since 1970.
    ///
    /// # Errors
    /// When it is of another issuer, for another audience, or out of its time; a token without `exp` is never good.
    pub fn check_claims(&self, claims: &Map<String, Value>, now_s: u64) -> Result<(), TokenError> {
        if claims.get("iss").and_then(Value::as_str) != Some(self.issuer.as_str()) {
            return Err(TokenError::Issuer);
        }
        if !self.audiences.is_empty() && !texts(claims.get("aud")).iter().any(|a| self.audiences.iter().any(|want| want == a)) {
            return Err(TokenError::Audience);
        }
        match claims.get("exp").map(seconds) {
            None => return Err(TokenError::NoExpiry),
            Some(Some(exp)) if now_s < exp.saturating_add(CLOCK_SKEW_S) => {}
            Some(_) => return Err(TokenError::Expired),
        }
        match claims.get("nbf").map(seconds) {
            None => Ok(()),
            Some(Some(nbf)) if nbf <= now_s.saturating_add(CLOCK_SKEW_S) => Ok(()),
            Some(_) => Err(TokenError::NotYet),
        }
    }
}

/// A date as whole seconds; `None` for what is none.
fn seconds(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_f64().filter(|s| (0.0..1e15).contains(s)).map(|s| s as u64))
}

/// A text or the texts of a list.
fn texts(value: Option<&Value>) -> Vec<&str> {
    match value {
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// The tokens of a request, each once with its place, for the places that the rules look at.
///
/// # Errors
/// When a place holds a token that is not text.
pub fn find_tokens<'l, 'a>(
    locations: &'l [TokenLocation],
    request: &RequestHead<'a>,
) -> Result<Vec<(&'l TokenLocation, &'a str)>, TokenError> {
    let mut found = Vec::new();
    for location in locations {
        match location {
            TokenLocation::Header { name, prefix } => {
                for value in request.headers.get_all(name) {
                    let bytes = value.as_bytes();
                    // The scheme of `Authorization` is compared without case (RFC 9110 §11.1).
                    let head = bytes.get(..prefix.len()).filter(|head| head.eq_ignore_ascii_case(prefix.as_bytes()));
                    if head.is_some() {
                        let text = value.to_str().map_err(|_| TokenError::Form("it is not text"))?;
                        found.push((location, text[prefix.len()..].trim()));
                    }
                }
            }
            TokenLocation::Param(name) => {
                let pairs = request.query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
                found.extend(pairs.filter(|(key, _)| key == name).map(|(_, value)| (location, value)));
            }
            TokenLocation::Cookie(name) => {
                for value in request.headers.get_all(http::header::COOKIE) {
                    let Ok(text) = value.to_str() else { continue };
                    let pairs = text.split(';').filter_map(|pair| pair.trim().split_once('='));
                    found.extend(pairs.filter(|(key, _)| key == name).map(|(_, value)| (location, value.trim_matches('"'))));
                }
            }
        }
    }
    Ok(found)
}

/// A token that was checked: what it says of the caller.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Token {
    /// `issuer/subject`; `None` when it has no subject.
    pub principal: Option<String>,
    /// All claims; those that are lists written with spaces are lists.
    pub claims: Claims,
}

/// Claims that are always lists written with spaces (Istio).
const ALWAYS_SPACE_DELIMITED: [&str; 2] = ["scope", "permission"];

impl Token {
    /// Of checked claims.
    pub fn new(mut claims: Map<String, Value>, rule: &JwtRule) -> Self {
        let subject = claims.get("sub").and_then(Value::as_str).filter(|sub| !sub.is_empty());
        let principal = subject.map(|sub| format!("{}/{sub}", rule.issuer));
        for name in ALWAYS_SPACE_DELIMITED.into_iter().chain(rule.space_delimited.iter().map(String::as_str)) {
            let path: Vec<&str> = name.split('.').collect();
            let Some((first, rest)) = path.split_first() else { continue };
            let found = rest.iter().fold(claims.get_mut(*first), |value, name| value?.get_mut(name));
            if let Some(value @ Value::String(_)) = found {
                *value = value.as_str().unwrap_or_default().split_ascii_whitespace().collect::<Vec<_>>().into();
            }
        }
        Self { principal, claims: Claims(claims) }
    }
    /// `aud`.
    pub fn audiences(&self) -> Vec<&str> {
        texts(self.claims.0.get("aud"))
    }
    /// `azp`: who the token was issued to.
    pub fn presenter(&self) -> Option<&str> {
        self.claims.0.get("azp").and_then(Value::as_str)
    }
    /// The values of a claim: of a list, its items. Objects have none.
    pub fn claim(&self, path: &[impl AsRef<str>]) -> Vec<Cow<'_, str>> {
        let Some((first, rest)) = path.split_first() else { return Vec::new() };
        match rest.iter().fold(self.claims.0.get(first.as_ref()), |value, name| value?.get(name.as_ref())) {
            Some(Value::Array(items)) => items.iter().filter_map(scalar).collect(),
            Some(other) => scalar(other).into_iter().collect(),
            None => Vec::new(),
        }
    }
}

/// A text, number or boolean as text.
fn scalar(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Bool(_) | Value::Number(_) => Some(Cow::Owned(value.to_string())),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A claim as one header value: texts, numbers and booleans only.
pub fn claim_text<'a>(claims: &'a Map<String, Value>, path: &[String]) -> Option<Cow<'a, str>> {
    let (first, rest) = path.split_first()?;
    scalar(rest.iter().try_fold(claims.get(first)?, |value, name| value.get(name))?)
}

/// Reads any bytes as a token, for fuzzing: must neither panic nor take long.
#[doc(hidden)]
pub fn fuzz_token(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(token) = UnverifiedToken::read(text) {
        let rule = JwtRule { issuer: token.issuer().unwrap_or_default().to_owned(), ..JwtRule::default() };
        rule.check_claims(&token.claims, 1_700_000_000).ok();
        Token::new(token.claims, &rule).claim(&["a", "b"]);
    }
    crate::read_jwks(text).ok();
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;
    use serde_json::json;

    fn token(header: &Value, claims: &Value) -> String {
        format!("{}.{}.c2ln", encode(&header.to_string()), encode(&claims.to_string()))
    }

    fn encode(text: &str) -> String {
        const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let of = |chunk: &[u8]| {
            let bits = chunk.iter().chain([0, 0].iter()).take(3).fold(0u32, |bits, b| bits << 8 | u32::from(*b));
            (0..=chunk.len()).map(move |i| char::from(LETTERS[(bits >> (18 - 6 * i)) as usize & 63])).collect::<String>()
        };
        text.as_bytes().chunks(3).map(of).collect()
    }

    #[test]
    fn base64url_has_one_form() {
        for text in ["", "f", "fo", "foo", "foob", "fooba", "foobar", "{\"a\":\"ÿ\"}"] {
            assert_eq!(decode_base64url(&encode(text)).as_deref(), Some(text.as_bytes()), "{text}");
        }
        for wrong in ["Zg==", "Z", "Zh", "Zm9", "Z+==", "Zg ", "Zm9v\n"] {
            assert_eq!(decode_base64url(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_whole_tokens_of_known_algorithms_are_read() {
        let claims = json!({ "iss": "i" });
        let read = |header: Value| UnverifiedToken::read(&token(&header, &claims)).map(|_| ()).err();
        assert_eq!(read(json!({ "alg": "RS256" })), None);
        for alg in ["none", "None", "NONE", "HS256", "rs256", ""] {
            assert_eq!(read(json!({ "alg": alg })), Some(TokenError::Algorithm), "{alg}");
        }
        assert_eq!(read(json!({})), Some(TokenError::Algorithm));
        assert_eq!(read(json!({ "alg": "RS256", "crit": ["exp"] })), Some(TokenError::Critical));
        assert_eq!(read(json!({ "alg": "RS256", "kid": 7 })), Some(TokenError::Form("its kid is not text")));
        for text in ["", ".", "..", "a.b", "a.b.c.d", "e30.e30", "e30.[].c"] {
            assert!(UnverifiedToken::read(text).is_err(), "{text}");
        }
        assert_eq!(UnverifiedToken::read(&"a".repeat(TOKEN_BYTES_MAX + 1)).err(), Some(TokenError::TooLong));
    }

    #[test]
    fn claims_are_checked_with_a_stated_skew() {
        let rule = JwtRule { issuer: "i".into(), audiences: vec!["a".into()], ..JwtRule::default() };
        let check = |claims: Value| rule.check_claims(claims.as_object().expect("object"), 1000).err();
        assert_eq!(check(json!({ "iss": "i", "aud": "a", "exp": 1000 })), None);
        assert_eq!(check(json!({ "iss": "i", "aud": ["b", "a"], "exp": 941 })), None);
        assert_eq!(check(json!({ "iss": "i", "aud": "a", "exp": 940 })), Some(TokenError::Expired));
        assert_eq!(check(json!({ "iss": "i", "aud": "a", "exp": "soon" })), Some(TokenError::Expired));
        assert_eq!(check(json!({ "iss": "i", "aud": "a", "exp": -5 })), Some(TokenError::Expired));
        assert_eq!(check(json!({ "iss": "i", "aud": "a" })), Some(TokenError::NoExpiry));
        assert_eq!(check(json!({ "iss": "i", "aud": "a", "exp": 2000, "nbf": 1061 })), Some(TokenError::NotYet));
        assert_eq!(check(json!({ "iss": "i", "aud": "a", "exp": 2000, "nbf": 1060 })), None);
        assert_eq!(check(json!({ "iss": "i", "aud": "A", "exp": 2000 })), Some(TokenError::Audience));
        assert_eq!(check(json!({ "iss": "i", "exp": 2000 })), Some(TokenError::Audience));
        assert_eq!(check(json!({ "iss": "ii", "aud": "a", "exp": 2000 })), Some(TokenError::Issuer));
    }

    #[test]
    fn tokens_are_found_where_rules_say() {
        let mut headers = HeaderMap::new();
        headers.append("authorization", "bearer one".parse().expect("value"));
        headers.append("authorization", "Basic x".parse().expect("value"));
        headers.append("cookie", "a=b; session=two".parse().expect("value"));
        let request = RequestHead {
            method: "GET",
            scheme: "http",
            authority: "a",
            host: "a",
            path: "/",
            query: Some("x=1&access_token=three"),
            headers: &headers,
            claims: None,
        };
        let places = [
            TokenLocation::Header { name: "authorization".into(), prefix: "Bearer ".into() },
            TokenLocation::Param("access_token".into()),
            TokenLocation::Cookie("session".into()),
            TokenLocation::Header { name: "x-none".into(), prefix: String::new() },
        ];
        let found: Vec<&str> = find_tokens(&places, &request).expect("text").into_iter().map(|(_, text)| text).collect();
        assert_eq!(found, ["one", "three", "two"]);
    }

    #[test]
    fn claims_have_values() {
        let claims = json!({
            "iss": "i", "sub": "s", "groups": ["a", "b"], "scope": "read write", "deep": { "er": ["x"], "flag": true }, "note": "a b", "n": 7,
            "words": "u v"
        });
        let rule = JwtRule { issuer: "i".into(), space_delimited: vec!["words".into()], ..JwtRule::default() };
        let token = Token::new(claims.as_object().expect("object").clone(), &rule);
        assert_eq!(token.principal.as_deref(), Some("i/s"));
        assert_eq!(token.claim(&["groups"]), ["a", "b"]);
        assert_eq!(token.claim(&["scope"]), ["read", "write"]);
        assert_eq!(token.claim(&["words"]), ["u", "v"]);
        assert_eq!(token.claim(&["note"]), ["a b"]);
        assert_eq!(token.claim(&["deep", "er"]), ["x"]);
        assert_eq!(token.claim(&["deep", "flag"]), ["true"]);
        assert!(token.claim(&["deep"]).is_empty() && token.claim(&["none", "x"]).is_empty());
        let claims = claims.as_object().expect("object");
        assert_eq!(claim_text(claims, &["n".into()]).as_deref(), Some("7"));
        assert_eq!(claim_text(claims, &["scope".into()]).as_deref(), Some("read write"));
        assert_eq!(claim_text(claims, &["groups".into()]), None);
    }
}
