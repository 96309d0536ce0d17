//! Names of endpoints outside of the mesh: looked up, kept as long as they hold, and longer when nobody answers.

use crate::limits::{NAME_FAILURE_PAUSE, NAME_TTL_MAX, NAME_TTL_MIN, NAMES_MAX};
use foldhash::HashMap;
use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};
use weft_model::{DnsTrust, DnsUse, Endpoint, EndpointAddress, address_is_trusted};
use weft_std::clock::{self, Instant};
use weft_wire::resolve::Resolver;

/// What is known of names, by all workers of a proxy.
#[derive(Debug)]
pub struct Names {
    resolver: RwLock<Arc<Resolver>>,
    known: Mutex<HashMap<String, Known>>,
}

#[derive(Debug, Clone)]
struct Known {
    addresses: Arc<[IpAddr]>,
    /// When they are asked for again.
    until: Instant,
    /// Somebody asks.
    asking: bool,
    /// The next of them, for names that are used one address at a time.
    turn: usize,
}

impl Default for Names {
    fn default() -> Self {
        Self { resolver: RwLock::new(Arc::new(Resolver::of_this_machine())), known: Mutex::default() }
    }
}

impl Names {
    /// Asks other servers from now on, and forgets what was known.
    pub fn use_resolver(&self, resolver: Resolver) {
        *self.resolver.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(resolver);
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The addresses of a name that may be used, in the order in which they should be tried: the next in turn first.
    ///
    /// What is known is used at once even when it is old; it is then asked for again by [`Names::refresh`].
    pub(crate) async fn lookup(&self, host: &str, trust: DnsTrust) -> Result<Vec<IpAddr>, String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(host).map(|k| k.addresses.clone());
        if known.is_none() {
            self.ask(host).await?;
        }
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(found) = all.get_mut(host) else { return Err(format!("{host} was forgotten: too many names are in use")) };
        let mut usable = trusted(host, &found.addresses, trust);
        if usable.is_empty() {
            return Err(format!("{host} stands for addresses of this machine or link only, which a name outside of the mesh may not"));
        }
        found.turn = found.turn.wrapping_add(1);
        let begin = (found.turn - 1) % usable.len();
        usable.rotate_left(begin);
        Ok(usable)
    }

    /// Asks the servers. What was known stays when nobody answers: a name that worked is not lost with its server.
    async fn ask(&self, host: &str) -> Result<(), String> {
        let resolver = self.resolver.read().unwrap_or_else(PoisonError::into_inner).clone();
        let answer = resolver.lookup(host).await;
        let now = clock::now();
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Ok(found) => {
                if all.len() >= NAMES_MAX && !all.contains_key(host) {
                    all.clear();
                }
                let turn = all.get(host).map_or(0, |k| k.turn);
                let until = now + found.ttl.clamp(NAME_TTL_MIN, NAME_TTL_MAX) + jitter(host);
                all.insert(host.to_owned(), Known { addresses: found.addresses.into(), until, asking: false, turn });
                Ok(())
            }
            Err(error) => {
                if let Some(known) = all.get_mut(host) {
                    (known.until, known.asking) = (now + NAME_FAILURE_PAUSE, false);
                    tracing::warn!(host, %error, "the name cannot be looked up; its last known addresses stay in use");
                }
                Err(error.to_string())
            }
        }
    }

    /// Does a name need to be asked for now? Whoever is told so asks, by [`Names::refresh`].
    pub(crate) fn is_due(&self, host: &str, now: Instant) -> bool {
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get_mut(host) {
            Some(known) if known.asking || known.until > now => false,
            Some(known) => {
                known.asking = true;
                true
            }
            // Nobody has called it yet, or it never had an answer: the first call asks.
            None => false,
        }
    }

    /// Asks again for a name that is due.
    pub(crate) async fn refresh(&self, host: &str) {
        // What failed is kept as it was, and said.
        self.ask(host).await.ok();
    }

    /// The endpoints with each name replaced by its addresses, as far as they are known and every address is to be an endpoint.
    pub(crate) fn expand(&self, endpoints: &[Endpoint], of: DnsUse, trust: DnsTrust) -> Vec<Endpoint> {
        let all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut expanded = Vec::with_capacity(endpoints.len());
        for endpoint in endpoints {
            let found = match &endpoint.address {
                EndpointAddress::Name { host, port } if of == DnsUse::Strict => {
                    all.get(host).map(|k| (trusted(host, &k.addresses, trust), *port))
                }
                _ => None,
            };
            match found {
                Some((addresses, port)) if !addresses.is_empty() => {
                    expanded.extend(
                        addresses
                            .into_iter()
                            .map(|ip| Endpoint { address: EndpointAddress::Socket((ip, port).into()), ..endpoint.clone() }),
                    );
                }
                _ => expanded.push(endpoint.clone()),
            }
        }
        expanded
    }
}

/// Names of this machine stand for it, whoever declares them.
fn trusted(host: &str, addresses: &[IpAddr], trust: DnsTrust) -> Vec<IpAddr> {
    let own = host == "localhost" || host.ends_with(".localhost");
    let trust = if own { DnsTrust::Any } else { trust };
    addresses.iter().copied().filter(|ip| address_is_trusted(trust, *ip)).collect()
}

/// Up to a second, so that names that were learnt together are not asked for together.
fn jitter(host: &str) -> Duration {
    let sum = host.bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    Duration::from_millis(sum % 1000)
}
