//! Regular expressions: Go's RE2 dialect, run by the `regex` crate.
//!
//! `dialect` rewrites a pattern for the crate; here it is compiled, within limits.

use std::fmt;
use std::sync::Arc;

use ::regex::bytes::{Regex, RegexBuilder};

use super::dialect::{UnicodeClasses, translate};

/// Memory of a pattern that most patterns stay far below.
const SMALL_BYTES: usize = 64 * 1024;

/// Memory of the largest pattern: somewhat more than `\pL{100}` takes.
const LARGE_BYTES: usize = 8 * 1024 * 1024;

/// Memory of all patterns of a query, counted at the limit they were compiled with.
const QUERY_BYTES: usize = 64 * 1024 * 1024;

/// A compiled pattern; it covers the whole value. Two are equal if their texts are.
#[derive(Clone)]
pub struct Pattern {
    text: Arc<str>,
    regex: Regex,
}

impl Pattern {
    /// The pattern as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The pattern compiled: it matches whole values.
    pub fn regex(&self) -> &Regex {
        &self.regex
    }

    pub fn is_match(&self, value: &str) -> bool {
        self.regex.is_match(value.as_bytes())
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.text == other.text
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pattern").field(&self.text).finish()
    }
}

/// Compiles the patterns of one query within one budget of memory.
pub(super) struct PatternCompiler {
    left_bytes: usize,
    classes: UnicodeClasses,
}

impl PatternCompiler {
    pub(super) fn new() -> PatternCompiler {
        PatternCompiler { left_bytes: QUERY_BYTES, classes: UnicodeClasses::new() }
    }

    /// Compiles a pattern, or says what is wrong with it.
    pub(super) fn compile(&mut self, text: &Arc<str>) -> Result<Pattern, String> {
        let translated = translate(text, &mut self.classes)?;
        for limit in [SMALL_BYTES, LARGE_BYTES] {
            let Some(left) = self.left_bytes.checked_sub(limit) else {
                return Err("too many or too large patterns in one query".to_owned());
            };
            let built = RegexBuilder::new(&translated).size_limit(limit).build();
            match built {
                Ok(regex) => {
                    self.left_bytes = left;
                    return Ok(Pattern { text: Arc::clone(text), regex });
                }
                Err(::regex::Error::CompiledTooBig(_)) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Err("expression is too large".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(text: &str) -> Result<Pattern, String> {
        PatternCompiler::new().compile(&text.into())
    }

    /// Checks a pattern against values that match and values that do not.
    fn check(text: &str, matching: &[&str], other: &[&str]) {
        let pattern = compile(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        for value in matching {
            assert!(pattern.is_match(value), "{text} must match {value:?}");
        }
        for value in other {
            assert!(!pattern.is_match(value), "{text} must not match {value:?}");
        }
    }

    #[test]
    fn patterns_cover_the_whole_value() {
        check("a|bc", &["a", "bc"], &["ab", "xbc", "ac", ""]);
        check("a.b", &["a\nb", "axb"], &["ab", "a\r\nb"]);
        check("(?-s)a.b", &["axb"], &["a\nb"]);
        check("^a$", &["a"], &["a\n"]);
        check("(?m)a$\\n^b", &["a\nb"], &["ab"]);
        check("", &[""], &["a"]);
        check("a|", &["a", ""], &["b"]);
        check("a??b*?", &["", "abb"], &["ba"]);
    }

    #[test]
    fn classes_are_ascii() {
        check(r"\d+", &["09"], &["\u{663}"]);
        check(r"\w+", &["aZ_9"], &["ä"]);
        check(r"\W", &["ä", " "], &["a"]);
        check(r"\s", &["\t", "\n", " "], &["\u{a0}", "\u{b}"]);
        check(r".\b.*", &["a b"], &["ä b"]);
        check(r"ä\b.", &[], &["äx "]);
        check(r"a\Bb", &["ab"], &[]);
        check(r"é\Bé", &["éé"], &[]);
        check("[[:word:]-]+", &["a-b"], &["ä"]);
        check("[[:^alpha:]]", &["1", "ä"], &["a"]);
        check(r"[\D]", &["x"], &["1"]);
        check(r"[^\w]", &["-"], &["x"]);
    }

    #[test]
    fn brackets_and_set_operators_are_literals_within_a_class() {
        check("[[a]&&[b]]", &["[&&b]", "a&&b]"], &["a", "b", "&"]);
        check("[a&&b]", &["a", "b", "&"], &["&&"]);
        check("[+--b~~c]", &["+", ",", "-", "b", "~", "c"], &["a"]);
        check("[]a]", &["]", "a"], &["[]a]"]);
        check("[^]a]", &["x"], &["]", "a"]);
        check("[a-]", &["-"], &["b"]);
        check(r"[\^\-\]]", &["^", "-", "]"], &["\\"]);
        check("[:]", &[":"], &[]);
        check(r"[\x{D800}]", &[], &["a"]);
        check(r"[^\x{D800}]", &["a"], &[]);
        check(r"[\x{D000}-\x{E000}]", &["\u{d7ff}", "\u{e000}"], &["a"]);
    }

    #[test]
    fn escapes_are_go() {
        check(r"\Qa.b\E+", &["a.b", "a.bb"], &["axb"]);
        check(r"\Q(", &["("], &[]);
        check(r"\123\x41\x{1F600}\0", &["SA\u{1f600}\0"], &[]);
        check(r"\07", &["\u{7}"], &[]);
        check(r"\<\_\ \#", &["<_ #"], &[]);
        check(r"\a\f\n\r\t\v", &["\u{7}\u{c}\n\r\t\u{b}"], &[]);
        check(r"\pL\p{Greek}\PN\p{^Lu}", &["aαxy"], &["aαxY", "1αxy"]);
        check("a{,3}x{", &["a{,3}x{"], &["aax{"]);
        check("a{02}{", &["a{02}{"], &[]);
        check("#[ ] # a", &["#  # a"], &[]);
    }

    #[test]
    fn groups_and_flags() {
        check("(?<n>a)(?P<m>b)", &["ab"], &["a"]);
        check("(?i)aB(?-i)c", &["Abc"], &["AbC"]);
        check("(?i:a)b", &["Ab"], &["AB"]);
        check("(?ii-i)a(?)b", &["ab"], &["AB"]);
        check("x(?i)*|y", &["xx", "Y"], &["X"]);
        check("a+(?i)?", &["", "aa"], &["A"]);
        check("(?U)a+", &["aa"], &[]);
        check("(?i)k", &["K", "\u{212a}"], &["j"]);
        check("^*a(?:)*b", &["ab"], &[]);
        check("(?:a{2}){3}", &["aaaaaa"], &["aaaaa"]);
        check("x{1000}", &[&"x".repeat(1000)], &[]);
        check("(a{10}){100}|(a{1000}){0}", &[""], &[]);
    }

    #[test]
    fn go_refuses_these() {
        for text in [
            "*",
            "a**",
            "a*+",
            "a{2}{3}",
            "a|*",
            "(*)",
            "x{1001}",
            "a{2,1}",
            "(a{11}){100}",
            "(",
            ")",
            "[a",
            "[a-\\d]",
            "[b-a]",
            "[[:foo:]]",
            r"\",
            r"\1",
            r"\8",
            r"\h",
            r"\C",
            r"\Z",
            r"\E",
            r"\u0041",
            r"\x4",
            r"\x{}",
            r"\x{110000}",
            r"\p{Foo}",
            r"\p",
            r"\p{Alphabetic}",
            r"\p{sc=Greek}",
            "(?x)a",
            "(?=a)",
            "(?!a)",
            "(?<=a)b",
            "(?<!a)",
            "(?P=n)",
            "(?P<n>a)(?<n>b)",
            "(?<>a)",
            "(?i-)",
            "(?i",
            "(?",
            "(?#a)",
            "(?>a)",
        ] {
            assert!(compile(text).is_err(), "{text}");
        }
    }

    #[test]
    fn memory_is_bounded() {
        assert!(compile(r"\pL{100}").is_ok());
        assert!(compile(r"(?:\pL{30}){30}").is_err());
        assert!(compile(&r"\pL".repeat(2000)).is_err());
        assert!(compile(&"(".repeat(100_000)).is_err());
        assert!(compile(&format!("a{}", "(?i)*".repeat(20_000))).is_err());
        let mut compiler = PatternCompiler::new();
        let compiled = (0..2000).filter(|_| compiler.compile(&"a".into()).is_ok()).count();
        assert_eq!(compiled, QUERY_BYTES / SMALL_BYTES);
    }
}
