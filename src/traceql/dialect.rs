//! Go's dialect of regular expressions, rewritten for the `regex` crate.
//!
//! A pattern is read by Go's grammar and written anew, so that a point that the crate sees
//! otherwise (ASCII classes, octal escapes, brackets within a class) never reaches it. As a pattern
//! must cover the whole value, what only steers which match is found (lazy repetition, names and
//! numbers of groups) is left out.

use std::collections::{HashMap, HashSet};

use super::error::excerpt;

/// Unicode classes of a query. Each takes some kilobytes before any limit of the compiler sees it.
const MAX_UNICODE_CLASSES: usize = 1000;

/// Deepest nesting of groups.
const MAX_GROUPS: usize = 100;

/// Most repetitions of one atom. More than one is only possible with flags in between: `a*(?i)*`.
const MAX_STACKED: u32 = 10;

/// Largest repeat count, also of nested repeats multiplied. RE2's.
const MAX_REPEAT: u32 = 1000;

/// Characters that a pattern can name but no string holds.
const SURROGATES: std::ops::RangeInclusive<u32> = 0xd800..=0xdfff;

/// A class without members.
const NOTHING: &str = r"[^\x{0}-\x{10FFFF}]";

/// Writes a pattern of Go's dialect in that of the `regex` crate, anchored at both ends.
pub(super) fn translate(text: &str, classes: &mut UnicodeClasses) -> Result<String, String> {
    let mut translator = Translator {
        rest: text,
        out: String::from(r"\A(?s:"),
        flags: Flags { fold_case: false, multi_line: false, dot_newline: true },
        groups: Vec::new(),
        names: HashSet::new(),
        classes,
        atom: None,
        weight: 1,
    };
    translator.run()?;
    translator.out.push_str(r")\z");
    Ok(translator.out)
}

struct Translator<'a, 'c> {
    rest: &'a str,
    out: String,
    flags: Flags,
    groups: Vec<Group>,
    names: HashSet<&'a str>,
    classes: &'c mut UnicodeClasses,
    /// What a repetition would apply to.
    atom: Option<Atom>,
    /// Largest product of nested repeat counts in the current group.
    weight: u32,
}

#[derive(Clone, Copy)]
struct Flags {
    fold_case: bool,
    multi_line: bool,
    dot_newline: bool,
}

/// An open group: where it starts in the output and what to return to.
struct Group {
    start: usize,
    flags: Flags,
    weight: u32,
}

/// The last thing written, and the largest product of repeat counts within.
#[derive(Clone, Copy)]
struct Atom {
    start: usize,
    end: usize,
    weight: u32,
    repeats: u32,
}

impl<'a> Translator<'a, '_> {
    fn run(&mut self) -> Result<(), String> {
        let mut after_repeat = false;
        while let Some(c) = self.rest.chars().next() {
            let before = self.rest;
            self.skip(c);
            let repeat = match c {
                '*' => Some((0, None)),
                '+' => Some((1, None)),
                '?' => Some((0, Some(1))),
                '{' => self.repeat_counts(),
                _ => None,
            };
            if let Some((min, max)) = repeat {
                let name = before.strip_suffix(self.rest).unwrap_or(before);
                if after_repeat {
                    return Err(format!("invalid nested repetition operator: `{name}`"));
                }
                self.repeat(c, name, min, max)?;
                self.rest = self.rest.strip_prefix('?').unwrap_or(self.rest);
                after_repeat = true;
                continue;
            }
            after_repeat = false;
            match c {
                '(' => self.open_group(before)?,
                ')' => self.close_group()?,
                '|' => {
                    self.out.push('|');
                    self.atom = None;
                }
                '[' => self.class(before)?,
                '.' | '^' | '$' => self.push_atom(c.encode_utf8(&mut [0; 4])),
                '\\' => self.escape(before)?,
                c => self.push_literal(u32::from(c)),
            }
        }
        if self.groups.is_empty() { Ok(()) } else { Err("missing closing )".to_owned()) }
    }

    fn skip(&mut self, c: char) {
        self.rest = self.rest.get(c.len_utf8()..).unwrap_or_default();
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.skip(c);
        Some(c)
    }

    fn push_atom(&mut self, text: &str) {
        let start = self.out.len();
        self.out.push_str(text);
        self.atom = Some(Atom { start, end: self.out.len(), weight: 1, repeats: 0 });
    }

    fn push_literal(&mut self, c: u32) {
        match char::from_u32(c) {
            Some(c) => self.push_atom(&regex::escape(c.encode_utf8(&mut [0; 4]))),
            None => self.push_atom(NOTHING),
        }
    }

    /// The counts behind a `{`, or nothing if it is a literal.
    fn repeat_counts(&mut self) -> Option<(u32, Option<u32>)> {
        let (counts, rest) = self.rest.split_once('}')?;
        let (min, max) = match counts.split_once(',') {
            None => {
                let count = repeat_count(counts)?;
                (count, Some(count))
            }
            Some((min, "")) => (repeat_count(min)?, None),
            Some((min, max)) => (repeat_count(min)?, Some(repeat_count(max)?)),
        };
        self.rest = rest;
        Some((min, max))
    }

    /// Repeats the last atom. Flags may have been written behind it.
    fn repeat(&mut self, c: char, name: &str, min: u32, max: Option<u32>) -> Result<(), String> {
        let Some(mut atom) = self.atom else {
            return Err(format!("missing argument to repetition operator: `{name}`"));
        };
        let mut suffix = String::from(c);
        if c == '{' {
            let most = max.unwrap_or(min);
            if min > MAX_REPEAT || most > MAX_REPEAT || most < min {
                return Err(format!("invalid repeat count: `{name}`"));
            }
            if most > 0 {
                atom.weight = atom.weight.saturating_mul(most);
            } else if max.is_some() {
                atom.weight = 1;
            }
            if atom.weight > MAX_REPEAT && most >= 2 {
                return Err(format!("invalid repeat count: `{name}`"));
            }
            suffix = match max {
                Some(max) => format!("{{{min},{max}}}"),
                None => format!("{{{min},}}"),
            };
        }
        if atom.repeats >= MAX_STACKED {
            return Err("expression nests too deeply".to_owned());
        }
        if atom.repeats > 0 {
            self.out.insert_str(atom.start, "(?:");
            suffix.insert(0, ')');
            atom.end += 3;
        }
        self.out.insert_str(atom.end, &suffix);
        atom.end += suffix.len();
        atom.repeats += 1;
        self.weight = self.weight.max(atom.weight);
        self.atom = Some(atom);
        Ok(())
    }

    /// A group, or flags for the rest of the one that is open.
    fn open_group(&mut self, before: &'a str) -> Result<(), String> {
        let mut inner = self.flags;
        if let Some(special) = self.rest.strip_prefix('?') {
            let named = special.strip_prefix("P<").or_else(|| special.strip_prefix('<'));
            if let Some(named) = named {
                self.group_name(named, before)?;
            } else {
                self.rest = special;
                inner = self.group_flags(before)?;
                if self.rest.starts_with(')') {
                    self.skip(')');
                    self.flags = inner;
                    self.out.push_str(&format!("(?{})", inner.text()));
                    return Ok(());
                }
                self.skip(':');
            }
        }
        if self.groups.len() >= MAX_GROUPS {
            return Err("expression nests too deeply".to_owned());
        }
        let start = self.out.len();
        self.groups.push(Group { start, flags: self.flags, weight: self.weight });
        self.out.push_str(&format!("(?{}:", inner.text()));
        self.flags = inner;
        self.weight = 1;
        self.atom = None;
        Ok(())
    }

    fn close_group(&mut self) -> Result<(), String> {
        let Some(group) = self.groups.pop() else {
            return Err("unexpected )".to_owned());
        };
        self.out.push(')');
        let end = self.out.len();
        self.atom = Some(Atom { start: group.start, end, weight: self.weight, repeats: 0 });
        self.flags = group.flags;
        self.weight = self.weight.max(group.weight);
        Ok(())
    }

    fn group_name(&mut self, named: &'a str, before: &str) -> Result<(), String> {
        let invalid = || format!("invalid named capture: `{}`", excerpt(&before));
        let (name, rest) = named.split_once('>').ok_or_else(invalid)?;
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(is_word) || !self.names.insert(name) {
            return Err(invalid());
        }
        self.rest = rest;
        Ok(())
    }

    /// The flags behind `(?`, up to `:` or `)`.
    fn group_flags(&mut self, before: &str) -> Result<Flags, String> {
        let invalid = || format!("invalid or unsupported Perl syntax: `{}`", excerpt(&before));
        let mut flags = self.flags;
        let mut on = true;
        let mut after_minus = false;
        loop {
            match self.rest.chars().next().ok_or_else(|| "missing closing )".to_owned())? {
                ':' | ')' if after_minus => return Err(invalid()),
                ':' | ')' => return Ok(flags),
                '-' if on => {
                    on = false;
                    after_minus = true;
                    self.skip('-');
                    continue;
                }
                'i' => flags.fold_case = on,
                'm' => flags.multi_line = on,
                's' => flags.dot_newline = on,
                // Swaps greedy and lazy, which does not change what matches as a whole.
                'U' => {}
                _ => return Err(invalid()),
            }
            after_minus = false;
            self.next();
        }
    }

    /// What stands behind a backslash, outside of a class.
    fn escape(&mut self, before: &'a str) -> Result<(), String> {
        let Some(c) = self.rest.chars().next() else {
            return Err("trailing backslash at end of expression".to_owned());
        };
        let atom = match c {
            'A' => r"\A",
            'z' => r"\z",
            'b' => r"(?-u:\b)",
            'B' => r"(?-u:\B)",
            'Q' => {
                self.skip(c);
                let (literal, rest) = self.rest.split_once(r"\E").unwrap_or((self.rest, ""));
                literal.chars().for_each(|c| self.push_literal(u32::from(c)));
                self.rest = rest;
                return Ok(());
            }
            _ => {
                if let Some(class) = self.class_escape(before)? {
                    self.push_atom(&class);
                } else {
                    let c = self.char_escape(before)?;
                    self.push_literal(c);
                }
                return Ok(());
            }
        };
        self.skip(c);
        self.push_atom(atom);
        Ok(())
    }

    /// `\d`, `\pL` and the like; nothing if it is another escape.
    fn class_escape(&mut self, before: &str) -> Result<Option<String>, String> {
        let Some(c) = self.rest.chars().next() else {
            return Ok(None);
        };
        let class = match c {
            'd' => "[0-9]",
            'D' => "[^0-9]",
            's' => r"[\t\n\f\r ]",
            'S' => r"[^\t\n\f\r ]",
            'w' => "[0-9A-Za-z_]",
            'W' => "[^0-9A-Za-z_]",
            'p' | 'P' => {
                self.skip(c);
                return self.unicode_class(c == 'P', before).map(Some);
            }
            _ => return Ok(None),
        };
        self.skip(c);
        Ok(Some(class.to_owned()))
    }

    /// `L` or `{Greek}` behind a `\p`: a general category or a script.
    fn unicode_class(&mut self, negated: bool, before: &str) -> Result<String, String> {
        let invalid = || format!("invalid character class range: `{}`", excerpt(&before));
        let name = match self.rest.strip_prefix('{') {
            Some(inner) => {
                let (name, rest) = inner.split_once('}').ok_or_else(invalid)?;
                self.rest = rest;
                name.to_owned()
            }
            None => self.next().ok_or_else(invalid)?.to_string(),
        };
        let (name, caret) = match name.strip_prefix('^') {
            Some(name) => (name, true),
            None => (name.as_str(), false),
        };
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ' ');
        if name.is_empty() || !name.chars().all(is_word) {
            return Err(invalid());
        }
        let letter = if negated == caret { 'p' } else { 'P' };
        let property = self.classes.property(name).ok_or_else(invalid)?;
        Ok(format!(r"\{letter}{{{property}={name}}}"))
    }

    /// The character that an escape stands for.
    fn char_escape(&mut self, before: &str) -> Result<u32, String> {
        let invalid = || format!("invalid escape sequence: `{}`", excerpt(&before));
        let c = self.next().ok_or("trailing backslash at end of expression")?;
        Ok(match c {
            '0'..='7' => {
                // A single digit other than 0 would be a back reference.
                if c != '0' && !self.rest.starts_with(|c: char| c.is_digit(8)) {
                    return Err(invalid());
                }
                let mut value = c.to_digit(8).ok_or_else(invalid)?;
                for _ in 0..2 {
                    let Some(digit) = self.rest.chars().next().and_then(|c| c.to_digit(8)) else {
                        break;
                    };
                    value = value * 8 + digit;
                    self.next();
                }
                value
            }
            'x' => self.hex_escape().ok_or_else(invalid)?,
            'a' => 0x07,
            'f' => 0x0c,
            'n' => 0x0a,
            'r' => 0x0d,
            't' => 0x09,
            'v' => 0x0b,
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => u32::from(c),
            _ => return Err(invalid()),
        })
    }

    /// `41` or `{1F600}` behind `\x`.
    fn hex_escape(&mut self) -> Option<u32> {
        let digits = match self.rest.strip_prefix('{') {
            Some(inner) => {
                let (digits, rest) = inner.split_once('}')?;
                self.rest = rest;
                digits
            }
            None => {
                let (digits, rest) = self.rest.split_at_checked(2)?;
                self.rest = rest;
                digits
            }
        };
        if !digits.chars().all(|c| c.is_ascii_hexdigit()) {
            return None;
        }
        let value = u32::from_str_radix(digits, 16).ok()?;
        (value <= u32::from(char::MAX)).then_some(value)
    }

    /// A class in brackets; the opening one is read.
    fn class(&mut self, before: &str) -> Result<(), String> {
        let mut negated = false;
        if let Some(rest) = self.rest.strip_prefix('^') {
            self.rest = rest;
            negated = true;
        }
        let mut members = String::new();
        let mut first = true;
        while first || !self.rest.starts_with(']') {
            first = false;
            if let Some(inner) = self.rest.strip_prefix("[:")
                && let Some((name, rest)) = inner.split_once(":]")
            {
                members.push_str(&posix_class(name)?);
                self.rest = rest;
                continue;
            }
            if let Some(escape) = self.rest.strip_prefix('\\') {
                let here = self.rest;
                self.rest = escape;
                if let Some(class) = self.class_escape(here)? {
                    members.push_str(&class);
                    continue;
                }
                self.rest = here;
            }
            self.class_range(&mut members, before)?;
        }
        self.skip(']');
        let class = match (members.is_empty(), negated) {
            (true, false) => NOTHING.to_owned(),
            (true, true) => r"[\x{0}-\x{10FFFF}]".to_owned(),
            (false, false) => format!("[{members}]"),
            (false, true) => format!("[^{members}]"),
        };
        self.push_atom(&class);
        Ok(())
    }

    /// One character or a range of them.
    fn class_range(&mut self, members: &mut String, before: &str) -> Result<(), String> {
        let from = self.class_char(before)?;
        let mut to = from;
        if let Some(rest) = self.rest.strip_prefix('-')
            && !rest.is_empty()
            && !rest.starts_with(']')
        {
            self.rest = rest;
            to = self.class_char(before)?;
            if to < from {
                return Err(format!("invalid character class range: `{}`", excerpt(&before)));
            }
        }
        let below = (from, to.min(SURROGATES.start() - 1));
        let above = (from.max(SURROGATES.end() + 1), to);
        for (from, to) in [below, above] {
            if from <= to {
                members.push_str(&format!(r"\x{{{from:X}}}-\x{{{to:X}}}"));
            }
        }
        Ok(())
    }

    fn class_char(&mut self, before: &str) -> Result<u32, String> {
        let here = self.rest;
        match self.next() {
            None => Err(format!("missing closing ]: `{}`", excerpt(&before))),
            Some('\\') => self.char_escape(here),
            Some(c) => Ok(u32::from(c)),
        }
    }
}

impl Flags {
    /// The flags as the `regex` crate takes them, on ones and off ones.
    fn text(self) -> String {
        let flags = [('i', self.fold_case), ('m', self.multi_line), ('s', self.dot_newline)];
        let pick = |set: bool| flags.iter().filter(move |flag| flag.1 == set).map(|flag| flag.0);
        let (on, off): (String, String) = (pick(true).collect(), pick(false).collect());
        if off.is_empty() { on } else { format!("{on}-{off}") }
    }
}

/// A repeat count: digits without leading zeros. Counts of more digits than Go reads are too large
/// anyway.
fn repeat_count(text: &str) -> Option<u32> {
    let leading_zero = text.len() > 1 && text.starts_with('0');
    if text.is_empty() || leading_zero || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u32::MAX))
}

/// The class `[:name:]`, which may be negated as `[:^name:]`.
fn posix_class(name: &str) -> Result<String, String> {
    const NAMES: [&str; 14] = [
        "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
        "space", "upper", "word", "xdigit",
    ];
    if NAMES.contains(&name.strip_prefix('^').unwrap_or(name)) {
        Ok(format!("[:{name}:]"))
    } else {
        Err(format!("invalid character class range: `{}`", excerpt(&name)))
    }
}

/// The Unicode classes of a query: how many more may come, and of which property those seen are.
pub(super) struct UnicodeClasses {
    left: usize,
    properties: HashMap<String, &'static str>,
}

impl UnicodeClasses {
    pub(super) fn new() -> UnicodeClasses {
        UnicodeClasses { left: MAX_UNICODE_CLASSES, properties: HashMap::new() }
    }

    /// The property that has a value of this name: general category or script.
    fn property(&mut self, name: &str) -> Option<&'static str> {
        self.left = self.left.checked_sub(1)?;
        let key = name.replace(['_', '-', ' '], "").to_ascii_lowercase();
        if let Some(property) = self.properties.get(&key) {
            return Some(property);
        }
        let exists =
            |property: &&str| regex::Regex::new(&format!(r"\p{{{property}={name}}}")).is_ok();
        let property = ["gc", "sc"].into_iter().find(exists)?;
        self.properties.insert(key, property);
        Some(property)
    }
}
