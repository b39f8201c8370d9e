//! JSON, token by token, from borrowed bytes: knows nothing of OTLP, builds no tree, and never
//! recurses.
#![deny(clippy::indexing_slicing)]

use std::borrow::Cow;

use memchr::{memchr_iter, memchr2};
use thiserror::Error;

/// The body is not JSON, or not of the shape of a request.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[error("JSON is wrong at line {line}, column {column}: {what}")]
pub struct JsonError {
    pub line: usize,
    pub column: usize,
    pub what: &'static str,
}

/// What the next value is, told by its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    List,
    Text,
    Number,
    Bool,
    Null,
}

/// An object or list that was opened and is being read.
#[derive(Debug)]
pub(super) struct Open {
    close: u8,
    first: bool,
}

#[derive(Debug)]
pub(super) struct JsonReader<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> JsonReader<'a> {
    pub(super) fn new(body: &'a [u8]) -> JsonReader<'a> {
        const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
        JsonReader { body, at: if body.starts_with(BYTE_ORDER_MARK) { 3 } else { 0 } }
    }

    /// An error at the place reached.
    pub(super) fn error(&self, what: &'static str) -> JsonError {
        let read = self.body.get(..self.at).unwrap_or(self.body);
        let line = memchr_iter(b'\n', read).count() + 1;
        let column = read.iter().rev().take_while(|&&byte| byte != b'\n').count() + 1;
        JsonError { line, column, what }
    }

    pub(super) fn peek(&mut self) -> Result<Kind, JsonError> {
        match self.next_byte() {
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::List),
            Some(b'"') => Ok(Kind::Text),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(b't' | b'f') => Ok(Kind::Bool),
            Some(b'n') => Ok(Kind::Null),
            Some(_) => Err(self.error("expected a value")),
            None => Err(self.error("the body ends too early")),
        }
    }

    /// Opens the object or list that [`Self::peek`] saw.
    pub(super) fn open(&mut self) -> Open {
        let close = if self.next_byte() == Some(b'{') { b'}' } else { b']' };
        self.at += 1;
        Open { close, first: true }
    }

    /// The next member's name, its value to be read next, or `None` at the object's end.
    pub(super) fn member(&mut self, object: &mut Open) -> Result<Option<Cow<'a, [u8]>>, JsonError> {
        if !self.more(object)? {
            return Ok(None);
        }
        if self.next_byte() != Some(b'"') {
            return Err(self.error("expected a member's name"));
        }
        let name = self.text()?;
        if self.next_byte() != Some(b':') {
            return Err(self.error("expected a colon"));
        }
        self.at += 1;
        Ok(Some(name))
    }

    /// Whether the list has another value, which is to be read next.
    pub(super) fn item(&mut self, list: &mut Open) -> Result<bool, JsonError> {
        self.more(list)
    }

    fn more(&mut self, open: &mut Open) -> Result<bool, JsonError> {
        let first = std::mem::replace(&mut open.first, false);
        match self.next_byte() {
            Some(byte) if byte == open.close => {
                self.at += 1;
                Ok(false)
            }
            Some(_) if first => Ok(true),
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            Some(_) => Err(self.error("expected a comma or the end of the object or list")),
            None => Err(self.error("the body ends too early")),
        }
    }

    /// A string. Its bytes may be no UTF-8: nothing here depends on it.
    pub(super) fn text(&mut self) -> Result<Cow<'a, [u8]>, JsonError> {
        self.at += 1;
        let piece = self.piece()?;
        if self.byte() == Some(b'"') {
            self.at += 1;
            return Ok(Cow::Borrowed(piece));
        }
        let mut text = piece.to_vec();
        loop {
            if self.byte() == Some(b'"') {
                self.at += 1;
                return Ok(Cow::Owned(text));
            }
            self.escape(&mut text)?;
            text.extend_from_slice(self.piece()?);
        }
    }

    /// The part of a string up to its end or the next escape.
    fn piece(&mut self) -> Result<&'a [u8], JsonError> {
        let rest = self.rest();
        let Some(len) = memchr2(b'"', b'\\', rest) else {
            return Err(self.error("a string does not end"));
        };
        let piece = rest.get(..len).unwrap_or_default();
        if let Some(control) = piece.iter().position(|&byte| byte < b' ') {
            self.at += control;
            return Err(self.error("a control character in a string is not escaped"));
        }
        self.at += len;
        Ok(piece)
    }

    fn escape(&mut self, text: &mut Vec<u8>) -> Result<(), JsonError> {
        self.at += 1;
        let byte = match self.byte() {
            Some(byte @ (b'"' | b'\\' | b'/')) => byte,
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => {
                self.at += 1;
                let character = self.unicode_escape()?;
                text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err(self.error("an unknown escape in a string")),
        };
        self.at += 1;
        text.push(byte);
        Ok(())
    }

    /// The digits of `\uXXXX`, two such for a surrogate pair; half a pair reads as U+FFFD.
    fn unicode_escape(&mut self) -> Result<char, JsonError> {
        let first = self.four_digits()?;
        let after = self.at;
        if (0xd800..0xdc00).contains(&first) && self.rest().starts_with(b"\\u") {
            self.at += 2;
            let second = self.four_digits()?;
            if (0xdc00..0xe000).contains(&second) {
                let point = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = after;
        }
        Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn four_digits(&mut self) -> Result<u32, JsonError> {
        let mut value = 0;
        for _ in 0..4 {
            let digit = self.byte().and_then(|byte| char::from(byte).to_digit(16));
            let Some(digit) = digit else {
                return Err(self.error("expected four hex digits"));
            };
            value = value << 4 | digit;
            self.at += 1;
        }
        Ok(value)
    }

    /// A number as it is written; whether it fits is for the caller to see.
    pub(super) fn number(&mut self) -> &'a str {
        let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let rest = self.rest();
        let len = rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len());
        self.at += len;
        rest.get(..len).and_then(|digits| std::str::from_utf8(digits).ok()).unwrap_or_default()
    }

    pub(super) fn boolean(&mut self) -> Result<bool, JsonError> {
        if self.byte() == Some(b't') {
            self.word(b"true")?;
            return Ok(true);
        }
        self.word(b"false")?;
        Ok(false)
    }

    pub(super) fn null(&mut self) -> Result<(), JsonError> {
        self.word(b"null")
    }

    fn word(&mut self, word: &[u8]) -> Result<(), JsonError> {
        if !self.rest().starts_with(word) {
            return Err(self.error("expected true, false or null"));
        }
        self.at += word.len();
        Ok(())
    }

    /// Skips a value, however deep.
    pub(super) fn skip(&mut self) -> Result<(), JsonError> {
        let mut open: Vec<Open> = Vec::new();
        loop {
            match self.peek()? {
                Kind::Object | Kind::List => open.push(self.open()),
                Kind::Text => drop(self.text()?),
                Kind::Number => drop(self.number()),
                Kind::Bool => drop(self.boolean()?),
                Kind::Null => self.null()?,
            }
            while let Some(innermost) = open.last_mut() {
                let more = match innermost.close {
                    b'}' => self.member(innermost)?.is_some(),
                    _ => self.item(innermost)?,
                };
                if more {
                    break;
                }
                open.pop();
            }
            if open.is_empty() {
                return Ok(());
            }
        }
    }

    /// Nothing but white space may follow.
    pub(super) fn end(&mut self) -> Result<(), JsonError> {
        match self.next_byte() {
            None => Ok(()),
            Some(_) => Err(self.error("something follows the request's end")),
        }
    }

    /// The next byte that is no white space; the place reached is then there.
    fn next_byte(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.byte() {
            self.at += 1;
        }
        self.byte()
    }

    fn byte(&self) -> Option<u8> {
        self.body.get(self.at).copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.body.get(self.at..).unwrap_or_default()
    }
}
