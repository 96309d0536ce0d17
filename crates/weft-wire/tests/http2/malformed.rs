//! The corpus against the engine.

use crate::{
    corpus::{self, Case, Verdict, frame},
    peer::{Peer, run},
};
use std::{cell::Cell, rc::Rc};
use weft_wire::http2::Options;

/// What a peer was told until its PING came back, or the connection ended.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub resets: Vec<(u32, u32)>,
    pub goodbye: Option<u32>,
    pub pong: bool,
    pub answers: Vec<u32>,
}

const PROBE: [u8; 8] = *b"are you?";

pub(crate) async fn told(peer: &mut Peer) -> Told {
    peer.send(&frame(6, 0, 0, &PROBE)).await;
    let mut told = Told::default();
    let number = |payload: &[u8], at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().expect("four bytes"));
    while let Some(frame) = peer.next().await {
        match frame.kind {
            1 => told.answers.push(frame.stream),
            3 => told.resets.push((frame.stream, number(&frame.payload, 0))),
            6 if frame.payload == PROBE => {
                told.pong = true;
                break;
            }
            // A goodbye without an error may be followed by a better one.
            7 => told.goodbye = Some(number(&frame.payload, 4)).filter(|code| *code != 0).or(told.goodbye),
            _ => {}
        }
    }
    told
}

fn fits(told: &Told, verdict: &Verdict) -> bool {
    let reset = |id: u32, codes: &[u32]| told.pong && told.resets.iter().any(|(at, code)| *at == id && codes.contains(code));
    let ended = |codes: &[u32]| !told.pong && told.goodbye.is_some_and(|code| codes.contains(&code));
    match verdict {
        Verdict::Fine => told.resets.iter().all(|(_, code)| *code == 0) && told.goodbye.is_none(),
        Verdict::Late => told.pong,
        Verdict::Stream(id, codes) => reset(*id, codes) && told.goodbye.is_none(),
        Verdict::Connection(codes) => ended(codes),
        Verdict::Either(id, codes) => reset(*id, codes) || ended(codes),
    }
}

/// Every case, in one piece and in small ones.
#[test]
fn every_case_meets_its_verdict() {
    let cases = corpus::all();
    assert!(cases.len() >= 500, "{} cases", cases.len());
    let wrong = Rc::new(Cell::new(0));
    let seen = wrong.clone();
    run(async move {
        for case in &cases {
            for piece in [usize::MAX, 7] {
                if piece == 7 && case.bytes.len() > 20_000 {
                    continue;
                }
                let told = judge(case, piece).await;
                if !fits(&told, &case.verdict) {
                    seen.set(seen.get() + 1);
                    println!("{} (pieces of {piece}): want {:?}, was told {told:?}", case.name, case.verdict);
                }
            }
        }
    });
    assert_eq!(wrong.get(), 0, "cases that were judged wrongly, see above");
}

async fn judge(case: &Case, piece: usize) -> Told {
    let mut peer = Peer::new(Options::default(), true).await;
    for bytes in case.bytes.chunks(piece) {
        peer.send(bytes).await;
        if piece < usize::MAX {
            tokio::task::yield_now().await;
        }
    }
    told(&mut peer).await
}

/// A malformed request is never seen by the service.
#[test]
fn nothing_malformed_reaches_the_service() {
    run(async {
        for case in corpus::all().iter().filter(|case| case.name.starts_with("head: ") || case.name.starts_with("hpack: ")) {
            let mut peer = Peer::new(Options::default(), true).await;
            peer.send(&case.bytes).await;
            assert_eq!(told(&mut peer).await.answers, [] as [u32; 0], "{}", case.name);
        }
    });
}
