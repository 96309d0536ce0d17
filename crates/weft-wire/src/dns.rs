//! DNS for captured programs: questions over UDP and TCP, answered by the caller's resolver.
//!
//! It answers A and AAAA. A name that is known has no records of other types, which is said with an empty answer; search domains
//! and what is forwarded elsewhere are the resolver's business. What is malformed is answered with an error or not at all.

use crate::{
    capture::DnsSockets,
    limits::{DNS_CONNECTIONS_MAX, DNS_IDLE, DNS_PAYLOAD_BYTES_MAX, DNS_QUESTIONS_MAX},
    listen::Acceptor,
};
use futures_util::stream::{FuturesUnordered, StreamExt};
use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{DNSClass, RData, Record, RecordType},
};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The name in lower case, without the last dot.
    pub name: String,
    /// The type of record.
    pub kind: QuestionKind,
}

/// The types that matter to a resolver of the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuestionKind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Anything else: only whether the name exists matters.
    Other,
}

/// What the resolver knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The name exists and has these addresses, of either version; those that were not asked for are left out of the answer.
    Addresses {
        /// All its addresses.
        addresses: Vec<IpAddr>,
        /// How long the program may keep them.
        ttl: Duration,
    },
    /// There is no such name.
    NxDomain,
    /// Not known now; the program may ask again.
    ServFail,
}

/// Answers questions for ever; cancel it to end. Questions are resolved side by side, within limits.
///
/// # Errors
/// Only when the sockets cannot be registered with the current runtime.
pub async fn serve<R: AsyncFn(Question) -> Answer>(sockets: DnsSockets, resolve: R) -> io::Result<()> {
    const PAUSE: Duration = Duration::from_millis(10);
    sockets.udp.set_nonblocking(true)?;
    let udp = UdpSocket::from_std(sockets.udp)?;
    let mut tcp = Acceptor::new(sockets.tcp)?;
    let (mut questions, mut connections) = (FuturesUnordered::new(), FuturesUnordered::new());
    let mut buffer = [0; DNS_PAYLOAD_BYTES_MAX];
    loop {
        tokio::select! {
            received = udp.recv_from(&mut buffer), if questions.len() < DNS_QUESTIONS_MAX => match received {
                Ok((length, from)) => questions.push(over_udp(&udp, buffer[..length].to_vec(), from, &resolve)),
                // An earlier answer could not be delivered, or the kernel is short of memory; the socket is none the worse.
                Err(error) => {
                    tracing::debug!(%error, "a DNS question could not be received");
                    tokio::time::sleep(PAUSE).await;
                }
            },
            (stream, _) = tcp.accept(), if connections.len() < DNS_CONNECTIONS_MAX => connections.push(over_tcp(stream, &resolve)),
            Some(()) = questions.next() => {}
            Some(_) = connections.next() => {}
        }
    }
}

async fn over_udp<R: AsyncFn(Question) -> Answer>(udp: &UdpSocket, question: Vec<u8>, from: SocketAddr, resolve: &R) {
    if let Some(answer) = respond(&question, Transport::Udp, resolve).await {
        // Who has gone needs no answer.
        udp.send_to(&answer, from).await.ok();
    }
}

/// RFC 7766: questions one after the other, each with its length in front, until the client closes or falls silent.
async fn over_tcp<R: AsyncFn(Question) -> Answer>(mut stream: TcpStream, resolve: &R) -> io::Result<()> {
    loop {
        let mut question = Vec::new();
        timeout(DNS_IDLE, async {
            question.resize(stream.read_u16().await?.into(), 0);
            stream.read_exact(&mut question).await
        })
        .await??;
        let Some(answer) = respond(&question, Transport::Tcp, resolve).await else { return Ok(()) };
        let length = u16::try_from(answer.len()).map_err(|_| io::ErrorKind::InvalidData)?;
        let framed = [length.to_be_bytes().as_slice(), &answer].concat();
        timeout(DNS_IDLE, stream.write_all(&framed)).await??;
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Transport {
    Udp,
    Tcp,
}

/// The answer to one message; none to what is no question.
async fn respond<R: AsyncFn(Question) -> Answer>(bytes: &[u8], transport: Transport, resolve: &R) -> Option<Vec<u8>> {
    let asked = match Message::from_vec(bytes) {
        Ok(asked) => asked,
        Err(_) => return malformed(bytes),
    };
    // An answer to an answer could go round for ever.
    if asked.metadata.message_type != MessageType::Query {
        return None;
    }
    let mut answer = Message::response(asked.metadata.id, asked.metadata.op_code);
    answer.metadata.recursion_desired = asked.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.metadata.response_code = match (asked.metadata.op_code, asked.queries.as_slice()) {
        (OpCode::Query, [query]) if query.query_class() == DNSClass::IN => {
            answer.add_query(query.clone());
            fill(&mut answer, query, resolve(question(query)).await)
        }
        (OpCode::Query, [_]) => ResponseCode::Refused,
        (OpCode::Query, _) => ResponseCode::FormErr,
        _ => ResponseCode::NotImp,
    };
    // RFC 6891, section 7: who speaks EDNS is answered with it; section 6.2.5: less than 512 is taken as 512.
    let payload = asked.edns.as_ref().map_or(512, |edns| usize::from(edns.max_payload()).clamp(512, DNS_PAYLOAD_BYTES_MAX));
    if asked.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(u16::try_from(DNS_PAYLOAD_BYTES_MAX).unwrap_or(512));
        answer.set_edns(edns);
    }
    let bytes = answer.to_vec().ok()?;
    match transport == Transport::Udp && bytes.len() > payload {
        // The client asks again over TCP.
        true => answer.truncate().to_vec().ok(),
        false => Some(bytes),
    }
}

fn question(query: &Query) -> Question {
    let kind = match query.query_type() {
        RecordType::A => QuestionKind::A,
        RecordType::AAAA => QuestionKind::Aaaa,
        _ => QuestionKind::Other,
    };
    let name = query.name().to_ascii().to_ascii_lowercase();
    Question { name: name.trim_end_matches('.').to_owned(), kind }
}

/// Adds the records that were asked for. The name is repeated as the client wrote it: some vary its case and check the answer's.
fn fill(message: &mut Message, query: &Query, answer: Answer) -> ResponseCode {
    let (addresses, ttl) = match answer {
        Answer::NxDomain => return ResponseCode::NXDomain,
        Answer::ServFail => return ResponseCode::ServFail,
        Answer::Addresses { addresses, ttl } => (addresses, u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX >> 1)),
    };
    for address in addresses {
        let data = match (query.query_type(), address) {
            (RecordType::A, IpAddr::V4(address)) => RData::A(address.into()),
            (RecordType::AAAA, IpAddr::V6(address)) => RData::AAAA(address.into()),
            _ => continue,
        };
        message.add_answer(Record::from_rdata(query.name().clone(), ttl, data));
    }
    ResponseCode::NoError
}

/// RFC 1035, section 4.1.1: what has at least a header, and is no answer, is told that it is malformed.
fn malformed(bytes: &[u8]) -> Option<Vec<u8>> {
    let (&[high, low, flags], _) = bytes.split_first_chunk::<3>()?;
    let is_question = bytes.len() >= 12 && flags & 0x80 == 0;
    let answer = || Message::error_msg(u16::from_be_bytes([high, low]), OpCode::Query, ResponseCode::FormErr).to_vec().ok();
    if is_question { answer() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::Name;
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};

    async fn catalogue(question: Question) -> Answer {
        let ttl = Duration::from_secs(5);
        match question.name.as_str() {
            "reviews.default.svc.cluster.local" => Answer::Addresses { addresses: vec![Ipv4Addr::new(240, 240, 1, 2).into()], ttl },
            "both.example.org" => {
                Answer::Addresses { addresses: vec![Ipv4Addr::new(192, 0, 2, 1).into(), Ipv6Addr::LOCALHOST.into()], ttl }
            }
            "many.example.org" => {
                Answer::Addresses { addresses: (0..200).map(|last| Ipv4Addr::new(192, 0, 2, last).into()).collect(), ttl }
            }
            "slow.example.org" => Answer::ServFail,
            _ => Answer::NxDomain,
        }
    }

    fn ask(name: &str, kind: RecordType) -> Vec<u8> {
        let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
        message.to_vec().expect("encodes")
    }

    async fn answer_to(bytes: &[u8], transport: Transport) -> Message {
        let answer = respond(bytes, transport, &catalogue).await.expect("answered");
        Message::from_vec(&answer).expect("decodes")
    }

    async fn check(name: &str, kind: RecordType, expected: &str) {
        let answer = answer_to(&ask(name, kind), Transport::Udp).await;
        assert_eq!(answer.metadata.id, 4711);
        let records: Vec<String> = answer.answers.iter().map(|record| format!("{} {}", record.name, record.data)).collect();
        assert_eq!(format!("{:?} {}", answer.metadata.response_code, records.join(", ")), expected);
    }

    #[tokio::test]
    async fn answers_by_type() {
        check("reviews.default.svc.cluster.local.", RecordType::A, "NoError reviews.default.svc.cluster.local. 240.240.1.2").await;
        check("Reviews.Default.svc.cluster.local.", RecordType::A, "NoError Reviews.Default.svc.cluster.local. 240.240.1.2").await;
        check("reviews.default.svc.cluster.local.", RecordType::AAAA, "NoError ").await;
        check("reviews.default.svc.cluster.local.", RecordType::MX, "NoError ").await;
        check("both.example.org.", RecordType::A, "NoError both.example.org. 192.0.2.1").await;
        check("both.example.org.", RecordType::AAAA, "NoError both.example.org. ::1").await;
        check("nowhere.example.org.", RecordType::A, "NXDomain ").await;
        check("slow.example.org.", RecordType::A, "ServFail ").await;
        check(".", RecordType::NS, "NXDomain ").await;
    }

    #[tokio::test]
    async fn long_answers_are_cut_over_udp_only() {
        let question = ask("many.example.org.", RecordType::A);
        let cut = answer_to(&question, Transport::Udp).await;
        assert!(cut.metadata.truncation && cut.answers.is_empty());
        assert_eq!(answer_to(&question, Transport::Tcp).await.answers.len(), 200);
    }

    #[tokio::test]
    async fn nothing_malformed_panics_or_is_answered_to_an_answer() {
        let good = ask("reviews.default.svc.cluster.local.", RecordType::A);
        for length in 0..good.len() {
            respond(&good[..length], Transport::Udp, &catalogue).await;
        }
        for position in 0..good.len() {
            for value in 0..=255 {
                let mut bent = good.clone();
                bent[position] = value;
                respond(&bent, Transport::Udp, &catalogue).await;
            }
        }
        let mut answer = good.clone();
        answer[2] |= 0x80;
        assert_eq!(respond(&answer, Transport::Udp, &catalogue).await, None);
        let broken = answer_to(&good[..14], Transport::Udp).await;
        assert_eq!((broken.metadata.id, broken.metadata.response_code), (4711, ResponseCode::FormErr));
    }

    #[tokio::test]
    async fn serves_both_transports_and_survives_garbage() {
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").expect("bound");
        let tcp = TcpListener::bind("127.0.0.1:0").expect("bound");
        let (udp_at, tcp_at) = (udp.local_addr().expect("address"), tcp.local_addr().expect("address"));
        let client = async {
            let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
            socket.send_to(b"garbage", udp_at).await.expect("sent");
            socket.send_to(&ask("both.example.org.", RecordType::AAAA), udp_at).await.expect("sent");
            let mut bytes = [0; 512];
            let (length, _) = socket.recv_from(&mut bytes).await.expect("answered");
            assert_eq!(Message::from_vec(&bytes[..length]).expect("decodes").answers.len(), 1);

            let mut silent = TcpStream::connect(tcp_at).await.expect("connected");
            silent.write_all(&[0xff]).await.expect("written");
            let mut stream = TcpStream::connect(tcp_at).await.expect("connected");
            let question = ask("many.example.org.", RecordType::A);
            for _ in 0..2 {
                stream.write_u16(question.len() as u16).await.expect("written");
                stream.write_all(&question).await.expect("written");
                let mut answer = vec![0; stream.read_u16().await.expect("answered").into()];
                stream.read_exact(&mut answer).await.expect("read");
                assert_eq!(Message::from_vec(&answer).expect("decodes").answers.len(), 200);
            }
        };
        tokio::select! {
            ended = serve(DnsSockets { udp, tcp }, catalogue) => ended.expect("serves on"),
            () = client => {}
        }
    }
}
