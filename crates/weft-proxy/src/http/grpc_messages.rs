//! Counts the bytes of a body, and the messages in it when it is gRPC.

use std::cell::Cell;

/// What has come of a body.
#[derive(Debug, Default)]
pub(crate) struct Received {
    bytes: Cell<u64>,
    grpc: bool,
    messages: Cell<u64>,
    /// Bytes of the message under way that are still to come.
    left: Cell<u64>,
    /// Bytes of a message's head so far, and its length as far as it is known.
    head: Cell<(u8, u32)>,
}

/// Length of a message's head: a flag and four bytes of length.
const HEAD_BYTES: u8 = 5;

impl Received {
    pub(crate) fn new(grpc: bool) -> Self {
        Self { grpc, ..Self::default() }
    }
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.get()
    }
    pub(crate) fn set_bytes(&self, bytes: u64) {
        self.bytes.set(bytes);
    }
    pub(crate) fn messages(&self) -> u64 {
        self.messages.get()
    }
    /// Takes note of a piece of the body. A message counts when its head is whole.
    pub(crate) fn add(&self, data: &[u8]) {
        self.bytes.set(self.bytes.get() + data.len() as u64);
        if self.grpc {
            self.add_messages(data);
        }
    }

    fn add_messages(&self, mut data: &[u8]) {
        loop {
            let skipped = usize::try_from(self.left.get()).unwrap_or(usize::MAX).min(data.len());
            self.left.set(self.left.get() - skipped as u64);
            data = data.get(skipped..).unwrap_or_default();
            let Some((byte, rest)) = data.split_first() else { return };
            let (at, length) = self.head.get();
            let (at, length) = (at + 1, if at == 0 { 0 } else { length << 8 | u32::from(*byte) });
            data = rest;
            if at == HEAD_BYTES {
                self.messages.set(self.messages.get() + 1);
                self.left.set(length.into());
                self.head.set((0, 0));
            } else {
                self.head.set((at, length));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let mut body = Vec::new();
        for length in [0usize, 3, 300, 0] {
            body.push(0);
            body.extend(u32::try_from(length).expect("short").to_be_bytes());
            body.extend(std::iter::repeat_n(7u8, length));
        }
        for piece in [1, 2, 3, 7, 1000] {
            let received = Received::new(true);
            body.chunks(piece).for_each(|p| received.add(p));
            assert_eq!((received.messages(), received.bytes()), (4, body.len() as u64), "pieces of {piece}");
        }
        let plain = Received::new(false);
        plain.add(&body);
        assert_eq!((plain.messages(), plain.bytes()), (0, body.len() as u64));
    }
}
