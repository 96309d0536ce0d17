//! Random interleavings of our client and our server through a pipe that cuts bytes anywhere: nothing gets stuck, bodies come whole.

use crate::peer::{run, whole};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    task::spawn_local,
};
use weft_wire::http2::{self, Options, handshake, serve};

#[derive(Clone)]
struct Dice(Rc<Cell<u64>>);

impl Dice {
    fn roll(&self, below: usize) -> usize {
        self.0.set(self.0.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
        (self.0.get() >> 33) as usize % below
    }
}

/// Gives and takes a few bytes at a time, and sometimes none.
struct Cutter {
    io: DuplexStream,
    dice: Dice,
    most: usize,
}

impl AsyncRead for Cutter {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        if self.dice.roll(4) == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let most = self.dice.roll(self.most) + 1;
        let mut piece = vec![0; most.min(buffer.remaining())];
        let mut read = ReadBuf::new(&mut piece);
        std::task::ready!(Pin::new(&mut self.io).poll_read(cx, &mut read))?;
        buffer.put_slice(read.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Cutter {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let most = self.dice.roll(self.most) + 1;
        Pin::new(&mut self.io).poll_write(cx, &bytes[..most.min(bytes.len())])
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// A body that comes in pieces, with pauses.
struct Slowly {
    left: usize,
    dice: Dice,
}

impl http_body::Body for Slowly {
    type Data = Bytes;
    type Error = std::convert::Infallible;
    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.dice.roll(3) == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let n = self.left.min(self.dice.roll(30_000) + 1);
        self.left -= n;
        Poll::Ready((n > 0).then(|| Ok(Frame::data(vec![9; n].into()))))
    }
}

async fn one(seed: u64) {
    let dice = Dice(Rc::new(Cell::new(seed)));
    let (near, far) = tokio::io::duplex(dice.roll(5_000) + 1);
    let most = dice.roll(8_000) + 1;
    let cut = |io| Cutter { io, dice: dice.clone(), most };
    let windows = |dice: &Dice| Options {
        stream_window_bytes: 65_535 - dice.roll(60_000) as u32,
        connection_window_bytes: 65_535 + dice.roll(60_000) as u32,
        streams_max: dice.roll(6) as u32 + 1,
        ..Options::default()
    };
    let service = {
        let dice = dice.clone();
        move |request: Request<http2::Body>| {
            let dice = dice.clone();
            async move {
                let left = whole(request.into_body()).await.map_or(0, |(data, _)| data.len());
                Response::new(Slowly { left, dice })
            }
        }
    };
    let server = serve(cut(far), Rc::new(windows(&dice)), service);
    spawn_local(async move { server.await.ok() });
    let (sender, connection) = handshake::<_, Slowly>(cut(near), Rc::new(windows(&dice)));
    spawn_local(async move { connection.await.ok() });
    let all: Vec<_> = (0..8)
        .map(|_| {
            let (sender, dice) = (sender.clone(), dice.clone());
            spawn_local(async move {
                let size = dice.roll(100_000);
                let request = Request::post("http://host/").body(Slowly { left: size, dice: dice.clone() }).expect("a request");
                let sending = sender.send(Box::new(request));
                if dice.roll(6) == 0 {
                    // Somebody who loses patience harms nobody else.
                    tokio::time::timeout(Duration::from_micros(dice.roll(500) as u64), sending).await.ok();
                    return;
                }
                match sending.await {
                    Ok(response) => assert_eq!(whole(response.into_body()).await.expect("whole").0.len(), size),
                    // The client may ask for more than the server allows before it knows.
                    Err(error) => assert!(error.reason.is_unprocessed(), "{error:?}"),
                }
            })
        })
        .collect();
    for request in all {
        tokio::time::timeout(Duration::from_secs(60), request)
            .await
            .unwrap_or_else(|_| unreachable!("stuck with seed {seed}"))
            .expect("joins");
    }
}

#[test]
fn nothing_gets_stuck_and_bodies_come_whole() {
    run(async {
        for seed in 1..=60 {
            one(seed * 0x9e37_79b9).await;
        }
    });
}
