//! Header blocks → fields.

use super::{
    ENTRY_OVERHEAD, Field, TABLE_BYTES, huffman,
    table::{Entry, Name, Table},
};
use bytes::Bytes;

/// The receiving side's state.
#[derive(Debug)]
pub(crate) struct Decoder {
    table: Table,
    scratch: Vec<u8>,
}

/// A block that cannot be decoded; the connection is lost, because its state is (RFC 9113 §4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Undecodable(pub &'static str);

type Decoded<T> = Result<T, Undecodable>;

impl Default for Decoder {
    fn default() -> Self {
        Self { table: Table::new(TABLE_BYTES), scratch: Vec::new() }
    }
}

impl Decoder {
    /// Hands each field to `sink`, with the bytes by which it counts.
    pub(crate) fn decode(&mut self, block: &[u8], mut sink: impl FnMut(Field, usize)) -> Decoded<()> {
        let mut input = Input { rest: block };
        let mut begun = false;
        while let Some(first) = input.rest.first().copied() {
            match first {
                0x80.. => {
                    let index = input.integer(7)?;
                    let entry = self.table.at(index).ok_or(Undecodable("an index beyond the tables"))?;
                    sink(entry.field.clone(), entry.size);
                }
                0x40..=0x7f => {
                    let entry = self.literal(&mut input, 6)?;
                    sink(entry.field.clone(), entry.size);
                    self.table.insert(entry);
                }
                0x20..=0x3f => {
                    let max = input.integer(5)?;
                    if begun || max > TABLE_BYTES {
                        return Err(Undecodable("a size update in the wrong place or too large"));
                    }
                    self.table.resize(max);
                    continue;
                }
                0x10..=0x1f => {
                    let mut entry = self.literal(&mut input, 4)?;
                    if let Field::Header(_, value) = &mut entry.field {
                        // RFC 7541 §6.2.3: it must not be indexed by anybody further down either.
                        value.set_sensitive(true);
                    }
                    sink(entry.field, entry.size);
                }
                0x00..=0x0f => {
                    let entry = self.literal(&mut input, 4)?;
                    sink(entry.field, entry.size);
                }
            }
            begun = true;
        }
        Ok(())
    }

    /// A field with its value, and perhaps its name, spelled out (RFC 7541 §6.2).
    fn literal(&mut self, input: &mut Input<'_>, prefix: u32) -> Decoded<Entry> {
        let index = input.integer(prefix)?;
        if index != 0 {
            let value = input.string(&mut self.scratch)?;
            let entry = self.table.at(index).ok_or(Undecodable("an index beyond the tables"))?;
            let size = entry.name_bytes + value.len() + ENTRY_OVERHEAD;
            let field = entry.name.field(Bytes::copy_from_slice(value));
            return Ok(Entry { field, name: entry.name.clone(), size, name_bytes: entry.name_bytes });
        }
        let name = input.string(&mut self.scratch)?;
        let (parsed, name_bytes) = (Name::parse(name), name.len());
        let value = input.string(&mut self.scratch)?;
        let size = name_bytes + value.len() + ENTRY_OVERHEAD;
        Ok(Entry { field: parsed.field(Bytes::copy_from_slice(value)), name: parsed, size, name_bytes })
    }

    #[cfg(test)]
    pub(crate) fn table(&self) -> &Table {
        &self.table
    }
}

struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    fn byte(&mut self) -> Decoded<u8> {
        let (first, rest) = self.rest.split_first().ok_or(Undecodable("the block ends within a field"))?;
        self.rest = rest;
        Ok(*first)
    }

    /// RFC 7541 §5.1; numbers beyond 28 bits are refused, no table or string is that large.
    fn integer(&mut self, prefix: u32) -> Decoded<usize> {
        let mask = (1usize << prefix) - 1;
        let mut value = usize::from(self.byte()?) & mask;
        if value < mask {
            return Ok(value);
        }
        for shift in [0, 7, 14, 21] {
            let byte = usize::from(self.byte()?);
            value += (byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Undecodable("a number that is too large"))
    }

    /// RFC 7541 §5.2.
    fn string<'s>(&mut self, scratch: &'s mut Vec<u8>) -> Decoded<&'s [u8]>
    where
        'a: 's,
    {
        let coded = self.rest.first().is_some_and(|b| b & 0x80 != 0);
        let length = self.integer(7)?;
        let (text, rest) = self.rest.split_at_checked(length).ok_or(Undecodable("a string longer than its block"))?;
        self.rest = rest;
        if !coded {
            return Ok(text);
        }
        scratch.clear();
        if !huffman::decode(text, scratch) {
            return Err(Undecodable("an illegal Huffman code"));
        }
        Ok(scratch)
    }
}
