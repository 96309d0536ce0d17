//! Global rate limits without a service of their own: the control plane leases tokens to proxies.
//!
//! Time is cut into windows of the limit's length. [`LeaseBook`], at the control plane, never hands out more tokens in one window than
//! the limit says, whoever asks. Proxies tell how many requests came; a window is divided by that demand, so that small demands are
//! met whole and large ones get equal parts of the rest (max-min fairness), and what others have not used is free for everybody
//! towards the window's end. [`LeaseHolder`], at a proxy, asks for tokens in batches before they run out, and spends
//! them until their window ends. When the control plane is away it grants itself, in each window, what its last share was;
//! the shares of all proxies add up to the limit.

use crate::key_table::KeyTable;
use std::{collections::BTreeMap, time::Duration};
use weft_model::LimitRate;

/// Keys of one limit of which the control plane keeps accounts at once.
pub const LEASE_KEYS_MAX: usize = 10_000;
/// Proxies that share one key at once.
const PROXIES_MAX: usize = 20_000;
/// A proxy asks for what it will need in this time.
const BATCH_MS: u64 = 100;
/// An unanswered question is given up after this time: the control plane is away.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// After this time without an answer the control plane is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What a proxy asks for one key of one limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaseAsk {
    /// `<namespace>/<policy>/<limit>`.
    pub limit: String,
    /// Key.
    pub key: String,
    /// Tokens wanted now.
    pub want: u32,
    /// Requests that came since the last question.
    pub demand: u32,
    /// Tokens of window `window` that will not be spent.
    pub returned: u32,
    /// Window of the returned tokens.
    pub window: u64,
}

/// The answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaseGrant {
    /// As asked.
    pub limit: String,
    /// As asked.
    pub key: String,
    /// Tokens; they end with the window.
    pub tokens: u32,
    /// Number of the window.
    pub window: u64,
    /// Time that is left of it.
    pub left_ms: u64,
    /// Without tokens: when asking again makes sense.
    pub wait_ms: u64,
    /// What this proxy may take for itself in each window while the control plane is away.
    pub share: u32,
}

/// The control plane's side: accounts of all global limits.
#[derive(Debug, Default)]
pub struct LeaseBook {
    limits: BTreeMap<String, Account>,
}

#[derive(Debug)]
struct Account {
    rate: LimitRate,
    keys: KeyTable<Pot>,
}

/// One key in one window.
#[derive(Debug, Default)]
struct Pot {
    window: u64,
    granted: u32,
    proxies: BTreeMap<Box<str>, Part>,
}

/// One proxy's part in it.
#[derive(Debug, Default)]
struct Part {
    granted: u32,
    /// Requests of this window so far, and of the last.
    demand: u32,
    demand_before: u32,
}

impl Part {
    fn demand(&self) -> u32 {
        self.demand.max(self.demand_before)
    }
}

impl LeaseBook {
    /// Answers a proxy. `now` is since a start that stays the same.
    pub fn ask(&mut self, now: Duration, proxy: &str, rate: LimitRate, ask: &LeaseAsk) -> LeaseGrant {
        let account = self.limits.entry(ask.limit.clone()).or_insert_with(|| Account { rate, keys: KeyTable::new(LEASE_KEYS_MAX) });
        if account.rate.per_ms != rate.per_ms {
            // Windows of another length: the accounts of the old ones say nothing.
            account.keys = KeyTable::new(LEASE_KEYS_MAX);
        }
        account.rate = rate;
        let per_ms = u128::from(rate.per_ms.max(1));
        let window = u64::try_from(now.as_millis() / per_ms).unwrap_or(u64::MAX);
        let left_ms = u64::try_from(per_ms - now.as_millis() % per_ms).unwrap_or(1);
        // A forgotten key could be granted twice in its window: one that was granted something in this window is never forgotten.
        if account.keys.oldest_matters(|pot| pot.window == window && pot.granted > 0) && account.keys.find(&ask.key).is_none() {
            return LeaseGrant {
                limit: ask.limit.clone(),
                key: ask.key.clone(),
                window,
                left_ms,
                wait_ms: left_ms,
                ..LeaseGrant::default()
            };
        }
        let (pot, _) = account.keys.entry(&ask.key, |_| false);
        pot.turn(window);
        let elapsed = 1.0 - left_ms as f64 / per_ms as f64;
        let (tokens, share) = pot.grant(proxy, rate.requests, elapsed, ask);
        let full = pot.granted >= rate.requests;
        let wait_ms = if full { left_ms } else { (rate.per_ms / 10).clamp(1, left_ms) };
        let (limit, key) = (ask.limit.clone(), ask.key.clone());
        LeaseGrant { limit, key, tokens, window, left_ms, wait_ms: if tokens > 0 { 0 } else { wait_ms }, share }
    }

    /// Forgets limits that are no more.
    pub fn retain(&mut self, known: impl Fn(&str) -> bool) {
        self.limits.retain(|name, _| known(name));
    }
}

impl Pot {
    /// Begins a new window, if it is one. Who asked for nothing in the last is no longer counted.
    fn turn(&mut self, window: u64) {
        if self.window == window {
            return;
        }
        let follows = window == self.window + 1;
        self.proxies.retain(|_, part| follows && part.demand > 0);
        for part in self.proxies.values_mut() {
            *part = Part { demand_before: part.demand, ..Part::default() };
        }
        (self.window, self.granted) = (window, 0);
    }

    /// Tokens for `proxy` now, and its share of a whole window.
    fn grant(&mut self, proxy: &str, limit: u32, elapsed: f64, ask: &LeaseAsk) -> (u32, u32) {
        if !self.proxies.contains_key(proxy) && self.proxies.len() >= PROXIES_MAX {
            return (0, 0);
        }
        let part = self.proxies.entry(proxy.into()).or_default();
        if ask.window == self.window {
            let returned = ask.returned.min(part.granted);
            part.granted -= returned;
            self.granted -= returned;
        }
        part.demand = part.demand.saturating_add(ask.demand.max(ask.want.min(1)));
        let level = self.level(limit);
        let mut reserved = 0.0;
        for (_, other) in self.proxies.iter().filter(|(name, _)| ***name != *proxy) {
            // What another will still ask for, if its requests come evenly, and a quarter more.
            let part = f64::from(other.demand()).min(level);
            reserved += (part - f64::from(other.granted)).max(0.0).min(part * (1.0 - elapsed) * 1.25);
        }
        let reserved = reserved.ceil() as u32;
        let free = limit.saturating_sub(self.granted);
        let count = u32::try_from(self.proxies.len()).unwrap_or(u32::MAX).max(1);
        let Some(part) = self.proxies.get_mut(proxy) else { return (0, 0) };
        let own = (f64::from(part.demand()).min(level) as u32).saturating_sub(part.granted);
        let tokens = ask.want.min(free).min(own.max(free.saturating_sub(reserved)));
        part.granted += tokens;
        self.granted += tokens;
        // Shares of a proxy that asks for little include an equal part of what nobody asks for.
        let asked: f64 = self.proxies.values().map(|p| f64::from(p.demand()).min(level)).sum();
        let spare = (f64::from(limit) - asked).max(0.0) / f64::from(count);
        let own_demand = self.proxies.get(proxy).map_or(0.0, |p| f64::from(p.demand()).min(level));
        (tokens, (own_demand + spare) as u32)
    }

    /// The most that one proxy gets, so that all demands cut to it add up to the limit.
    fn level(&self, limit: u32) -> f64 {
        let mut demands: Vec<u32> = self.proxies.values().map(Part::demand).collect();
        demands.sort_unstable();
        let mut left = f64::from(limit);
        for (index, demand) in demands.iter().enumerate() {
            let equal = left / (demands.len() - index) as f64;
            if f64::from(*demand) > equal {
                return equal;
            }
            left -= f64::from(*demand);
        }
        f64::from(limit)
    }
}

/// How a request fared at a [`LeaseHolder`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leased {
    /// It may pass.
    Granted {
        /// Tokens that this proxy still has.
        remaining: u32,
    },
    /// It may not.
    Refused {
        /// Until there may be tokens again.
        reset: Duration,
    },
    /// The control plane is being asked.
    Wait,
}

/// How long a request is ready to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// It comes for the first time: it counts as demand, and may be told to wait.
    First,
    /// It has waited, and may wait on.
    Again,
    /// It must be decided now.
    Last,
}

/// The proxy's side.
#[derive(Debug)]
pub struct LeaseHolder {
    limits: BTreeMap<String, KeyTable<Stock>>,
    keys_max: usize,
    /// Keys that may have something to ask.
    busy: BTreeMap<(String, String), ()>,
    /// Is there a connection to the control plane?
    connected: bool,
    /// A question came up since [`LeaseHolder::has_question`] was last asked.
    fresh: bool,
}

/// Tokens of one key.
#[derive(Debug, Default)]
struct Stock {
    tokens: u32,
    window: u64,
    ends: Duration,
    /// Refused until then by the control plane.
    empty_until: Duration,
    demand: u32,
    /// Requests per batch lately.
    pace: u32,
    paced_at: Duration,
    asked_at: Option<Duration>,
    unanswered: bool,
    share: Option<u32>,
    /// For the time without control plane: end of the window, and what was spent in it.
    own_ends: Duration,
    own_spent: u32,
}

impl LeaseHolder {
    /// Without tokens, for at most `keys_max` keys of each limit.
    pub fn new(keys_max: usize) -> Self {
        Self { limits: BTreeMap::new(), keys_max, busy: BTreeMap::new(), connected: false, fresh: false }
    }

    /// The connection to the control plane came or went. What was asked on the old one is not answered any more.
    pub fn connected(&mut self, connected: bool) {
        self.connected = connected;
    }

    /// Takes a token.
    pub fn take(&mut self, now: Duration, limit: &str, rate: &LimitRate, key: &str, patience: Patience) -> Leased {
        if !self.limits.contains_key(limit) {
            self.limits.insert(limit.to_owned(), KeyTable::new(self.keys_max));
        }
        let Some(table) = self.limits.get_mut(limit) else { return Leased::Wait };
        let (stock, _) = table.entry(key, |_| false);
        if patience == Patience::First {
            stock.demand = stock.demand.saturating_add(1);
        }
        if now >= stock.ends {
            stock.tokens = 0;
        }
        let low = stock.tokens <= stock.pace / 2;
        if low && now >= stock.empty_until {
            self.fresh |= self.busy.insert((limit.to_owned(), key.to_owned()), ()).is_none();
        }
        if stock.tokens > 0 {
            stock.tokens -= 1;
            return Leased::Granted { remaining: stock.tokens };
        }
        if now < stock.empty_until {
            return Leased::Refused { reset: stock.empty_until - now };
        }
        let away = !self.connected || stock.unanswered;
        if patience != Patience::Last && !away {
            return Leased::Wait;
        }
        stock.take_own(now, rate)
    }

    /// Has a question come up since this was last asked? Then [`LeaseHolder::asks`] has it.
    pub fn has_question(&mut self) -> bool {
        std::mem::take(&mut self.fresh)
    }

    /// Questions that are due.
    pub fn asks(&mut self, now: Duration) -> Vec<LeaseAsk> {
        let mut asks = Vec::new();
        if !self.connected {
            return asks;
        }
        let limits = &mut self.limits;
        self.busy.retain(|(limit, key), ()| {
            let Some(stock) = limits.get_mut(limit).and_then(|table| table.find(key)) else { return false };
            match stock.asked_at {
                Some(at) if now < at + ANSWER_TIMEOUT => return true,
                Some(at) if stock.unanswered && now < at + ANSWER_TIMEOUT + ASK_AGAIN => return true,
                Some(_) => stock.unanswered = true,
                None => {}
            }
            asks.push(stock.ask(now, limit, key));
            true
        });
        asks
    }

    /// When [`LeaseHolder::asks`] should be called again although nothing happened.
    pub fn next_timeout(&self, now: Duration) -> Option<Duration> {
        (self.connected && !self.busy.is_empty()).then(|| now + ANSWER_TIMEOUT / 4)
    }

    /// An answer came.
    pub fn granted(&mut self, now: Duration, grant: &LeaseGrant) {
        let Some(stock) = self.limits.get_mut(&grant.limit).and_then(|table| table.find(&grant.key)) else { return };
        self.busy.remove(&(grant.limit.clone(), grant.key.clone()));
        if grant.window != stock.window || now >= stock.ends {
            stock.tokens = 0;
        }
        stock.tokens = stock.tokens.saturating_add(grant.tokens);
        stock.window = grant.window;
        stock.ends = now + Duration::from_millis(grant.left_ms);
        stock.empty_until = now + Duration::from_millis(grant.wait_ms);
        stock.share = Some(grant.share);
        (stock.asked_at, stock.unanswered) = (None, false);
    }

    /// All of it is asked anew: the old connection is gone, and so are its answers.
    pub fn reset(&mut self) {
        for (limit, key) in self.busy.keys() {
            if let Some(stock) = self.limits.get_mut(limit).and_then(|table| table.find(key)) {
                (stock.asked_at, stock.unanswered) = (None, false);
            }
        }
    }

    /// Forgets limits that are no more.
    pub fn retain(&mut self, known: impl Fn(&str) -> bool) {
        self.limits.retain(|name, _| known(name));
        self.busy.retain(|(limit, _), ()| known(limit));
    }
}

impl Stock {
    fn ask(&mut self, now: Duration, limit: &str, key: &str) -> LeaseAsk {
        let passed_ms = u64::try_from(now.saturating_sub(self.paced_at).as_millis()).unwrap_or(u64::MAX).max(1);
        let pace = u64::from(self.demand) * BATCH_MS / passed_ms.max(BATCH_MS);
        // Half of the old pace is kept, so that one quiet moment does not make the next batches tiny.
        self.pace = u32::try_from(pace).unwrap_or(u32::MAX).max(self.pace / 2);
        self.paced_at = now;
        self.asked_at = Some(now);
        let demand = std::mem::take(&mut self.demand);
        let want = self.pace.max(demand.saturating_sub(self.tokens)).max(1);
        LeaseAsk { limit: limit.to_owned(), key: key.to_owned(), want, demand, returned: 0, window: self.window }
    }

    /// Without the control plane: the last share in each window, or all of the limit if there never was one.
    fn take_own(&mut self, now: Duration, rate: &LimitRate) -> Leased {
        if now >= self.own_ends {
            self.own_ends = now + Duration::from_millis(rate.per_ms);
            self.own_spent = 0;
        }
        let share = self.share.unwrap_or(rate.requests);
        if self.own_spent < share {
            self.own_spent += 1;
            return Leased::Granted { remaining: share - self.own_spent };
        }
        Leased::Refused { reset: self.own_ends - now }
    }
}

#[cfg(test)]
mod tests;
