//! What a conforming peer may do and see, by section of RFC 9113; malformed input is the corpus's business.

use crate::{
    corpus::{CALM, END_HEADERS, END_STREAM, FLOW, GET, PADDED, PRIORITY, PROTOCOL, block, frame},
    malformed::told,
    peer::{Frames, Peer, Raw, run},
};
use http::Response;
use std::time::Duration;
use weft_wire::http2::{self, Options};

const POST: [(&str, &str); 4] = [(":method", "POST"), GET[1], GET[2], GET[3]];

async fn connected() -> Peer {
    Peer::new(Options::default(), true).await
}

/// Reads the answer on a stream: head, bytes of data, was it ended.
async fn answer(peer: &mut Peer, stream: u32) -> (Vec<u8>, usize, bool) {
    let (mut head, mut data) = (Vec::new(), 0);
    loop {
        let Some(Raw { kind, flags, stream: on, payload }) = peer.next_telling().await else { return (head, data, false) };
        assert_eq!(on, stream, "a frame of another stream: {kind} {payload:?}");
        match kind {
            0 => data += payload.len(),
            1 => head = payload,
            _ => return (head, data, false),
        }
        if flags & END_STREAM != 0 {
            return (head, data, true);
        }
    }
}

/// `:status: 200` is one byte, 0x88.
fn ok(answer: &(Vec<u8>, usize, bool)) -> bool {
    answer.0.first() == Some(&0x88) && answer.2
}

#[test]
fn section_3_4_preface() {
    run(async {
        let mut peer = Peer::new(Options::default(), false).await;
        let first = peer.next().await.expect("the server's preface");
        assert_eq!((first.kind, first.flags, first.stream), (4, 0, 0), "SETTINGS come first");
        peer.send(b"GET / HTTP/1.1\r\n\r\n").await;
        assert_eq!(told(&mut peer).await.goodbye, Some(PROTOCOL));
        let mut peer = Peer::new(Options::default(), false).await;
        peer.send(http2::PREFACE).await;
        peer.send(&frame(6, 0, 0, &[0; 8])).await;
        assert_eq!(told(&mut peer).await.goodbye, Some(PROTOCOL), "the first frame must be SETTINGS");
    });
}

#[test]
fn section_4_1_unknown_frames_and_reserved_bits_are_ignored() {
    run(async {
        let mut peer = connected().await;
        peer.send(&frame(0x16, 0xff, 0, &[0; 8])).await;
        peer.send(&frame(6, 0xfe, 0, b"12345678")).await;
        let pong = peer.next_telling().await.expect("an answer");
        assert_eq!((pong.kind, pong.flags, &pong.payload[..]), (6, 1, &b"12345678"[..]), "undefined flags are ignored");
        peer.send(&frame(6, 0, 0x8000_0000, b"12345678")).await;
        assert_eq!(peer.next_telling().await.expect("an answer").kind, 6, "so is the reserved bit");
    });
}

#[test]
fn section_4_3_and_6_10_header_blocks_in_pieces() {
    run(async {
        let mut peer = connected().await;
        let whole = block(&GET);
        for (stream, pieces) in [(1, 1), (3, 2), (5, 7)] {
            let size = whole.len().div_ceil(pieces);
            let all: Vec<&[u8]> = whole.chunks(size).collect();
            for (at, piece) in all.iter().enumerate() {
                let end = if at == all.len() - 1 { END_HEADERS } else { 0 };
                let (kind, flags) = if at == 0 { (1, END_STREAM | end) } else { (9, end) };
                peer.send(&frame(kind, flags, stream, piece)).await;
            }
            assert!(ok(&answer(&mut peer, stream).await));
        }
        // An empty first piece, and an empty last one.
        peer.send(&frame(1, END_STREAM, 7, &[])).await;
        peer.send(&frame(9, 0, 7, &whole)).await;
        peer.send(&frame(9, END_HEADERS, 7, &[])).await;
        assert!(ok(&answer(&mut peer, 7).await));
    });
}

#[test]
fn section_5_1_2_too_many_streams_are_refused_and_the_others_live() {
    run(async {
        let options = Options { streams_max: 2, ..Options::default() };
        let mut peer = Peer::new(options, true).await;
        for stream in [1, 3, 5] {
            peer.send(&frame(1, END_HEADERS, stream, &block(&POST))).await;
        }
        let refused = peer.next_telling().await.expect("an answer");
        assert_eq!((refused.kind, refused.stream, &refused.payload[..]), (3, 5, &[0, 0, 0, 7][..]), "REFUSED_STREAM");
        for stream in [1, 3] {
            peer.send(&frame(0, END_STREAM, stream, b"abc")).await;
            assert_eq!(answer(&mut peer, stream).await.1, 3);
        }
    });
}

#[test]
fn section_6_1_and_6_2_padding_and_priority_are_cut_off() {
    run(async {
        let mut peer = connected().await;
        let head = [&[3, 0, 0, 0, 0, 9][..], &block(&POST), &[0; 3]].concat();
        peer.send(&frame(1, PADDED | PRIORITY | END_HEADERS, 1, &head)).await;
        peer.send(&frame(0, PADDED, 1, &[2, b'a', b'b', 0, 0])).await;
        peer.send(&frame(0, PADDED | END_STREAM, 1, &[0, b'c'])).await;
        assert_eq!(answer(&mut peer, 1).await.1, 3);
    });
}

/// §6.5.3: acknowledged in order; §6.9.2: windows of open streams move, even below zero.
#[test]
fn section_6_5_and_6_9_2_settings_move_windows() {
    run(async {
        let window = |bytes: u32| frame(4, 0, 0, &[&[0, 4][..], &bytes.to_be_bytes()].concat());
        let service = |_| async { Response::new(Frames::of(&[&[7; 100]], None)) };
        let mut peer = Peer::with(Options::default(), false, service).await;
        peer.send(http2::PREFACE).await;
        peer.send(&window(10)).await;
        peer.send(&frame(1, END_HEADERS | END_STREAM, 1, &block(&GET))).await;
        async fn take(peer: &mut Peer, want: usize) {
            let mut data = 0;
            while data < want {
                let frame = peer.next_telling().await.expect("a frame");
                data += if frame.kind == 0 { frame.payload.len() } else { 0 };
            }
            assert_eq!(data, want);
        }
        take(&mut peer, 10).await;
        // 10 sent of 10; 5 makes the window -5, an update by 8 makes it 3.
        peer.send(&window(5)).await;
        peer.send(&frame(8, 0, 1, &8u32.to_be_bytes())).await;
        take(&mut peer, 3).await;
        peer.send(&window(1000)).await;
        take(&mut peer, 87).await;
    });
}

#[test]
fn section_6_9_nobody_sends_beyond_a_window() {
    run(async {
        let service = |_| async { Response::new(Frames::of(&[&vec![7; 200_000]], None)) };
        let mut peer = Peer::with(Options::default(), true, service).await;
        peer.send(&frame(1, END_HEADERS | END_STREAM, 1, &block(&GET))).await;
        let mut data = 0;
        while data < 65_535 {
            data += peer.next_telling().await.filter(|f| f.kind == 0).map_or(0, |f| f.payload.len());
        }
        assert_eq!(data, 65_535);
        let told = told(&mut peer).await;
        assert!(told.pong && told.resets.is_empty(), "and nothing more: {told:?}");
        // The connection's window alone is not enough, nor the stream's.
        peer.send(&frame(8, 0, 0, &1_000u32.to_be_bytes())).await;
        peer.send(&frame(6, 0, 0, b"nothing?")).await;
        assert_eq!(peer.next_telling().await.expect("a frame").kind, 6);
        peer.send(&frame(8, 0, 1, &2_000u32.to_be_bytes())).await;
        assert_eq!(peer.next_telling().await.expect("a frame").payload.len(), 1_000);
    });
}

#[test]
fn section_6_9_1_what_overruns_our_window_is_reset() {
    run(async {
        let unread = |_| std::future::pending::<Response<Frames>>();
        let options = Options { stream_window_bytes: 65_535, connection_window_bytes: 200_000, ..Options::default() };
        let data = frame(0, 0, 1, &[0; 16_384]).repeat(5);
        let mut peer = Peer::with(options.clone(), true, unread).await;
        peer.send(&frame(1, END_HEADERS, 1, &block(&POST))).await;
        peer.send(&data).await;
        assert_eq!(told(&mut peer).await.resets, [(1, FLOW)]);
        let mut peer = Peer::with(options, true, unread).await;
        for stream in [1u32, 3, 5, 7] {
            peer.send(&frame(1, END_HEADERS, stream, &block(&POST))).await;
            peer.send(&frame(0, 0, stream, &[0; 16_384]).repeat(3)).await;
            peer.send(&frame(0, 0, stream, &[0; 16_000])).await;
        }
        assert_eq!(told(&mut peer).await.goodbye, Some(FLOW), "the connection's window");
    });
}

#[test]
fn section_8_1_trailers_and_interim() {
    run(async {
        let mut peer = connected().await;
        peer.send(&frame(1, END_HEADERS, 1, &block(&POST))).await;
        peer.send(&frame(0, 0, 1, b"abc")).await;
        peer.send(&frame(1, END_HEADERS | END_STREAM, 1, &block(&[("x-t", "1")]))).await;
        let head = peer.next_telling().await.expect("a head");
        let data = peer.next_telling().await.expect("data");
        let trailers = peer.next_telling().await.expect("trailers");
        assert_eq!((head.kind, data.kind, trailers.kind, trailers.flags & END_STREAM), (1, 0, 1, END_STREAM));
        assert!(trailers.payload.windows(3).any(|w| w == b"x-t"));
    });
}

/// §10.5.1: the limit is on the decoded list. The answer is 431, and the tables stay in step.
#[test]
fn section_10_5_1_header_lists_that_are_too_large() {
    run(async {
        let mut peer = connected().await;
        let long = "v".repeat(4_000);
        let mut bomb = block(&GET);
        // One large entry, used again and again: 1 byte on the wire, 4 kB decoded.
        bomb.extend([0x40, 1, b'x', 0x7f]);
        bomb.extend([(4_000 - 127) as u8 | 0x80, ((4_000 - 127) >> 7) as u8]);
        bomb.extend(long.as_bytes());
        bomb.extend([0xbe; 2_000]);
        peer.send(&frame(1, END_HEADERS | END_STREAM, 1, &bomb)).await;
        let refusal = peer.next_telling().await.expect("an answer");
        assert_eq!((refusal.kind, refusal.stream, refusal.flags & END_STREAM), (1, 1, END_STREAM));
        assert!(refusal.payload.ends_with(b"431"), "{:?}", refusal.payload);
        peer.send(&frame(1, END_HEADERS | END_STREAM, 3, &[&block(&GET)[..], &[0xbe]].concat())).await;
        assert!(ok(&answer(&mut peer, 3).await), "the entry is there");
    });
}

#[test]
fn slow_heads_silent_streams_and_stalled_readers_end() {
    run(async {
        let mut peer = Peer::new(Options::default(), false).await;
        peer.next().await;
        let begun = tokio::time::Instant::now();
        while peer.next().await.is_some() {}
        assert!(begun.elapsed() < Duration::from_secs(20), "a client that never says its preface");

        let mut peer = connected().await;
        peer.send(&frame(1, 0, 1, &block(&GET))).await;
        while peer.next().await.is_some() {}
        assert!(begun.elapsed() < Duration::from_secs(40), "a header block without an end");

        let mut peer = Peer::with(Options::default(), true, |_| std::future::pending::<Response<Frames>>()).await;
        peer.send(&frame(1, END_HEADERS, 1, &block(&POST))).await;
        let reset = peer.next_telling().await.expect("a frame");
        assert_eq!((reset.kind, &reset.payload[..]), (3, &[0, 0, 0, 8][..]), "a silent stream is cancelled");
    });
}

#[test]
fn pings_ask_whether_a_peer_is_there() {
    run(async {
        let options = Options { ping_interval: Some(Duration::from_secs(5)), stream_idle: None, ..Options::default() };
        let mut peer = Peer::with(options, true, |_| std::future::pending::<Response<Frames>>()).await;
        peer.send(&frame(1, END_HEADERS, 1, &block(&POST))).await;
        let ping = peer.next_telling().await.expect("a frame");
        assert_eq!((ping.kind, ping.flags), (6, 0));
        peer.send(&frame(6, 1, 0, &ping.payload)).await;
        assert_eq!(peer.next_telling().await.expect("a frame").kind, 6, "the next one");
        assert_eq!(peer.next_telling().await, None, "not answered: the peer is gone");
    });
}

/// A peer that resets as many streams as it finishes is a browser with a hasty user.
#[test]
fn resets_are_paid_for_by_finished_streams() {
    run(async {
        let mut peer = connected().await;
        for i in 0..1_500u32 {
            let (one, two) = (4 * i + 1, 4 * i + 3);
            peer.send(&frame(1, END_HEADERS, one, &block(&POST))).await;
            peer.send(&frame(3, 0, one, &[0, 0, 0, 8])).await;
            peer.send(&frame(1, END_HEADERS | END_STREAM, two, &block(&GET))).await;
            loop {
                let frame = peer.next_telling().await.expect("the connection lives");
                assert_ne!(frame.kind, 7, "after {i}: {}", CALM);
                if frame.stream == two && frame.flags & END_STREAM != 0 {
                    break;
                }
            }
        }
    });
}
