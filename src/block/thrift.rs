//! Thrift's compact protocol, as far as Parquet's headers and footers need it.
#![deny(clippy::indexing_slicing)]

use super::decode::{Corrupt, Cursor};
use super::encode::{put_varint, put_zigzag};

/// Type numbers of the compact protocol.
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I16: u8 = 4;
pub const I32: u8 = 5;
pub const I64: u8 = 6;
const DOUBLE: u8 = 7;
pub const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
pub const STRUCT: u8 = 12;

/// Structs in structs beyond this are not Parquet.
const MAX_DEPTH: usize = 16;

/// Writes one struct, field by field with rising numbers.
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    last: i16,
}

impl<'a> Writer<'a> {
    pub fn new(out: &'a mut Vec<u8>) -> Writer<'a> {
        Writer { out, last: 0 }
    }

    fn field(&mut self, id: i16, kind: u8) {
        match id - self.last {
            delta @ 1..=15 => self.out.push((delta as u8) << 4 | kind),
            _ => {
                self.out.push(kind);
                put_zigzag(self.out, i64::from(id));
            }
        }
        self.last = id;
    }

    pub fn i32(&mut self, id: i16, value: i32) {
        self.field(id, I32);
        put_zigzag(self.out, i64::from(value));
    }

    pub fn i64(&mut self, id: i16, value: i64) {
        self.field(id, I64);
        put_zigzag(self.out, value);
    }

    pub fn bool(&mut self, id: i16, value: bool) {
        self.field(id, if value { TRUE } else { FALSE });
    }

    pub fn byte(&mut self, id: i16, value: u8) {
        self.field(id, BYTE);
        self.out.push(value);
    }

    pub fn bytes(&mut self, id: i16, value: &[u8]) {
        self.field(id, BINARY);
        put_varint(self.out, value.len() as u64);
        self.out.extend_from_slice(value);
    }

    /// A member that is a struct.
    pub fn inner(&mut self, id: i16, write: impl FnOnce(&mut Writer<'_>)) {
        self.field(id, STRUCT);
        let mut writer = Writer::new(self.out);
        write(&mut writer);
        writer.end();
    }

    /// A member that is a list; `write` writes one element.
    pub fn list<T>(
        &mut self,
        id: i16,
        kind: u8,
        items: &[T],
        mut write: impl FnMut(&mut Vec<u8>, &T),
    ) {
        self.field(id, LIST);
        match items.len() {
            len @ 0..=14 => self.out.push((len as u8) << 4 | kind),
            len => {
                self.out.push(0xf0 | kind);
                put_varint(self.out, len as u64);
            }
        }
        items.iter().for_each(|item| write(self.out, item));
    }

    /// Every struct ends so.
    pub fn end(self) {
        self.out.push(0);
    }
}

/// Reads one struct. A field that nobody wants is skipped by its type.
pub struct Reader<'a, 'b> {
    pub cursor: &'b mut Cursor<'a>,
    last: i16,
}

/// A field's number and type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    pub id: i16,
    kind: u8,
}

impl<'a, 'b> Reader<'a, 'b> {
    pub fn new(cursor: &'b mut Cursor<'a>) -> Reader<'a, 'b> {
        Reader { cursor, last: 0 }
    }

    /// The next field, or nothing at the end of the struct.
    pub fn next(&mut self) -> Result<Option<Field>, Corrupt> {
        let head = self.cursor.byte()?;
        if head == 0 {
            return Ok(None);
        }
        let id = match head >> 4 {
            0 => i16::try_from(self.cursor.zigzag()?).map_err(|_| Corrupt::Header)?,
            delta => self.last.checked_add(i16::from(delta)).ok_or(Corrupt::Header)?,
        };
        self.last = id;
        Ok(Some(Field { id, kind: head & 15 }))
    }

    pub fn i32(&mut self, field: Field) -> Result<i32, Corrupt> {
        match field.kind {
            I16 | I32 => i32::try_from(self.cursor.zigzag()?).map_err(|_| Corrupt::Header),
            _ => Err(Corrupt::Header),
        }
    }

    pub fn i64(&mut self, field: Field) -> Result<i64, Corrupt> {
        match field.kind {
            I16 | I32 | I64 => self.cursor.zigzag(),
            _ => Err(Corrupt::Header),
        }
    }

    /// The number of structs in a list, which then follow.
    pub fn list(&mut self, field: Field) -> Result<usize, Corrupt> {
        if field.kind != LIST {
            return Err(Corrupt::Header);
        }
        let head = self.cursor.byte()?;
        if head & 15 != STRUCT {
            return Err(Corrupt::Header);
        }
        match head >> 4 {
            15 => usize::try_from(self.cursor.varint()?).map_err(|_| Corrupt::Header),
            len => Ok(usize::from(len)),
        }
    }

    pub fn bool(&mut self, field: Field) -> Result<bool, Corrupt> {
        match field.kind {
            TRUE => Ok(true),
            FALSE => Ok(false),
            _ => Err(Corrupt::Header),
        }
    }

    /// A reader of a member that is a struct.
    pub fn inner(&mut self, field: Field) -> Result<Reader<'a, '_>, Corrupt> {
        if field.kind != STRUCT {
            return Err(Corrupt::Header);
        }
        Ok(Reader::new(self.cursor))
    }

    pub fn skip(&mut self, field: Field) -> Result<(), Corrupt> {
        skip(self.cursor, field.kind, 0)
    }
}

fn skip(cursor: &mut Cursor<'_>, kind: u8, depth: usize) -> Result<(), Corrupt> {
    if depth > MAX_DEPTH {
        return Err(Corrupt::Header);
    }
    let len = |value: u64| usize::try_from(value).map_err(|_| Corrupt::Header);
    match kind {
        TRUE | FALSE => {}
        BYTE => drop(cursor.byte()?),
        I16 | I32 | I64 => drop(cursor.varint()?),
        DOUBLE => drop(cursor.take(8)?),
        BINARY => {
            let bytes = len(cursor.varint()?)?;
            cursor.take(bytes)?;
        }
        LIST | SET => {
            let head = cursor.byte()?;
            let items =
                if head >> 4 == 15 { len(cursor.varint()?)? } else { usize::from(head >> 4) };
            for _ in 0..items {
                skip_element(cursor, head & 15, depth)?;
            }
        }
        MAP => {
            let items = len(cursor.varint()?)?;
            let kinds = if items > 0 { cursor.byte()? } else { 0 };
            for _ in 0..items {
                skip_element(cursor, kinds >> 4, depth)?;
                skip_element(cursor, kinds & 15, depth)?;
            }
        }
        STRUCT => {
            let mut reader = Reader::new(cursor);
            while let Some(field) = reader.next()? {
                skip(reader.cursor, field.kind, depth + 1)?;
            }
        }
        _ => return Err(Corrupt::Header),
    }
    Ok(())
}

/// In lists and maps a boolean takes a byte.
fn skip_element(cursor: &mut Cursor<'_>, kind: u8, depth: usize) -> Result<(), Corrupt> {
    match kind {
        TRUE | FALSE => cursor.byte().map(drop),
        kind => skip(cursor, kind, depth + 1),
    }
}
