//! Buffers and header maps that a thread keeps for its next message, so that idle connections hold none and busy ones allocate none.

use super::limits::{READ_BYTES, SPARE_BUFFER_BYTES_MAX, SPARE_BUFFERS_MAX};
use http::HeaderMap;
use std::cell::RefCell;

#[derive(Default)]
struct Spare {
    read: Vec<Vec<u8>>,
    write: Vec<Vec<u8>>,
    maps: Vec<HeaderMap>,
}

thread_local! {
    static SPARE: RefCell<Spare> = RefCell::default();
}

/// A buffer to read into: its length is its room.
pub(crate) fn read_buffer() -> Vec<u8> {
    SPARE.with_borrow_mut(|spare| spare.read.pop()).unwrap_or_else(|| vec![0; READ_BYTES])
}

/// Gives a buffer of [`read_buffer`] back.
pub(crate) fn keep_read_buffer(buffer: Vec<u8>) {
    if buffer.len() == READ_BYTES {
        SPARE.with_borrow_mut(|spare| {
            // One is in use at a time, except while a message is incomplete.
            if spare.read.len() < 4 {
                spare.read.push(buffer);
            }
        });
    }
}

/// An empty buffer to write into.
pub(crate) fn write_buffer() -> Vec<u8> {
    SPARE.with_borrow_mut(|spare| spare.write.pop()).unwrap_or_else(|| Vec::with_capacity(4096))
}

/// Gives a buffer of [`write_buffer`] back.
pub(crate) fn keep_write_buffer(mut buffer: Vec<u8>) {
    if (1..=SPARE_BUFFER_BYTES_MAX).contains(&buffer.capacity()) {
        buffer.clear();
        SPARE.with_borrow_mut(|spare| {
            if spare.write.len() < 4 {
                spare.write.push(buffer);
            }
        });
    }
}

/// An empty header map with room.
pub(crate) fn header_map() -> HeaderMap {
    SPARE.with_borrow_mut(|spare| spare.maps.pop()).unwrap_or_else(|| HeaderMap::with_capacity(24))
}

/// Gives a map's room back.
pub(crate) fn keep_header_map(mut map: HeaderMap) {
    if map.capacity() <= 256 {
        map.clear();
        SPARE.with_borrow_mut(|spare| {
            if spare.maps.len() < SPARE_BUFFERS_MAX {
                spare.maps.push(map);
            }
        });
    }
}
