//! Authorization against a second opinion: an evaluator written from the text of the specification, of another shape than the
//! production one (it collects *facts* of a request as texts and asks each rule as a list of questions), over random policies and
//! requests; and that a further DENY never lets more through.
//!
//! Pairs: 60,000 in a debug build and 1,000,000 in an optimised one (the continuous integration); `WEFT_PAIRS` says another number.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, net::IpAddr};
use weft_model::{Authorization, AuthorizationInput, JwtRule, RequestHead, SpiffeId, Token, Verdict, audited, authorize, custom, shadow};

/// Random numbers (xorshift64*), the same for each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).expect("31 bits") % n
    }
    fn one<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.roll(list.len())]
    }
    fn in_(&mut self, n: usize) -> bool {
        self.roll(n) == 0
    }
}

const IDS: [&str; 4] = ["cluster.local/ns/a/sa/x", "cluster.local/ns/a/sa/xy", "cluster.local/ns/b/sa/x", "other.example/ns/a/sa/x"];
const PATHS: [&str; 7] = ["/", "/a", "/a/b", "/ab", "/a/c/b", "/b", "/a/b/c/d"];
const METHODS: [&str; 3] = ["GET", "POST", "get"];
const HOSTS: [&str; 5] = ["shop.example", "SHOP.example:80", "www.shop.example", "other", "other:8080"];
const IPS: [&str; 4] = ["10.0.0.1", "10.1.0.1", "192.168.0.7", "::ffff:10.0.0.1"];
const SUBJECTS: [&str; 3] = ["i/alice", "i/bob", "j/alice"];

// ---- The random policy, in a form that both sides read -----------------------------------------------------------------------

/// A list of wanted and unwanted values, in Istio's wildcard form.
#[derive(Debug, Clone, Default)]
struct Lists {
    any: Vec<String>,
    none: Vec<String>,
}

/// One question: about which fact, with which values.
#[derive(Debug, Clone)]
struct Question {
    about: &'static str,
    lists: Lists,
}

#[derive(Debug, Clone, Default)]
struct WrittenRule {
    from: Vec<Vec<Question>>,
    to: Vec<Vec<Question>>,
    when: Vec<Question>,
}

#[derive(Debug, Clone)]
struct Written {
    action: &'static str,
    dry_run: bool,
    rules: Vec<WrittenRule>,
}

fn wild(dice: &mut Dice, exact: &str) -> String {
    let half = exact.len() / 2;
    match dice.roll(8) {
        0 => "*".into(),
        1 => format!("{}*", &exact[..half]),
        2 => format!("*{}", &exact[half..]),
        _ => exact.into(),
    }
}

fn lists(dice: &mut Dice, of: &[&str], wildcards: bool) -> Lists {
    let mut some = |most: usize| -> Vec<String> {
        (0..dice.roll(most + 1))
            .map(|_| {
                let v = dice.one(of);
                if wildcards { wild(dice, v) } else { v.to_owned() }
            })
            .collect()
    };
    let mut lists = Lists { any: some(2), none: some(1) };
    if lists.any.is_empty() && lists.none.is_empty() {
        lists.any.push(if wildcards { "*".into() } else { of[0].into() });
    }
    lists
}

fn question(dice: &mut Dice, about: &'static str) -> Question {
    let lists = match about {
        "principal" => lists(dice, &IDS, true),
        "namespace" => lists(dice, &["a", "b"], true),
        "account" => lists(dice, &["a/x", "a/xy", "b/x"], false),
        "trust" => lists(dice, &["cluster.local", "other.example"], true),
        "user" => lists(dice, &SUBJECTS, true),
        "ip" | "remote" => lists(dice, &["10.0.0.0/8", "10.0.0.1/32", "192.168.0.0/16"], false),
        "host" => lists(dice, &["shop.example", "www.shop.example", "other"], true),
        "method" => lists(dice, &METHODS, true),
        "path" => lists(dice, &PATHS, true),
        "port" => lists(dice, &["80", "8080"], false),
        "header" => lists(dice, &["v1", "v2"], true),
        "claim" => lists(dice, &["admin", "dev"], true),
        "audience" => lists(dice, &["web", "api"], true),
        "presenter" => lists(dice, &["app"], true),
        "sni" => lists(dice, &["shop.example"], true),
        other => unreachable!("{other}"),
    };
    Question { about, lists }
}

fn group(dice: &mut Dice, of: &[&'static str]) -> Vec<Question> {
    let mut left: Vec<&'static str> = of.to_vec();
    (0..=dice.roll(2))
        .map(|_| {
            let i = dice.roll(left.len());
            question(dice, left.remove(i))
        })
        .collect()
}

fn written(dice: &mut Dice) -> Written {
    let rules = (0..dice.roll(4)).map(|_| WrittenRule {
        from: (0..dice.roll(3)).map(|_| group(dice, &["principal", "namespace", "account", "trust", "user", "ip", "remote"])).collect(),
        to: (0..dice.roll(3)).map(|_| group(dice, &["host", "method", "path", "port"])).collect(),
        when: if dice.in_(2) {
            group(dice, &["header", "claim", "audience", "presenter", "sni", "ip", "principal", "user", "port"])
        } else {
            Vec::new()
        },
    });
    let rules = rules.collect();
    Written { action: dice.one(&["ALLOW", "ALLOW", "DENY", "DENY", "AUDIT", "CUSTOM"]), dry_run: dice.in_(8), rules }
}

// ---- The same as the production type ----------------------------------------------------------------------------------------------

fn matcher(text: &str) -> Value {
    match text {
        "*" => json!("present"),
        t if t.starts_with('*') => json!({ "suffix": &t[1..] }),
        t if t.ends_with('*') => json!({ "prefix": &t[..t.len() - 1] }),
        t => json!({ "exact": t }),
    }
}

fn host_matcher(text: &str) -> Value {
    match text {
        "*" => json!("present"),
        t if t.starts_with('*') => json!({ "suffixIgnoreCase": &t[1..] }),
        t if t.ends_with('*') => json!({ "prefixIgnoreCase": &t[..t.len() - 1] }),
        t => json!({ "exactIgnoreCase": t }),
    }
}

fn model_lists(q: &Question) -> Value {
    let of = |list: &[String]| -> Value {
        let one = |t: &String| match q.about {
            "ip" | "remote" => json!(t),
            "port" => json!(t.parse::<u16>().expect("port")),
            "host" => host_matcher(t),
            _ => matcher(t),
        };
        list.iter().map(one).collect()
    };
    json!({ "any": of(&q.lists.any), "none": of(&q.lists.none) })
}

fn model_group(group: &[Question]) -> Value {
    let field = |about: &str| match about {
        "principal" => "principals",
        "namespace" => "namespaces",
        "account" => "accounts",
        "trust" => "trust_domains",
        "user" => "request_principals",
        "ip" => "ip_blocks",
        "remote" => "remote_ip_blocks",
        "host" => "hosts",
        "method" => "methods",
        "path" => "paths",
        _ => "ports",
    };
    Value::Object(group.iter().map(|q| (field(q.about).to_owned(), model_lists(q))).collect::<Map<_, _>>())
}

fn model_condition(q: &Question) -> Value {
    let text = |list: &[String]| -> Value { list.iter().map(|t| matcher(t)).collect() };
    let key = match q.about {
        "header" => json!({ "header": "x-version" }),
        "claim" => json!({ "requestClaim": ["groups"] }),
        "audience" => json!("requestAudiences"),
        "presenter" => json!("requestPresenter"),
        "sni" => json!("sni"),
        "ip" => return json!({ "key": "sourceIp", "values": {}, "blocks": model_lists(q) }),
        "principal" => json!("sourcePrincipal"),
        "user" => json!("requestPrincipal"),
        _ => json!("destinationPort"),
    };
    json!({ "key": key, "values": { "any": text(&q.lists.any), "none": text(&q.lists.none) } })
}

fn model(written: &Written, index: usize) -> Authorization {
    let origin = json!({ "kind": "AuthorizationPolicy", "name": format!("p{index}") });
    let rules: Vec<Value> = written.rules.iter().map(|r| json!({
        "from": r.from.iter().map(|g| model_group(g)).collect::<Vec<_>>(), "to": r.to.iter().map(|g| model_group(g)).collect::<Vec<_>>(),
        "when": r.when.iter().map(model_condition).collect::<Vec<_>>(), "origin": origin,
    })).collect();
    let value =
        json!({ "name": format!("d/p{index}"), "action": written.action, "dry_run": written.dry_run, "rules": rules, "origin": origin });
    serde_json::from_value(value).expect("the model's form")
}

// ---- The request --------------------------------------------------------------------------------------------------------------------

/// A token as issuer and subject, groups, audiences and presenter.
type Shown = (Option<&'static str>, Vec<&'static str>, Vec<&'static str>, Option<&'static str>);

#[derive(Debug, Clone)]
struct Call {
    peer: Option<&'static str>,
    token: Option<Shown>,
    ip: &'static str,
    remote: &'static str,
    port: u16,
    sni: Option<&'static str>,
    http: Option<(&'static str, &'static str, &'static str, Vec<&'static [u8]>)>,
}

fn call(dice: &mut Dice) -> Call {
    let several = |dice: &mut Dice, of: &[&'static str]| (0..dice.roll(3)).map(|_| dice.one(of)).collect::<Vec<_>>();
    let values: [&[u8]; 4] = [b"v1", b"v2", b"", b"v1\xff"];
    Call {
        peer: (!dice.in_(4)).then(|| dice.one(&IDS)),
        token: dice.in_(2).then(|| {
            let subject = (!dice.in_(5)).then(|| dice.one(&SUBJECTS));
            (
                subject,
                several(dice, &["admin", "dev", "ops"]),
                several(dice, &["web", "api", "x"]),
                dice.in_(2).then(|| dice.one(&["app", "other"])),
            )
        }),
        ip: dice.one(&IPS),
        remote: dice.one(&IPS),
        port: [80, 8080, 9][dice.roll(3)],
        sni: dice.in_(2).then(|| dice.one(&["shop.example", "x"])),
        http: (!dice.in_(5)).then(|| {
            let headers = (0..dice.roll(3)).map(|_| values[dice.roll(4)]).collect();
            (dice.one(&METHODS), dice.one(&PATHS), dice.one(&HOSTS), headers)
        }),
    }
}

// ---- The second opinion ---------------------------------------------------------------------------------------------------------------

/// What is known about a call: for each thing that can be asked about, its values as texts; `None` stands for one that cannot be read.
type Facts = BTreeMap<&'static str, Vec<Option<String>>>;

fn facts(call: &Call) -> Facts {
    let mut facts = Facts::new();
    let mut tell = |about, value: &str| facts.entry(about).or_default().push(Some(value.to_owned()));
    if let Some(id) = call.peer {
        let parts: Vec<&str> = id.split('/').collect();
        tell("principal", id);
        tell("trust", parts[0]);
        tell("namespace", parts[2]);
        tell("account", &format!("{}/{}", parts[2], parts[4]));
    }
    tell("ip", call.ip);
    tell("remote", call.remote);
    tell("port", &call.port.to_string());
    if let Some(sni) = call.sni {
        tell("sni", sni);
    }
    if let (Some(_), Some((subject, groups, audiences, presenter))) = (&call.http, &call.token) {
        subject.iter().for_each(|s| tell("user", s));
        groups.iter().for_each(|g| tell("claim", g));
        audiences.iter().for_each(|a| tell("audience", a));
        presenter.iter().for_each(|p| tell("presenter", p));
    }
    if let Some((method, path, host, headers)) = &call.http {
        tell("method", method);
        tell("path", path);
        tell("host", &host.to_lowercase());
        tell("host", host.to_lowercase().split(':').next().expect("host"));
        for value in headers {
            facts.entry("header").or_default().push(std::str::from_utf8(value).ok().map(str::to_owned));
        }
    }
    facts
}

/// Does one text satisfy a value as it is written in a policy?
fn says(about: &str, written: &str, fact: &str) -> bool {
    if matches!(about, "ip" | "remote") {
        let (net, bits) = written.split_once('/').expect("block");
        let number =
            |ip: &str| ip.trim_start_matches("::ffff:").split('.').fold(0u32, |n, part| n << 8 | part.parse::<u32>().expect("part"));
        let shift = 32 - bits.parse::<u32>().expect("bits");
        return number(net) >> shift == number(fact) >> shift;
    }
    if written == "*" {
        return !fact.is_empty();
    }
    if let Some(end) = written.strip_prefix('*') {
        return fact.ends_with(end);
    }
    match written.strip_suffix('*') {
        Some(beginning) => fact.starts_with(beginning),
        None => fact == written,
    }
}

/// The answer to one question. `refuses`: would a yes refuse?
fn answer(q: &Question, facts: &Facts, http: bool, refuses: bool) -> bool {
    let of_http = matches!(q.about, "host" | "method" | "path" | "header" | "claim" | "audience" | "presenter" | "user");
    if of_http && !http {
        // Bytes that are not read: nobody can say, so a refusal counts and a permission does not.
        return refuses;
    }
    let values = facts.get(q.about).map(Vec::as_slice).unwrap_or_default();
    let satisfied = |written: &String, value: &Option<String>| value.as_deref().is_some_and(|v| says(q.about, written, v));
    if q.about == "header" && !values.is_empty() {
        // Each value by itself (CVE-2026-26308): a refusal needs one, a permission all.
        let one = |value: &Option<String>| match value {
            None => refuses,
            Some(_) => {
                (q.lists.any.is_empty() || q.lists.any.iter().any(|w| satisfied(w, value)))
                    && !q.lists.none.iter().any(|w| satisfied(w, value))
            }
        };
        return if refuses { values.iter().any(one) } else { values.iter().all(one) };
    }
    let wanted = q.lists.any.is_empty() || values.iter().any(|v| q.lists.any.iter().any(|w| satisfied(w, v)));
    let unwanted = values.iter().any(|v| q.lists.none.iter().any(|w| satisfied(w, v)));
    wanted && !unwanted
}

fn applies(policy: &Written, facts: &Facts, http: bool) -> bool {
    let refuses = policy.action == "DENY" || policy.action == "CUSTOM";
    let mut matched = false;
    for rule in &policy.rules {
        let mut holds = true;
        for groups in [&rule.from, &rule.to] {
            let some = groups.iter().filter(|group| group.iter().filter(|q| !answer(q, facts, http, refuses)).count() == 0).count();
            holds &= groups.is_empty() || some > 0;
        }
        holds &= rule.when.iter().filter(|q| !answer(q, facts, http, refuses)).count() == 0;
        matched |= holds;
    }
    matched
}

/// Let through? (features.md §3.10, "Evaluation".)
fn second_opinion(policies: &[Written], call: &Call, with_dry_runs: bool) -> bool {
    let (facts, http) = (facts(call), call.http.is_some());
    let mut allow_policies = 0;
    let mut allowed = false;
    for policy in policies.iter().filter(|p| with_dry_runs || !p.dry_run) {
        match policy.action {
            "DENY" if applies(policy, &facts, http) => return false,
            "ALLOW" => {
                allow_policies += 1;
                allowed |= applies(policy, &facts, http);
            }
            _ => {}
        }
    }
    allowed || allow_policies == 0
}

// ---- Both sides -----------------------------------------------------------------------------------------------------------------------

fn decide<T>(call: &Call, with: impl FnOnce(&AuthorizationInput<'_>) -> T) -> T {
    let peer: Option<SpiffeId> = call.peer.map(|id| format!("spiffe://{id}").parse().expect("id"));
    let token = call.token.as_ref().map(|(subject, groups, audiences, presenter)| {
        let (issuer, sub) = subject.map_or(("i", None), |s| s.split_once('/').map(|(i, s)| (i, Some(s))).expect("issuer/subject"));
        let claims = json!({ "iss": issuer, "sub": sub, "groups": groups, "aud": audiences, "azp": presenter });
        Token::new(claims.as_object().expect("object").clone(), &JwtRule { issuer: issuer.into(), ..JwtRule::default() })
    });
    let mut map = HeaderMap::new();
    let host_text = call.http.as_ref().map_or(String::new(), |(_, _, host, _)| weft_model::host_of(host));
    let head = call.http.as_ref().map(|(method, path, authority, values)| {
        for value in values {
            map.append(HeaderName::from_static("x-version"), HeaderValue::from_bytes(value).expect("value"));
        }
        (*method, *path, *authority)
    });
    let head = head.map(|(method, path, authority)| RequestHead {
        method,
        scheme: "http",
        authority,
        host: &host_text,
        path,
        query: None,
        headers: &map,
        claims: token.as_ref().map(|t| &t.claims),
    });
    let ip = |text: &str| text.parse::<IpAddr>().expect("address");
    with(&AuthorizationInput {
        peer: peer.as_ref(),
        token: token.as_ref(),
        source_ip: ip(call.ip),
        remote_ip: ip(call.remote),
        destination_ip: ip("10.0.0.9"),
        destination_port: call.port,
        sni: call.sni,
        http: head.as_ref(),
    })
}

fn pairs() -> usize {
    std::env::var("WEFT_PAIRS").ok().and_then(|n| n.parse().ok()).unwrap_or(if cfg!(debug_assertions) { 60_000 } else { 1_000_000 })
}

#[test]
fn two_evaluators_agree() {
    let mut dice = Dice(0x5eed_1234_5678_9abc);
    let (mut seen, mut refused) = (0, 0);
    while seen < pairs() {
        let policies: Vec<Written> = (0..dice.roll(5)).map(|_| written(&mut dice)).collect();
        let models: Vec<Authorization> = policies.iter().enumerate().map(|(i, p)| model(p, i)).collect();
        for _ in 0..20 {
            let call = call(&mut dice);
            let known = facts(&call);
            let got = decide(&call, |input| {
                let asked: Vec<String> = custom(models.iter(), input).map(|(p, _)| p.name.clone()).collect();
                let noted: Vec<String> = audited(models.iter(), input).map(|(p, _)| p.name.clone()).collect();
                let dry = shadow(models.iter(), input).map(|v| v.is_allowed());
                (authorize(models.iter(), input).is_allowed(), dry, asked, noted)
            });
            let names = |action: &str| -> Vec<String> {
                let of = policies.iter().enumerate().filter(|(_, p)| p.action == action && !p.dry_run);
                of.filter(|(_, p)| applies(p, &known, call.http.is_some())).map(|(i, _)| format!("d/p{i}")).collect()
            };
            let dry =
                policies.iter().any(|p| p.dry_run && matches!(p.action, "ALLOW" | "DENY")).then(|| second_opinion(&policies, &call, true));
            let want = (second_opinion(&policies, &call, false), dry, names("CUSTOM"), names("AUDIT"));
            assert_eq!(got, want, "pair {seen}: {call:?}\n{policies:#?}");
            seen += 1;
            refused += usize::from(!got.0);
        }
    }
    assert!(refused * 10 > seen && refused * 10 < seen * 9, "a random mix says both: {refused} of {seen} refused");
}

/// CVE-2021-36213.
#[test]
fn a_further_deny_never_lets_more_through() {
    let mut dice = Dice(0xdead_beef_0bad_cafe);
    for _ in 0..pairs() / 40 {
        let policies: Vec<Written> = (0..dice.roll(4)).map(|_| written(&mut dice)).collect();
        let mut models: Vec<Authorization> = policies.iter().enumerate().map(|(i, p)| model(p, i)).collect();
        let deny = Written { action: "DENY", dry_run: false, ..written(&mut dice) };
        let at = dice.roll(models.len() + 1);
        let before = models.clone();
        models.insert(at, model(&deny, 99));
        for _ in 0..5 {
            let call = call(&mut dice);
            decide(&call, |input| {
                let (was, is) = (authorize(before.iter(), input), authorize(models.iter(), input));
                assert!(was.is_allowed() || !is.is_allowed(), "{call:?}\n{policies:#?}\n{deny:#?}");
                // And it is the only reason for a new refusal.
                if was.is_allowed() && !is.is_allowed() {
                    assert!(matches!(is, Verdict::Denied(p, _) if p.name == "d/p99"));
                }
            });
        }
    }
}
