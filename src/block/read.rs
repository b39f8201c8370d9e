//! Decoding column chunks: pages of either version, each encoding and codec that Tempo or we write.
#![deny(clippy::indexing_slicing)]

use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::Arc;

use super::decode::{self, Corrupt, Cursor, Strings};
use super::open::{ChunkLayout, Codec, LeafInfo};
use super::page::{DELTA, DELTA_LENGTH, DICTIONARY, PLAIN, RLE};
use super::schema::Physical;
use super::thrift::Reader;

/// A page larger than this when decompressed is not read.
const MAX_PAGE: usize = 512 << 20;
/// Encoding numbers that we read but do not write.
const PLAIN_DICTIONARY: i32 = 2;
const DELTA_STRINGS: i32 = 7;

/// The entries of a column chunk, or of some of its pages.
#[derive(Debug, Default)]
pub struct Column {
    /// Levels of each entry; empty where the column has none.
    pub rep: Vec<u8>,
    pub def: Vec<u8>,
    pub entries: usize,
    pub values: Stored,
}

/// Values that are there; nulls are not among them.
#[derive(Debug)]
pub enum Stored {
    I64(Vec<i64>),
    F64(Vec<f64>),
    Bool(Vec<bool>),
    /// Positions in `dict`.
    Strings {
        codes: Vec<u32>,
        dict: Arc<Strings>,
    },
}

impl Default for Stored {
    fn default() -> Stored {
        Stored::I64(Vec::new())
    }
}

#[derive(Default)]
struct Header {
    kind: i32,
    plain_len: i32,
    packed_len: i32,
    entries: i32,
    encoding: i32,
    /// Of version 2: lengths of the levels, and whether the values are compressed.
    rep_len: i32,
    def_len: i32,
    packed: bool,
}

impl Column {
    /// Decodes a whole chunk.
    pub fn read(chunk: &ChunkLayout, leaf: &LeafInfo, bytes: &[u8]) -> Result<Column, Corrupt> {
        let mut column = Column::new(leaf);
        let mut dictionary = None;
        let mut cursor = Cursor { rest: bytes };
        while column.entries < chunk.entries {
            column.page(chunk.codec, leaf, &mut cursor, &mut dictionary)?;
        }
        column.adopt(dictionary);
        Ok(column)
    }

    /// Decodes one data page of a chunk whose dictionary is at hand, if it has one.
    pub fn read_page(
        chunk: &ChunkLayout,
        leaf: &LeafInfo,
        dictionary: Option<&Arc<Strings>>,
        page: &[u8],
    ) -> Result<Column, Corrupt> {
        let mut column = Column::new(leaf);
        let mut known =
            dictionary.map(|dict| Stored::Strings { codes: Vec::new(), dict: Arc::clone(dict) });
        column.page(chunk.codec, leaf, &mut Cursor { rest: page }, &mut known)?;
        column.adopt(known);
        Ok(column)
    }

    /// The dictionary page alone.
    pub fn dictionary(
        chunk: &ChunkLayout,
        leaf: &LeafInfo,
        bytes: &[u8],
    ) -> Result<Option<Arc<Strings>>, Corrupt> {
        if chunk.range.start == chunk.data || leaf.physical != Physical::Bytes {
            return Ok(None);
        }
        let mut dictionary = None;
        Column::new(leaf).page(chunk.codec, leaf, &mut Cursor { rest: bytes }, &mut dictionary)?;
        match dictionary {
            Some(Stored::Strings { dict, .. }) => Ok(Some(dict)),
            _ => Ok(None),
        }
    }

    fn new(leaf: &LeafInfo) -> Column {
        let values = match leaf.physical {
            Physical::I32 | Physical::I64 => Stored::I64(Vec::new()),
            Physical::F64 => Stored::F64(Vec::new()),
            Physical::Bool => Stored::Bool(Vec::new()),
            Physical::Bytes => Stored::Strings { codes: Vec::new(), dict: Arc::default() },
        };
        Column { values, ..Column::default() }
    }

    /// Strings were read as codes of the dictionary page, if there was one.
    fn adopt(&mut self, dictionary: Option<Stored>) {
        if let (Stored::Strings { dict, .. }, Some(Stored::Strings { dict: known, .. })) =
            (&mut self.values, dictionary)
        {
            *dict = known;
        }
    }

    fn page(
        &mut self,
        codec: Codec,
        leaf: &LeafInfo,
        cursor: &mut Cursor<'_>,
        dictionary: &mut Option<Stored>,
    ) -> Result<(), Corrupt> {
        let header = header(cursor)?;
        let len = |len: i32| usize::try_from(len).map_err(|_| Corrupt::Bounds);
        let entries = len(header.entries)?;
        let packed = cursor.take(len(header.packed_len)?)?;
        let plain_len = len(header.plain_len)?;
        match header.kind {
            2 => {
                let plain = inflate(codec, packed, plain_len)?;
                *dictionary = Some(read_dictionary(leaf.physical, &plain, entries)?);
                Ok(())
            }
            0 => {
                let plain = inflate(codec, packed, plain_len)?;
                let mut cursor = Cursor { rest: &plain };
                let start = self.def.len();
                v1_levels(&mut cursor, leaf.max_rep, entries, &mut self.rep)?;
                v1_levels(&mut cursor, leaf.max_def, entries, &mut self.def)?;
                let present = self.present(leaf, start, entries);
                self.entries += entries;
                self.values.append(leaf.physical, header.encoding, cursor.rest, present, dictionary)
            }
            3 => {
                let (rep_len, def_len) = (len(header.rep_len)?, len(header.def_len)?);
                let mut levels = Cursor { rest: packed };
                let mut rep = Cursor { rest: levels.take(rep_len)? };
                let mut def = Cursor { rest: levels.take(def_len)? };
                let start = self.def.len();
                decode::hybrid(
                    &mut rep,
                    width(leaf.max_rep),
                    counted(leaf.max_rep, entries),
                    &mut self.rep,
                )?;
                decode::hybrid(
                    &mut def,
                    width(leaf.max_def),
                    counted(leaf.max_def, entries),
                    &mut self.def,
                )?;
                let present = self.present(leaf, start, entries);
                let rest = plain_len.checked_sub(rep_len + def_len).ok_or(Corrupt::Bounds)?;
                let codec = if header.packed { codec } else { Codec::None };
                let plain = inflate(codec, levels.rest, rest)?;
                self.entries += entries;
                self.values.append(leaf.physical, header.encoding, &plain, present, dictionary)
            }
            // An index page: nothing to us.
            _ => Ok(()),
        }
    }

    /// How many of the entries read last have a value.
    fn present(&self, leaf: &LeafInfo, start: usize, entries: usize) -> usize {
        match leaf.max_def {
            0 => entries,
            max => self.def.iter().skip(start).filter(|level| u32::from(**level) == max).count(),
        }
    }

    /// The definition level of an entry.
    pub fn def(&self, at: usize, max: u32) -> u32 {
        if max == 0 { 0 } else { self.def.get(at).map_or(0, |level| u32::from(*level)) }
    }

    /// Repetition and definition level of each entry, for columns that have both.
    pub fn levels(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.rep.iter().zip(&self.def).map(|(rep, def)| (u32::from(*rep), u32::from(*def)))
    }

    pub fn i64s(&self) -> &[i64] {
        match &self.values {
            Stored::I64(values) => values,
            _ => &[],
        }
    }

    /// Codes and dictionary of a string column; nothing of another.
    pub fn strings(&self) -> Option<(&[u32], &Strings)> {
        match &self.values {
            Stored::Strings { codes, dict } => Some((codes, dict)),
            _ => None,
        }
    }

    /// The n-th string that is there.
    pub fn bytes(&self, at: usize) -> &[u8] {
        match self.strings() {
            Some((codes, dict)) => codes.get(at).map_or(&[], |code| dict.get(*code as usize)),
            None => &[],
        }
    }
}

impl Stored {
    fn append(
        &mut self,
        physical: Physical,
        encoding: i32,
        data: &[u8],
        count: usize,
        dictionary: &Option<Stored>,
    ) -> Result<(), Corrupt> {
        if count == 0 {
            return Ok(());
        }
        if matches!(encoding, DICTIONARY | PLAIN_DICTIONARY) {
            let dictionary = dictionary.as_ref().ok_or(Corrupt::Header)?;
            return self.append_codes(data, count, dictionary);
        }
        match self {
            Stored::I64(out) => match (encoding, physical) {
                (PLAIN, Physical::I32) => {
                    plain(data, count, |b| i64::from(i32::from_le_bytes(b)), out)
                }
                (PLAIN, _) => plain(data, count, i64::from_le_bytes, out),
                (DELTA, _) => {
                    let start = out.len();
                    decode::delta(&mut Cursor { rest: data }, count, out)?;
                    if physical == Physical::I32 {
                        out.iter_mut()
                            .skip(start)
                            .for_each(|value| *value = i64::from(*value as i32));
                    }
                    if out.len() - start == count { Ok(()) } else { Err(Corrupt::Short) }
                }
                _ => Err(Corrupt::Unsupported),
            },
            Stored::F64(out) if encoding == PLAIN => plain(data, count, f64::from_le_bytes, out),
            Stored::Bool(out) => bools(encoding, data, count, out),
            Stored::Strings { codes, dict } => {
                let dict = Arc::make_mut(dict);
                // Without a dictionary page the values themselves are the dictionary.
                let start = dict.len();
                match encoding {
                    PLAIN => decode::plain_strings(data, count, dict)?,
                    DELTA_LENGTH => decode::delta_length(data, count, dict)?,
                    DELTA_STRINGS => decode::delta_strings(data, count, dict)?,
                    _ => return Err(Corrupt::Unsupported),
                }
                if dict.len() != start + count || dictionary.is_some() {
                    return Err(Corrupt::Short);
                }
                codes.extend(start as u32..dict.len() as u32);
                Ok(())
            }
            Stored::F64(_) => Err(Corrupt::Unsupported),
        }
    }

    fn append_codes(
        &mut self,
        data: &[u8],
        count: usize,
        dictionary: &Stored,
    ) -> Result<(), Corrupt> {
        let mut found = Vec::new();
        match (self, dictionary) {
            (Stored::Strings { codes, .. }, Stored::Strings { dict, .. }) => {
                let start = codes.len();
                decode::codes(data, count, codes)?;
                let known = dict.len() as u32;
                if codes.iter().skip(start).any(|code| *code >= known) {
                    return Err(Corrupt::Bounds);
                }
                Ok(())
            }
            (Stored::I64(out), Stored::I64(dict)) => {
                decode::codes(data, count, &mut found)?;
                look_up(&found, dict, out)
            }
            (Stored::F64(out), Stored::F64(dict)) => {
                decode::codes(data, count, &mut found)?;
                look_up(&found, dict, out)
            }
            _ => Err(Corrupt::Unsupported),
        }
    }
}

fn look_up<T: Copy>(codes: &[u32], dict: &[T], out: &mut Vec<T>) -> Result<(), Corrupt> {
    for code in codes {
        out.push(*dict.get(*code as usize).ok_or(Corrupt::Bounds)?);
    }
    Ok(())
}

fn read_dictionary(physical: Physical, data: &[u8], count: usize) -> Result<Stored, Corrupt> {
    let mut stored = Column::new(&LeafInfo { physical, max_rep: 0, max_def: 0 }).values;
    stored.append(physical, PLAIN, data, count, &None)?;
    Ok(stored)
}

fn plain<const N: usize, T>(
    data: &[u8],
    count: usize,
    of: impl Fn([u8; N]) -> T,
    out: &mut Vec<T>,
) -> Result<(), Corrupt> {
    let (values, _) = data.as_chunks::<N>();
    out.extend(values.iter().take(count).map(|bytes| of(*bytes)));
    if values.len() < count { Err(Corrupt::Short) } else { Ok(()) }
}

fn bools(encoding: i32, data: &[u8], count: usize, out: &mut Vec<bool>) -> Result<(), Corrupt> {
    match encoding {
        PLAIN => {
            if data.len() < count.div_ceil(8) {
                return Err(Corrupt::Short);
            }
            let bits = data.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1));
            out.extend(bits.take(count));
            Ok(())
        }
        RLE => {
            let mut cursor = Cursor { rest: data };
            let len = cursor.u32()? as usize;
            let mut bits: Vec<u8> = Vec::new();
            decode::hybrid(&mut Cursor { rest: cursor.take(len)? }, 1, count, &mut bits)?;
            out.extend(bits.into_iter().map(|bit| bit == 1));
            Ok(())
        }
        _ => Err(Corrupt::Unsupported),
    }
}

fn width(max: u32) -> u32 {
    u32::BITS - max.leading_zeros()
}

/// A column without levels has none encoded.
fn counted(max: u32, entries: usize) -> usize {
    if max == 0 { 0 } else { entries }
}

fn v1_levels(
    cursor: &mut Cursor<'_>,
    max: u32,
    entries: usize,
    out: &mut Vec<u8>,
) -> Result<(), Corrupt> {
    if max == 0 {
        return Ok(());
    }
    let len = cursor.u32()? as usize;
    decode::hybrid(&mut Cursor { rest: cursor.take(len)? }, width(max), entries, out)
}

thread_local! {
    /// Making a context costs more than inflating a small page.
    static INFLATE: RefCell<Option<zstd::bulk::Decompressor<'static>>> = RefCell::new(zstd::bulk::Decompressor::new().ok());
}

fn inflate(codec: Codec, packed: &[u8], plain_len: usize) -> Result<Cow<'_, [u8]>, Corrupt> {
    if plain_len > MAX_PAGE {
        return Err(Corrupt::Bounds);
    }
    let plain = match codec {
        Codec::None => return Ok(Cow::Borrowed(packed)),
        Codec::Zstd => {
            let plain = INFLATE.with_borrow_mut(|inflate| {
                inflate.as_mut().map(|of| of.decompress(packed, plain_len))
            });
            plain.and_then(Result::ok).ok_or(Corrupt::Compression)?
        }
        Codec::Snappy => {
            let claimed = snap::raw::decompress_len(packed).map_err(|_| Corrupt::Compression)?;
            if claimed != plain_len {
                return Err(Corrupt::Compression);
            }
            snap::raw::Decoder::new().decompress_vec(packed).map_err(|_| Corrupt::Compression)?
        }
        Codec::Unsupported => return Err(Corrupt::Unsupported),
    };
    if plain.len() != plain_len {
        return Err(Corrupt::Compression);
    }
    Ok(Cow::Owned(plain))
}

fn header(cursor: &mut Cursor<'_>) -> Result<Header, Corrupt> {
    let mut header = Header { packed: true, ..Header::default() };
    let mut reader = Reader::new(cursor);
    while let Some(field) = reader.next()? {
        match field.id {
            1 => header.kind = reader.i32(field)?,
            2 => header.plain_len = reader.i32(field)?,
            3 => header.packed_len = reader.i32(field)?,
            5 | 7 | 8 => page_header(&mut header, field.id, &mut reader.inner(field)?)?,
            _ => reader.skip(field)?,
        }
    }
    Ok(header)
}

fn page_header(header: &mut Header, page: i16, reader: &mut Reader<'_, '_>) -> Result<(), Corrupt> {
    while let Some(field) = reader.next()? {
        match (page, field.id) {
            (_, 1) => header.entries = reader.i32(field)?,
            (5 | 7, 2) | (8, 4) => header.encoding = reader.i32(field)?,
            (8, 5) => header.def_len = reader.i32(field)?,
            (8, 6) => header.rep_len = reader.i32(field)?,
            (8, 7) => header.packed = reader.bool(field)?,
            _ => reader.skip(field)?,
        }
    }
    Ok(())
}
