//! Request authentication: when tokens are looked for, and the arithmetic of their signatures. What a token must say is in `weft-model`.
//!
//! Comes before authorization and routing, so that both see the claims. A workload without RequestAuthentication pays nothing.

use crate::http::{Connection, Target};
use http::{HeaderMap, HeaderName, HeaderValue, header::COOKIE, request::Parts, uri::PathAndQuery};
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde_json::{Map, Value};
use std::{rc::Rc, sync::Arc};
use weft_model::{
    Jwk, JwtAlgorithm, JwtRule, KeyMaterial, RequestAuthentication, Token, TokenError, TokenLocation, UnverifiedToken, claim_text,
    find_tokens,
};
use weft_std::clock;
use weft_telemetry::PolicyDecision;

/// All rules of a workload, made ready once for each snapshot.
#[derive(Debug)]
pub(crate) struct TokenRules {
    /// Every place that a rule looks at, once.
    locations: Vec<TokenLocation>,
    rules: Vec<Issuer>,
    /// Headers that only a checked token may set: from outside they are removed.
    reserved: Vec<HeaderName>,
}

#[derive(Debug)]
struct Issuer {
    policy: String,
    rule: JwtRule,
    /// In the order of the rule's keys; `None` for numbers that are no key.
    keys: Vec<Option<DecodingKey>>,
}

impl TokenRules {
    /// Of all policies of a workload; `None` where there are none.
    pub(crate) fn new<'a>(policies: impl Iterator<Item = &'a RequestAuthentication>) -> Option<Arc<Self>> {
        let mut made = Self { locations: Vec::new(), rules: Vec::new(), reserved: Vec::new() };
        for policy in policies {
            for rule in &policy.rules {
                for location in rule.locations.iter().filter(|l| !made.locations.contains(l)).cloned().collect::<Vec<_>>() {
                    made.locations.push(location);
                }
                let outputs = rule.claim_headers.iter().map(|(name, _)| name).chain(Some(&rule.payload_header));
                made.reserved.extend(outputs.filter_map(|name| name.parse::<HeaderName>().ok()));
                let keys = rule.keys.iter().map(decoding_key).collect();
                made.rules.push(Issuer { policy: policy.name.clone(), rule: rule.clone(), keys });
            }
        }
        (!made.rules.is_empty()).then(|| Arc::new(made))
    }

    /// The one token of the request, checked; `None` when it has none.
    fn check(&self, found: &[(&TokenLocation, &str)], now_s: u64) -> Result<Option<Checked<'_>>, Refused> {
        let Some((_, text)) = found.first() else {
            return match self.rules.iter().find(|i| i.rule.required) {
                Some(asking) => Err(self.refused(TokenError::Missing, Some(asking))),
                None => Ok(None),
            };
        };
        // Which of two to believe is a question that an attacker would like to answer.
        if found.iter().any(|(_, other)| other != text) {
            return Err(self.refused(TokenError::Several, None));
        }
        let token = UnverifiedToken::read(text).map_err(|why| self.refused(why, None))?;
        let issuer = token.issuer().unwrap_or_default();
        let mut last = None;
        let places = |i: &&Issuer| found.iter().any(|(place, _)| i.rule.locations.contains(place));
        for candidate in self.rules.iter().filter(|i| !issuer.is_empty() && i.rule.issuer == issuer).filter(places) {
            match candidate.verify(&token, now_s) {
                Ok(()) => {
                    let payload = token.payload.to_owned();
                    return Ok(Some(Checked { rule: &candidate.rule, claims: token.claims, payload }));
                }
                Err(why) => last = Some((why, candidate)),
            }
        }
        Err(match last {
            Some((why, candidate)) => self.refused(why, Some(candidate)),
            None => self.refused(TokenError::Issuer, None),
        })
    }

    fn refused(&self, why: TokenError, by: Option<&Issuer>) -> Refused {
        let by = by.or(self.rules.first());
        let (policy, origin) = by.map(|i| (i.policy.clone(), i.rule.origin.clone())).unwrap_or_default();
        Box::new(PolicyDecision { policy, allowed: false, origin, reason: why.to_string() })
    }
}

/// Why a request is answered with 401.
type Refused = Box<PolicyDecision>;

struct Checked<'a> {
    rule: &'a JwtRule,
    claims: Map<String, Value>,
    payload: String,
}

impl Issuer {
    fn verify(&self, token: &UnverifiedToken<'_>, now_s: u64) -> Result<(), TokenError> {
        let keys = self.rule.keys_for(token)?;
        let algorithm = algorithm(token.algorithm);
        let good = |key: &DecodingKey| crypto::verify(token.signature, token.signed.as_bytes(), key, algorithm).unwrap_or(false);
        if !keys.into_iter().filter_map(|i| self.keys.get(i)?.as_ref()).any(good) {
            return Err(TokenError::Signature);
        }
        self.rule.check_claims(&token.claims, now_s)
    }
}

fn decoding_key(key: &Jwk) -> Option<DecodingKey> {
    match &key.material {
        KeyMaterial::Rsa { n, e } => DecodingKey::from_rsa_components(n, e).ok(),
        KeyMaterial::P256 { x, y } | KeyMaterial::P384 { x, y } => DecodingKey::from_ec_components(x, y).ok(),
        KeyMaterial::Ed25519 { x } => DecodingKey::from_ed_components(x).ok(),
    }
}

fn algorithm(algorithm: JwtAlgorithm) -> Algorithm {
    match algorithm {
        JwtAlgorithm::RS256 => Algorithm::RS256,
        JwtAlgorithm::RS384 => Algorithm::RS384,
        JwtAlgorithm::RS512 => Algorithm::RS512,
        JwtAlgorithm::PS256 => Algorithm::PS256,
        JwtAlgorithm::PS384 => Algorithm::PS384,
        JwtAlgorithm::PS512 => Algorithm::PS512,
        JwtAlgorithm::ES256 => Algorithm::ES256,
        JwtAlgorithm::ES384 => Algorithm::ES384,
        JwtAlgorithm::EdDSA => Algorithm::EdDSA,
    }
}

/// Proof that tokens were looked for: authorization takes nothing less.
#[derive(Debug, Clone, Default)]
pub(crate) struct Authenticated {
    token: Option<Rc<Token>>,
}

impl Authenticated {
    /// Of bytes that are not read: they hold no token.
    pub(crate) fn opaque() -> Self {
        Self::default()
    }
    /// The token, where there was one.
    pub(crate) fn token(&self) -> Option<&Rc<Token>> {
        self.token.as_ref()
    }
}

/// Looks for a token and checks it. Takes out of the request what the program must not get, and puts in what it is to be told.
pub(crate) fn authenticate(
    conn: &Connection,
    rules: &TokenRules,
    parts: &mut Parts,
    target: &mut Target,
) -> Result<Authenticated, Refused> {
    for name in &rules.reserved {
        while parts.headers.remove(name).is_some() {}
    }
    let (checked, places) = {
        let head = crate::http::request_head(conn, parts, target, &target.host);
        let found = find_tokens(&rules.locations, &head).map_err(|why| rules.refused(why, None))?;
        let checked = rules.check(&found, clock::unix_ms() / 1000)?;
        (checked, found.into_iter().map(|(place, _)| place).collect::<Vec<_>>())
    };
    let Some(checked) = checked else { return Ok(Authenticated::default()) };
    if !checked.rule.forward_token {
        for place in places {
            remove_token(place, parts, target);
        }
    }
    set(&mut parts.headers, &checked.rule.payload_header, &checked.payload);
    for (name, path) in &checked.rule.claim_headers {
        if let Some(text) = claim_text(&checked.claims, path) {
            set(&mut parts.headers, name, &text);
        }
    }
    Ok(Authenticated { token: Some(Rc::new(Token::new(checked.claims, checked.rule))) })
}

/// A value that HTTP does not allow is not told.
fn set(headers: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
        headers.insert(name, value);
    }
}

fn remove_token(place: &TokenLocation, parts: &mut Parts, target: &mut Target) {
    match place {
        TokenLocation::Header { name, .. } => while parts.headers.remove(name).is_some() {},
        TokenLocation::Param(name) => {
            let path = target.path.path();
            let others =
                target.path.query().unwrap_or_default().split('&').filter(|pair| pair.split_once('=').is_none_or(|(key, _)| key != name));
            let query = others.collect::<Vec<_>>().join("&");
            let whole = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
            if let Ok(whole) = PathAndQuery::try_from(whole) {
                target.path = whole;
            }
        }
        TokenLocation::Cookie(name) => {
            let values: Vec<HeaderValue> = parts.headers.get_all(COOKIE).iter().cloned().collect();
            parts.headers.remove(COOKIE);
            for value in values {
                let Ok(text) = value.to_str() else { continue };
                let others = text.split(';').map(str::trim).filter(|pair| pair.split_once('=').is_none_or(|(key, _)| key != name));
                let others = others.collect::<Vec<_>>().join("; ");
                if let (false, Ok(kept)) = (others.is_empty(), HeaderValue::try_from(others)) {
                    parts.headers.append(COOKIE, kept);
                }
            }
        }
    }
}
