//! What stands in a URL behind the question mark, and the texts in it. Pure functions over foreign
//! text; none panics.
//!
//! Durations and moments are `time`'s.
#![deny(clippy::indexing_slicing)]

use std::collections::BTreeMap;

use crate::api::ApiError;

/// The parameters of a query string. The first value of a name wins, and an empty value counts as
/// absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Splits a query string. `+` is a space; a pair with a broken percent escape is dropped, as Go
    /// does it.
    pub fn parse(query: Option<&str>) -> Params {
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let decode = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode_query(name)?, decode_query(value)?))
        };
        Params(pairs.filter_map(decode).collect())
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(known, _)| known == name)?;
        (!value.is_empty()).then_some(value.as_str())
    }

    /// The names that have a value, each once, with that value.
    pub fn present(&self) -> BTreeMap<&str, &str> {
        let mut firsts = BTreeMap::new();
        for (name, value) in &self.0 {
            firsts.entry(name.as_str()).or_insert(value.as_str());
        }
        firsts.retain(|_, value| !value.is_empty());
        firsts
    }

    /// A whole number that is not negative and fits 32 bits.
    pub fn u32(&self, name: &str) -> Result<Option<u32>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => {
                Err(bad(format!("invalid {name}: {text:?} is not a whole number of 32 bits")))
            }
        }
    }

    /// A whole number of 64 bits.
    pub fn i64(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(bad(format!("invalid {name}: {text:?} is not a whole number"))),
        }
    }

    /// A limit whose bad values mean "none", which is 0.
    pub fn lenient_limit(&self, name: &str) -> u32 {
        self.get(name).and_then(|text| text.parse().ok()).unwrap_or(0)
    }
}

/// The client's fault, with the text that it is shown.
pub fn bad(text: impl Into<String>) -> ApiError {
    ApiError::Bad(text.into())
}

/// Decodes the percent escapes of one path segment. `None` if one is broken.
pub fn decode_path(text: &str) -> Option<String> {
    unescape(text.bytes())
}

/// Decodes a name or a value of a query string: percent escapes, and `+` for a space.
pub fn decode_query(text: &str) -> Option<String> {
    unescape(text.bytes().map(|byte| if byte == b'+' { b' ' } else { byte }))
}

/// Bytes that are no UTF-8 come out as U+FFFD.
fn unescape(mut bytes: impl Iterator<Item = u8>) -> Option<String> {
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let high = hex_digit(bytes.next()?)?;
        let low = hex_digit(bytes.next()?)?;
        out.push(high << 4 | low);
    }
    Some(String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into()))
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Parses `tags=`: logfmt, `key=value key2="with \" and spaces" key3`. A key may stand once.
pub fn logfmt(text: &str) -> Result<BTreeMap<String, String>, ApiError> {
    let mut tags = BTreeMap::new();
    let mut scan = Logfmt { text, at: 0 };
    while let Some((key, value)) =
        scan.pair().map_err(|fault| bad(format!("invalid tags: {fault}")))?
    {
        if tags.contains_key(key) {
            return Err(bad(format!("invalid tags: tag {key} has been set twice")));
        }
        tags.insert(key.to_owned(), value);
    }
    Ok(tags)
}

/// A scan over logfmt. `at` is the byte offset of the next character; positions in messages count
/// from 1.
struct Logfmt<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Logfmt<'a> {
    /// The next key and its value, which is empty if there is none.
    fn pair(&mut self) -> Result<Option<(&'a str, String)>, String> {
        self.take_while(|c| c <= ' ');
        if self.peek().is_none() {
            return Ok(None);
        }
        let key = self.take_while(|c| c > ' ' && c != '=' && c != '"');
        match self.peek() {
            Some('"') => return Err(self.unexpected('"')),
            Some('=') if key.is_empty() => return Err(self.unexpected('=')),
            Some('=') => self.at += 1,
            _ => return Ok(Some((key, String::new()))),
        }
        if self.peek() == Some('"') {
            return Ok(Some((key, self.quoted()?)));
        }
        let value = self.take_while(|c| c > ' ' && c != '=' && c != '"');
        match self.peek() {
            Some(found @ ('=' | '"')) => Err(self.unexpected(found)),
            _ => Ok(Some((key, value.to_owned()))),
        }
    }

    /// A value in quotes, with JSON's escapes.
    fn quoted(&mut self) -> Result<String, String> {
        self.at += 1;
        let start = self.at;
        let mut escaped = false;
        let inner = self.take_while(|c| {
            let closes = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            !closes
        });
        if self.peek().is_none() {
            return Err(format!("unterminated quoted value at pos {}", self.at + 1));
        }
        self.at += 1;
        let json = format!("\"{inner}\"");
        if !inner.contains('\\') {
            return Ok(inner.to_owned());
        }
        serde_json::from_str(&json).map_err(|_| format!("invalid quoted value at pos {start}"))
    }

    fn take_while(&mut self, mut wanted: impl FnMut(char) -> bool) -> &'a str {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let end = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.text.get(self.at..)?.chars().next()
    }

    fn unexpected(&self, found: char) -> String {
        format!("unexpected '{found}' at pos {}", self.at + 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tags(text: &str) -> Result<Vec<(String, String)>, String> {
        logfmt(text).map(|tags| tags.into_iter().collect()).map_err(|e| e.to_string())
    }

    fn pairs(expected: &[(&str, &str)]) -> Result<Vec<(String, String)>, String> {
        Ok(expected.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn the_first_value_wins_and_empty_is_absent() {
        let params = Params::parse(Some("a=1&a=2&b=&b=3&c&d=x+y%2Bz&%zz=1&e=%C3%A9&=5&&f=a=b"));
        assert_eq!(params.get("a"), Some("1"));
        assert_eq!(params.get("b"), None);
        assert_eq!(params.get("c"), None);
        assert_eq!(params.get("d"), Some("x y+z"));
        assert_eq!(params.get("e"), Some("é"));
        assert_eq!(params.get("f"), Some("a=b"));
        assert_eq!(params.present().into_keys().collect::<Vec<_>>(), ["", "a", "d", "e", "f"]);
        assert_eq!(Params::parse(None), Params::default());
    }

    #[test]
    fn numbers_name_their_parameter() {
        let params = Params::parse(Some("a=5&b=-1&c=99999999999"));
        assert_eq!(params.u32("a"), Ok(Some(5)));
        assert_eq!(params.u32("none"), Ok(None));
        assert_eq!(params.i64("b"), Ok(Some(-1)));
        assert!(params.u32("b").unwrap_err().to_string().starts_with("invalid b: "));
        assert!(params.u32("c").is_err());
        assert_eq!(params.lenient_limit("b"), 0);
        assert_eq!(params.lenient_limit("a"), 5);
    }

    #[test]
    fn logfmt_as_clients_write_it() {
        assert_eq!(tags(r#"a=b c="d \"e\" é" f g="#), {
            pairs(&[("a", "b"), ("c", "d \"e\" é"), ("f", ""), ("g", "")])
        });
        assert_eq!(tags("  \t"), pairs(&[]));
        assert_eq!(tags(r#"a="" b="x""#), pairs(&[("a", ""), ("b", "x")]));
        let fails = [
            (r#"a="b"#, "invalid tags: unterminated quoted value at pos 5"),
            ("a=1 a=2", "invalid tags: tag a has been set twice"),
            ("=b", "invalid tags: unexpected '=' at pos 1"),
            ("a=b=c", "invalid tags: unexpected '=' at pos 4"),
            (r#"a"b"#, "invalid tags: unexpected '\"' at pos 2"),
            (r#"a="\x""#, "invalid tags: invalid quoted value at pos 3"),
        ];
        for (text, message) in fails {
            assert_eq!(tags(text), Err(message.to_owned()));
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*|[a=\"\\\\ %+&0-9é]{0,24}") {
            let params = Params::parse(Some(&text));
            params.present();
            drop((params.u32("a"), params.i64("a"), params.lenient_limit("a")));
            drop((logfmt(&text), decode_path(&text)));
        }
    }
}
