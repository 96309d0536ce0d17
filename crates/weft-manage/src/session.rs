//! Sign-in: the API token, and the session cookies that were given for it.

use axum::http::{HeaderMap, header};
use sha2::{Digest, Sha256};
use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

/// Name of the session cookie.
pub(crate) const COOKIE: &str = "weft_session";
/// Sessions kept; the oldest is signed out.
const SESSIONS_MAX: usize = 64;

type Hash = [u8; 32];

/// The token and the sessions, all as hashes: comparing hashes leaks nothing by its timing.
pub(crate) struct Sessions {
    token: Hash,
    sessions: Mutex<VecDeque<Hash>>,
}

impl Sessions {
    pub(crate) fn new(token: &str) -> Self {
        Self { token: hash(token), sessions: Mutex::default() }
    }

    /// A new session for the holder of the token. `None`: wrong token, or no randomness.
    pub(crate) fn sign_in(&self, token: &str) -> Option<String> {
        if hash(token) != self.token {
            return None;
        }
        let mut bytes = [0_u8; 32];
        getrandom::fill(&mut bytes).ok()?;
        let id: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() >= SESSIONS_MAX {
            sessions.pop_front();
        }
        sessions.push_back(hash(&id));
        Some(id)
    }

    /// Does the request prove the token, by `Authorization: Bearer` or by a session cookie?
    pub(crate) fn allows(&self, headers: &HeaderMap) -> bool {
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|text| text.split_once(' '));
        if let Some((scheme, token)) = bearer {
            return scheme.eq_ignore_ascii_case("bearer") && hash(token.trim()) == self.token;
        }
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        cookies(headers).any(|id| sessions.contains(&hash(id)))
    }
}

/// The cookie that carries a session.
pub(crate) fn cookie(session: &str) -> String {
    format!("{COOKIE}={session}; Path=/; HttpOnly; SameSite=Strict; Max-Age=2592000")
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

fn hash(text: &str) -> Hash {
    Sha256::digest(text.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().expect("legal"))])
    }

    #[test]
    fn bearer_and_cookie_prove_the_token() {
        let sessions = Sessions::new("secret");
        assert!(sessions.allows(&headers(header::AUTHORIZATION, "Bearer secret")));
        assert!(sessions.allows(&headers(header::AUTHORIZATION, "bearer secret")));
        assert!(!sessions.allows(&headers(header::AUTHORIZATION, "Bearer wrong")));
        assert!(!sessions.allows(&headers(header::AUTHORIZATION, "Basic secret")));
        assert!(!sessions.allows(&HeaderMap::new()));
        assert_eq!(sessions.sign_in("wrong"), None);
        let id = sessions.sign_in("secret").expect("signs in");
        assert!(sessions.allows(&headers(header::COOKIE, &format!("a=b; {COOKIE}={id}"))));
        assert!(!sessions.allows(&headers(header::COOKIE, &format!("{COOKIE}={}", "0".repeat(64)))));
    }

    #[test]
    fn sessions_are_bounded() {
        let sessions = Sessions::new("secret");
        let first = sessions.sign_in("secret").expect("signs in");
        (0..SESSIONS_MAX).for_each(|_| drop(sessions.sign_in("secret")));
        assert!(!sessions.allows(&headers(header::COOKIE, &format!("{COOKIE}={first}"))));
    }
}
