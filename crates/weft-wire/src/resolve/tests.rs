//! A server that lies, and one that does not.

use super::*;
use hickory_proto::rr::{
    Record,
    rdata::{A, AAAA, CNAME},
};

/// A server whose answers (there may be several) are made by `answer`; over TCP it answers with the last of them.
async fn server(answer: impl Fn(&Message, bool) -> Vec<Vec<u8>> + Send + Sync + Clone + 'static) -> Resolver {
    let (udp, tcp, address) = sockets().await;
    let of_tcp = answer.clone();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = udp.recv_from(&mut buffer).await {
            let question = Message::from_vec(&buffer[..length]).expect("a question");
            for bytes in answer(&question, false) {
                udp.send_to(&bytes, from).await.ok();
            }
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            let length = stream.read_u16().await.expect("a length");
            let mut bytes = vec![0; length.into()];
            stream.read_exact(&mut bytes).await.expect("a question");
            if let Some(answer) = of_tcp(&Message::from_vec(&bytes).expect("a question"), true).pop() {
                let length = u16::try_from(answer.len()).expect("short enough");
                stream.write_all(&[length.to_be_bytes().as_slice(), &answer].concat()).await.ok();
            }
        }
    });
    Resolver::with_servers(vec![address])
}

/// The same port for both transports: one that is free for UDP may be taken for TCP, so that several are tried.
async fn sockets() -> (UdpSocket, tokio::net::TcpListener, std::net::SocketAddr) {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
        let address = udp.local_addr().expect("address");
        if let Ok(tcp) = tokio::net::TcpListener::bind(address).await {
            return (udp, tcp, address);
        }
    }
}

/// An answer to `question` with these records.
fn answer(question: &Message, records: Vec<Record>) -> Message {
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.queries.clone_from(&question.queries);
    let kind = question.queries[0].query_type();
    for record in records.into_iter().filter(|r| r.record_type() == kind || r.record_type() == RecordType::CNAME) {
        answer.add_answer(record);
    }
    answer
}

fn name(text: &str) -> Name {
    Name::from_ascii(format!("{text}.")).expect(text)
}
fn a(of: &str, ttl: u32, ip: [u8; 4]) -> Record {
    Record::from_rdata(name(of), ttl, RData::A(A(ip.into())))
}
fn aaaa(of: &str, ttl: u32, ip: &str) -> Record {
    Record::from_rdata(name(of), ttl, RData::AAAA(AAAA(ip.parse().expect(ip))))
}
fn cname(of: &str, to: &str) -> Record {
    Record::from_rdata(name(of), 30, RData::CNAME(CNAME(name(to))))
}
fn bytes(message: &Message) -> Vec<u8> {
    message.to_vec().expect("encoded")
}
fn ip(text: &str) -> IpAddr {
    text.parse().expect(text)
}

#[tokio::test]
async fn both_kinds_of_addresses_through_aliases_with_the_least_ttl() {
    let records = || {
        vec![
            cname("db.example", "a.example"),
            a("a.example", 300, [192, 0, 2, 1]),
            a("a.example", 60, [192, 0, 2, 2]),
            aaaa("a.example", 300, "2001:db8::1"),
            a("stranger.example", 5, [203, 0, 113, 1]),
        ]
    };
    let resolver = server(move |question, _| vec![bytes(&answer(question, records()))]).await;
    let found = resolver.lookup("DB.example").await.expect("found");
    assert_eq!(found.addresses, [ip("192.0.2.1"), ip("192.0.2.2"), ip("2001:db8::1")]);
    assert_eq!(found.ttl, Duration::from_secs(30), "the alias's");
}

#[tokio::test]
async fn answers_to_other_questions_are_not_heard() {
    let resolver = server(|question, _| {
        let lie = |change: &dyn Fn(&mut Message)| {
            let mut wrong = answer(question, vec![a("db.example", 60, [203, 0, 113, 66])]);
            change(&mut wrong);
            bytes(&wrong)
        };
        vec![
            lie(&|m| m.metadata.id = m.metadata.id.wrapping_add(1)),
            lie(&|m| m.queries[0] = Query::query(name("other.example"), question.queries[0].query_type())),
            lie(&|m| m.queries.clear()),
            lie(&|m| m.metadata.message_type = MessageType::Query),
            b"garbage".to_vec(),
            // A name that points to itself.
            [&question.metadata.id.to_be_bytes()[..], &[0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1]].concat(),
            bytes(&answer(question, vec![a("db.example", 60, [192, 0, 2, 1])])),
        ]
    })
    .await;
    assert_eq!(resolver.lookup("db.example").await.expect("found").addresses, [ip("192.0.2.1")]);
}

#[tokio::test]
async fn loops_of_aliases_and_endless_answers_end() {
    let circle = || vec![cname("db.example", "a.example"), cname("a.example", "db.example")];
    let resolver = server(move |question, _| vec![bytes(&answer(question, circle()))]).await;
    assert!(matches!(resolver.lookup("db.example").await, Err(ResolveError::NoAnswer { .. })));

    let many = |question: &Message| {
        (0..=255).map(|n| a(question.queries[0].name().to_ascii().trim_end_matches('.'), 0, [192, 0, 2, n])).collect::<Vec<_>>()
    };
    let resolver = server(move |question, tcp| {
        let mut whole = answer(question, many(question));
        if !tcp {
            whole = answer(question, Vec::new());
            whole.metadata.truncation = true;
        }
        vec![bytes(&whole)]
    })
    .await;
    let found = resolver.lookup("db.example").await.expect("found, over TCP");
    assert_eq!((found.addresses.len(), found.ttl), (DNS_ADDRESSES_MAX, Duration::ZERO));
}

#[tokio::test]
async fn no_name_and_no_answer_are_two_things() {
    let resolver = server(|question, _| {
        let mut none = answer(question, Vec::new());
        none.metadata.response_code = ResponseCode::NXDomain;
        vec![bytes(&none)]
    })
    .await;
    assert_eq!(resolver.lookup("none.example").await, Err(ResolveError::NoAddress("none.example".into())));
    let resolver = server(|question, _| {
        let mut refused = answer(question, Vec::new());
        refused.metadata.response_code = ResponseCode::ServFail;
        vec![bytes(&refused)]
    })
    .await;
    assert!(matches!(resolver.lookup("db.example").await, Err(ResolveError::NoAnswer { .. })));
    assert!(matches!(resolver.lookup("a..b").await, Err(ResolveError::BadName(_))));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_is_given_up() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").expect("bound");
    let resolver = Resolver::with_servers(vec![silent.local_addr().expect("address")]);
    assert!(matches!(resolver.lookup("db.example").await, Err(ResolveError::NoAnswer { .. })));
}

#[test]
fn files_of_the_machine_are_read() {
    let made = Resolver::from_texts(
        "search a.example b.example\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\noptions timeout:1 ndots:5\n",
        "127.0.0.1 localhost\n192.0.2.9 Own.example own # a comment\n",
    );
    assert_eq!((made.servers.len(), made.search.len(), made.dots), (1, 2, 5));
    assert_eq!(made.hosts[1], (ip("192.0.2.9"), vec!["own.example".to_owned(), "own".to_owned()]));
}

#[test]
fn no_message_panics() {
    let mut seed = 1_u32;
    let mut question = Message::query();
    question.add_query(Query::query(name("db.example"), RecordType::A));
    let good = bytes(&answer(&question, vec![cname("db.example", "a.example"), a("a.example", 1, [1, 2, 3, 4])]));
    for _ in 0..100_000 {
        let mut changed = good.clone();
        for _ in 0..3 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let at = (seed >> 8) as usize % changed.len();
            changed[at] = (seed >> 24) as u8;
        }
        fuzz_dns_message(&changed);
    }
}
