//! Fields → header blocks.
//!
//! What repeats is indexed, what does not is not: a field enters the table the second time that it is seen, so that request ids
//! and dates never push out what every message carries. A name whose values never repeat enters once, for its name.
//! Strings go out as they are unless Huffman coding is asked for: inside a mesh its bytes are cheaper than its cycles.

use super::{
    ENTRY_OVERHEAD, TABLE_BYTES, huffman,
    table::{STATIC_ENTRIES, STATIC_FIELDS, hash, is_secret, static_name},
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use std::collections::VecDeque;

const SLOTS: usize = 256;

/// The sending side's state.
pub(crate) struct Encoder {
    entries: VecDeque<Entry>,
    size: usize,
    max: usize,
    /// The peer must be told of a smaller table first (RFC 7541 §4.2): the least and the last.
    update: Option<(usize, usize)>,
    /// Entries ever inserted; an entry's number is the count before it.
    inserted: u32,
    huffman: bool,
    /// Made with the first block, because an idle connection shall be small.
    lookup: Option<Box<Lookup>>,
}

struct Lookup {
    /// By hash of name and value: the hash and the number of the entry.
    fields: [(u32, u32); SLOTS],
    /// By hash of the name: the number of an entry.
    names: [u32; SLOTS],
    /// What was seen once: hashes of fields.
    seen: [u32; SLOTS],
}

struct Entry {
    name: EntryName,
    value: Bytes,
    size: usize,
}

enum EntryName {
    Pseudo(&'static str),
    Header(HeaderName),
}

impl EntryName {
    fn as_str(&self) -> &str {
        match self {
            Self::Pseudo(name) => name,
            Self::Header(name) => name.as_str(),
        }
    }
}

impl Encoder {
    pub(crate) fn new(huffman: bool) -> Self {
        Self { entries: VecDeque::new(), size: 0, max: TABLE_BYTES, update: None, inserted: 0, huffman, lookup: None }
    }

    /// The peer's `SETTINGS_HEADER_TABLE_SIZE`.
    pub(crate) fn set_table_size(&mut self, max: u32) {
        let max = (max as usize).min(TABLE_BYTES);
        if max != self.max {
            let least = self.update.map_or(max, |(least, _)| least.min(max));
            (self.max, self.update) = (max, Some((least, max)));
            self.evict(max);
        }
    }

    /// Must be called at the begin of every block.
    pub(crate) fn begin(&mut self, out: &mut Vec<u8>) {
        if let Some((least, last)) = self.update.take() {
            if least < last {
                put_integer(out, 0x20, 5, least);
            }
            put_integer(out, 0x20, 5, last);
        }
    }

    /// A pseudo-header. `name` must be one of the static table's, or `:protocol`.
    pub(crate) fn pseudo(&mut self, name: &'static str, value: &[u8], out: &mut Vec<u8>) {
        for (at, (known, exact)) in STATIC_FIELDS.iter().take(14).enumerate() {
            if *known == name && exact.as_bytes() == value {
                return put_integer(out, 0x80, 7, at + 1);
            }
        }
        self.field(name, value, &|| EntryName::Pseudo(name), &|| Bytes::copy_from_slice(value), out);
    }

    /// A header.
    pub(crate) fn header(&mut self, name: &HeaderName, value: &HeaderValue, out: &mut Vec<u8>) {
        if value.is_sensitive() || is_secret(name) {
            let first = if value.is_sensitive() { 0x10 } else { 0 };
            let at = static_name(name.as_str(), hash(0, name.as_str().as_bytes()));
            return self.put_literal(out, first, 4, at, name.as_str(), value.as_bytes());
        }
        let owned = || Bytes::copy_from_slice(value.as_bytes());
        self.field(name.as_str(), value.as_bytes(), &|| EntryName::Header(name.clone()), &owned, out);
    }

    fn field(&mut self, name: &str, value: &[u8], own: &dyn Fn() -> EntryName, own_value: &dyn Fn() -> Bytes, out: &mut Vec<u8>) {
        let name_hash = hash(0, name.as_bytes());
        let field_hash = hash(name_hash, value);
        let (field_slot, name_slot) = (field_hash as usize % SLOTS, name_hash as usize % SLOTS);
        let lookup = self.lookup.get_or_insert_with(Lookup::new);
        let (known, number) = lookup.fields[field_slot];
        let number_of_name = lookup.names[name_slot];
        if known == field_hash
            && let Some(entry) = self.entry(number)
            && entry.value == value
            && entry.name.as_str() == name
        {
            return put_integer(out, 0x80, 7, self.index(number));
        }
        let at = match static_name(name, name_hash) {
            0 if self.entry(number_of_name).is_some_and(|e| e.name.as_str() == name) => self.index(number_of_name),
            at => at,
        };
        let lookup = self.lookup.get_or_insert_with(Lookup::new);
        let again = lookup.seen[field_slot] == field_hash;
        lookup.seen[field_slot] = field_hash;
        let size = name.len() + value.len() + ENTRY_OVERHEAD;
        // A name that is in no table is worth an entry at once; it costs no more than one.
        if (again || at == 0) && size <= self.max / 4 {
            self.put_literal(out, 0x40, 6, at, name, value);
            self.insert(Entry { name: own(), value: own_value(), size }, field_hash, name_hash);
        } else {
            self.put_literal(out, 0, 4, at, name, value);
        }
    }

    fn insert(&mut self, entry: Entry, field_hash: u32, name_hash: u32) {
        self.evict(self.max.saturating_sub(entry.size));
        let number = self.inserted;
        let lookup = self.lookup.get_or_insert_with(Lookup::new);
        lookup.fields[field_hash as usize % SLOTS] = (field_hash, number);
        lookup.names[name_hash as usize % SLOTS] = number;
        self.size += entry.size;
        self.entries.push_front(entry);
        self.inserted = self.inserted.wrapping_add(1);
    }

    fn evict(&mut self, to: usize) {
        while self.size > to {
            let Some(oldest) = self.entries.pop_back() else { return };
            self.size -= oldest.size;
        }
    }

    /// The entry of a number, if it is still there.
    fn entry(&self, number: u32) -> Option<&Entry> {
        self.entries.get(self.inserted.wrapping_sub(number).wrapping_sub(1) as usize)
    }

    fn index(&self, number: u32) -> usize {
        STATIC_ENTRIES + self.inserted.wrapping_sub(number) as usize
    }

    fn put_literal(&self, out: &mut Vec<u8>, first: u8, prefix: u32, at: usize, name: &str, value: &[u8]) {
        put_integer(out, first, prefix, at);
        if at == 0 {
            self.put_string(out, name.as_bytes());
        }
        self.put_string(out, value);
    }

    fn put_string(&self, out: &mut Vec<u8>, text: &[u8]) {
        if self.huffman {
            let length = huffman::coded_len(text);
            if length < text.len() {
                put_integer(out, 0x80, 7, length);
                return huffman::encode(text, out);
            }
        }
        put_integer(out, 0, 7, text.len());
        out.extend_from_slice(text);
    }
}

impl Lookup {
    fn new() -> Box<Self> {
        // A number that no entry has: the table never holds so many.
        Box::new(Self { fields: [(0, u32::MAX / 2); SLOTS], names: [u32::MAX / 2; SLOTS], seen: [0; SLOTS] })
    }
}

/// RFC 7541 §5.1.
fn put_integer(out: &mut Vec<u8>, first: u8, prefix: u32, value: usize) {
    let mask = (1usize << prefix) - 1;
    if value < mask {
        return out.push(first | value as u8);
    }
    out.push(first | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
