//! Names outside of the mesh, asked of the machine's DNS servers. A server is not believed further than its answer to the question.
//!
//! An answer counts when it comes from the server that was asked, on a socket used for this question alone, with the question's
//! number and the question itself in it; of its records only those count that the name leads to. Everything is bounded.

use crate::limits::{
    DNS_ADDRESSES_MAX, DNS_ALIASES_MAX, DNS_ANSWER_BYTES_MAX, DNS_ANSWER_TIMEOUT, DNS_PAYLOAD_BYTES_MAX, DNS_STRAY_ANSWERS_MAX,
};
use hickory_proto::{
    op::{Edns, Message, MessageType, Query, ResponseCode},
    rr::{DNSClass, Name, RData, RecordType},
};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

/// Where names are looked up, and how short ones are completed.
#[derive(Debug, Clone, Default)]
pub struct Resolver {
    servers: Vec<SocketAddr>,
    search: Vec<String>,
    /// Names with so many dots are asked as they are first.
    dots: usize,
    hosts: Vec<(IpAddr, Vec<String>)>,
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Its addresses, IPv4 first, each once.
    pub addresses: Vec<IpAddr>,
    /// How long the server says that they hold.
    pub ttl: Duration,
}

/// Why a name stands for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The servers say that there is no such name, or that it has no address.
    #[error("{0} has no address")]
    NoAddress(String),
    /// No server gave an answer that can be used.
    #[error("no DNS server answers for {name}: {why}")]
    NoAnswer {
        /// The name.
        name: String,
        /// Of the last server.
        why: String,
    },
    /// Not a name.
    #[error("{0:?} is not a name that can be looked up")]
    BadName(String),
}

impl Resolver {
    /// As this machine is set up (`/etc/resolv.conf`, `/etc/hosts`).
    pub fn of_this_machine() -> Self {
        let read = |path: &str| std::fs::read_to_string(Path::new(path)).unwrap_or_default();
        Self::from_texts(&read("/etc/resolv.conf"), &read("/etc/hosts"))
    }

    /// These servers only.
    pub fn with_servers(servers: Vec<SocketAddr>) -> Self {
        Self { servers, dots: 1, ..Self::default() }
    }

    /// From the texts of the two files.
    fn from_texts(resolv_conf: &str, hosts: &str) -> Self {
        let mut made = Self { dots: 1, ..Self::default() };
        for line in resolv_conf.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    made.servers.extend(words.next().and_then(|w| w.parse().ok()).map(|ip: IpAddr| SocketAddr::new(ip, 53)))
                }
                Some("search" | "domain") => made.search = words.map(str::to_owned).take(6).collect(),
                Some("options") => {
                    let dots = words.find_map(|w| w.strip_prefix("ndots:")?.parse().ok());
                    made.dots = dots.unwrap_or(made.dots);
                }
                _ => {}
            }
        }
        if made.servers.is_empty() {
            made.servers.push((Ipv4Addr::LOCALHOST, 53).into());
        }
        for line in hosts.lines() {
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            if let Some(ip) = words.next().and_then(|w| w.parse().ok()) {
                made.hosts.push((ip, words.map(str::to_ascii_lowercase).collect()));
            }
        }
        made
    }

    /// The addresses of a name: an entry of the machine's own file, else of the first server that answers.
    ///
    /// # Errors
    /// When there is no such name, or no server says so.
    pub async fn lookup(&self, host: &str) -> Result<Resolved, ResolveError> {
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        let own: Vec<IpAddr> = self.hosts.iter().filter(|(_, names)| names.contains(&name)).map(|(ip, _)| *ip).collect();
        // RFC 6761, section 6.3: never asked.
        if own.is_empty() && (name == "localhost" || name.ends_with(".localhost")) {
            return Ok(Resolved { addresses: vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()], ttl: Duration::from_secs(60) });
        }
        if !own.is_empty() {
            return Ok(Resolved { addresses: own, ttl: Duration::from_secs(60) });
        }
        let whole = name.matches('.').count() >= self.dots || host.ends_with('.');
        let longer = self.search.iter().filter(|_| !host.ends_with('.')).map(|domain| format!("{name}.{domain}"));
        let mut tried: Vec<String> = longer.collect();
        tried.insert(if whole { 0 } else { tried.len() }, name.clone());
        let mut last = ResolveError::NoAddress(name);
        for candidate in tried {
            match self.ask_all(&candidate).await {
                Ok(resolved) => return Ok(resolved),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Both kinds of address, of each server in turn until one answers.
    async fn ask_all(&self, name: &str) -> Result<Resolved, ResolveError> {
        let mut query = Name::from_ascii(name).map_err(|_| ResolveError::BadName(name.to_owned()))?;
        query.set_fqdn(true);
        let mut why = "there is none".to_owned();
        for server in self.servers.iter().chain(&self.servers) {
            let (v4, v6) = tokio::join!(ask(*server, &query, RecordType::A), ask(*server, &query, RecordType::AAAA));
            let mut found = Resolved { addresses: Vec::new(), ttl: Duration::MAX };
            let mut answered = false;
            for answer in [v4, v6] {
                match answer {
                    Ok(answer) => {
                        answered = true;
                        found.ttl = if answer.addresses.is_empty() { found.ttl } else { found.ttl.min(answer.ttl) };
                        found.addresses.extend(answer.addresses);
                    }
                    Err(error) => why = error.to_string(),
                }
            }
            match (answered, found.addresses.is_empty()) {
                (true, false) => return Ok(found),
                (true, true) => return Err(ResolveError::NoAddress(name.to_owned())),
                (false, _) => {}
            }
        }
        Err(ResolveError::NoAnswer { name: name.to_owned(), why })
    }
}

/// One question to one server.
async fn ask(server: SocketAddr, name: &Name, kind: RecordType) -> io::Result<Resolved> {
    let query = Query::query(name.clone(), kind);
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(query.clone());
    let mut edns = Edns::new();
    edns.set_max_payload(u16::try_from(DNS_PAYLOAD_BYTES_MAX).unwrap_or(u16::MAX));
    message.edns = Some(edns);
    let bytes = message.to_vec().map_err(io::Error::other)?;
    let id = message.metadata.id;
    let answer = timeout(DNS_ANSWER_TIMEOUT, async {
        match over_udp(server, &bytes, id, &query).await? {
            answer if answer.metadata.truncation => over_tcp(server, &bytes, id, &query).await,
            answer => Ok(answer),
        }
    });
    read(&answer.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??, name, kind)
}

/// A socket of its own for each question: whoever wants to answer in the server's place must guess its port too.
async fn over_udp(server: SocketAddr, question: &[u8], id: u16, query: &Query) -> io::Result<Message> {
    let any: SocketAddr = if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut buffer = [0; DNS_PAYLOAD_BYTES_MAX];
    for _ in 0..DNS_STRAY_ANSWERS_MAX {
        let length = socket.recv(&mut buffer).await?;
        if let Some(answer) = answer_to(&buffer[..length], id, query) {
            return Ok(answer);
        }
    }
    Err(io::Error::other("the server sends answers to other questions"))
}

async fn over_tcp(server: SocketAddr, question: &[u8], id: u16, query: &Query) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[length.to_be_bytes().as_slice(), question].concat()).await?;
    let length = usize::from(stream.read_u16().await?);
    if length > DNS_ANSWER_BYTES_MAX {
        return Err(io::Error::other(format!("the answer has {length} bytes")));
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    answer_to(&bytes, id, query).ok_or_else(|| io::Error::other("the answer is to another question"))
}

/// The message, if it is an answer to this question.
fn answer_to(bytes: &[u8], id: u16, query: &Query) -> Option<Message> {
    let answer = Message::from_vec(bytes).ok()?;
    let same = answer.metadata.id == id
        && answer.metadata.message_type == MessageType::Response
        && matches!(answer.queries.as_slice(), [one] if one.name() == query.name() && one.query_type() == query.query_type() && one.query_class() == DNSClass::IN);
    same.then_some(answer)
}

/// The addresses that the name leads to: through aliases, and through nothing else.
fn read(answer: &Message, name: &Name, kind: RecordType) -> io::Result<Resolved> {
    match answer.metadata.response_code {
        ResponseCode::NoError => {}
        ResponseCode::NXDomain => return Ok(Resolved { addresses: Vec::new(), ttl: Duration::ZERO }),
        other => return Err(io::Error::other(format!("the server answers {other}"))),
    }
    let (mut current, mut ttl) = (name.clone(), u32::MAX);
    for _ in 0..DNS_ALIASES_MAX {
        let of_current = || answer.answers.iter().filter(|r| r.name == current && r.dns_class == DNSClass::IN);
        let mut addresses: Vec<IpAddr> = Vec::new();
        for record in of_current() {
            let address = match (&record.data, kind) {
                (RData::A(a), RecordType::A) => IpAddr::from(a.0),
                (RData::AAAA(aaaa), RecordType::AAAA) => IpAddr::from(aaaa.0),
                _ => continue,
            };
            ttl = ttl.min(record.ttl);
            if addresses.len() < DNS_ADDRESSES_MAX && !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if !addresses.is_empty() {
            return Ok(Resolved { addresses, ttl: Duration::from_secs(ttl.into()) });
        }
        let alias = of_current().find_map(|r| if let RData::CNAME(to) = &r.data { Some((to.0.clone(), r.ttl)) } else { None });
        match alias {
            Some((next, of_alias)) => (current, ttl) = (next, ttl.min(of_alias)),
            None => return Ok(Resolved { addresses: Vec::new(), ttl: Duration::ZERO }),
        }
    }
    Err(io::Error::other("the name has too many aliases"))
}

/// For the fuzzer: no message may panic or be followed for ever.
#[doc(hidden)]
pub fn fuzz_dns_message(bytes: &[u8]) {
    let Ok(answer) = Message::from_vec(bytes) else { return };
    for query in answer.queries.clone() {
        for kind in [RecordType::A, RecordType::AAAA] {
            if let Ok(resolved) = read(&answer, query.name(), kind) {
                assert!(resolved.addresses.len() <= DNS_ADDRESSES_MAX, "bounded");
            }
        }
        answer_to(bytes, answer.metadata.id, &query);
    }
}

#[cfg(test)]
mod tests;
