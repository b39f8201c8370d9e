//! Text to tokens.
//!
//! The lexer never fails: text that is no token becomes one last `Token::Invalid`, so that the
//! parser reports whichever mistake comes first.

use std::sync::Arc;

use super::ast::Static;
use super::error::excerpt;
use super::literal::{duration, is_duration_char, split_while, unescape};
use super::token::{
    AttributeName, Lexeme, Prefix, Token, attribute_prefix, intrinsic_prefix, is_name_char,
    keyword, operator, scoped_intrinsic,
};

/// Reads all tokens of a text. The last one is `Token::End`.
pub(super) fn lex(text: &str) -> Vec<Lexeme> {
    let mut lexer = Lexer { text, rest: text };
    let mut lexemes = Vec::new();
    loop {
        let blank = lexer.skip_blank();
        let start = lexer.offset();
        let token = match blank.and_then(|()| lexer.token()) {
            Ok(token) => token,
            Err(fault) => {
                let end = fault.end.unwrap_or(text.len());
                let token = Token::Invalid { message: fault.message, advice: fault.advice };
                lexemes.push(Lexeme { token, start, end });
                lexemes.push(Lexeme { token: Token::End, start: text.len(), end: text.len() });
                return lexemes;
            }
        };
        let end_of_text = token == Token::End;
        lexemes.push(Lexeme { token, start, end: lexer.offset() });
        if end_of_text {
            return lexemes;
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    rest: &'a str,
}

/// Text that is no token; `end` is where it ends, if not with the text.
struct Fault {
    message: String,
    advice: Option<String>,
    end: Option<usize>,
}

impl Fault {
    /// A token that the text ends within.
    fn unfinished(message: &str) -> Fault {
        Fault { message: message.to_owned(), advice: None, end: None }
    }

    fn at(end: usize, message: String) -> Fault {
        Fault { message, advice: None, end: Some(end) }
    }

    fn advise(self, advice: &str) -> Fault {
        Fault { advice: Some(advice.to_owned()), ..self }
    }
}

impl<'a> Lexer<'a> {
    fn offset(&self) -> usize {
        self.text.len() - self.rest.len()
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn take_while(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let (taken, rest) = split_while(self.rest, belongs);
        self.rest = rest;
        taken
    }

    /// Skips white space and comments.
    fn skip_blank(&mut self) -> Result<(), Fault> {
        loop {
            self.take_while(|c| matches!(c, ' ' | '\t' | '\r' | '\n'));
            if self.rest.starts_with("//") {
                self.take_while(|c| c != '\n');
            } else if let Some(comment) = self.rest.strip_prefix("/*") {
                let Some((_, rest)) = comment.split_once("*/") else {
                    return Err(Fault::unfinished("comment not terminated"));
                };
                self.rest = rest;
            } else {
                return Ok(());
            }
        }
    }

    fn token(&mut self) -> Result<Token, Fault> {
        let Some(first) = self.peek() else {
            return Ok(Token::End);
        };
        let second = self.rest.chars().nth(1);
        match first {
            '"' => self.string(),
            '`' => self.raw_string(),
            '0'..='9' => self.number(),
            '.' if second.is_some_and(|c| c.is_ascii_digit()) => self.number(),
            '.' => {
                self.rest = self.rest.get(1..).unwrap_or_default();
                self.attribute(None)
            }
            _ if first.is_alphabetic() || first == '_' => self.word(),
            _ => self.operator(first),
        }
    }

    /// The longest operator. None is longer than three bytes.
    fn operator(&mut self, first: char) -> Result<Token, Fault> {
        for length in [3, 2, 1] {
            let Some((text, rest)) = self.rest.split_at_checked(length) else {
                continue;
            };
            if let Some(token) = operator(text) {
                self.rest = rest;
                return Ok(token);
            }
        }
        let end = self.offset() + first.len_utf8();
        let fault = Fault::at(end, format!("unexpected character {:?}", first.to_string()));
        Err(match first {
            '\'' | '\u{2018}' | '\u{2019}' | '\u{201c}' | '\u{201d}' => {
                fault.advise("strings are written in double quotes: \"text\"")
            }
            '&' => fault.advise("write && for and"),
            ';' => fault.advise("write && between conditions"),
            '[' => fault.advise("there are no lists: write x = 1 || x = 2, or x =~ \"a|b\""),
            _ => fault,
        })
    }

    fn string(&mut self) -> Result<Token, Fault> {
        let body = self.rest.get(1..).unwrap_or_default();
        let mut escaped = false;
        for (at, c) in body.char_indices() {
            match c {
                '\n' => break,
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => {
                    let (text, rest) = body.split_at(at);
                    self.rest = rest.get(1..).unwrap_or_default();
                    let value = unescape(text).map_err(|what| Fault::at(self.offset(), what))?;
                    return Ok(Token::Literal(Static::Str(value.into())));
                }
                _ => {}
            }
        }
        Err(Fault::unfinished("string not terminated"))
    }

    fn raw_string(&mut self) -> Result<Token, Fault> {
        let body = self.rest.get(1..).unwrap_or_default();
        let Some((text, rest)) = body.split_once('`') else {
            return Err(Fault::unfinished("string not terminated"));
        };
        self.rest = rest;
        Ok(Token::Literal(Static::Str(text.replace('\r', "").into())))
    }

    /// A number, or a duration if the characters behind it make it one.
    fn number(&mut self) -> Result<Token, Fault> {
        let start = self.rest;
        let whole = self.take_while(|c| c.is_ascii_digit());
        let mut is_float = false;
        if let Some(rest) = self.rest.strip_prefix('.') {
            is_float = true;
            self.rest = rest;
            self.take_while(|c| c.is_ascii_digit());
        }
        if let Some(rest) = self.rest.strip_prefix(['e', 'E']) {
            is_float = true;
            self.rest = rest.strip_prefix(['+', '-']).unwrap_or(rest);
            if self.take_while(|c| c.is_ascii_digit()).is_empty() {
                return Err(Fault::at(self.offset(), "exponent has no digits".to_owned()));
            }
        }
        let text = start.get(..start.len() - self.rest.len()).unwrap_or_default();
        if !is_float && whole.starts_with('0') && whole.contains(['8', '9']) {
            let what = format!("invalid number {}: it starts with 0", excerpt(&text));
            return Err(Fault::at(self.offset(), what));
        }
        if self.peek().is_some_and(is_duration_char) {
            let (run, rest) = split_while(start, is_duration_char);
            if let Some(nanos) = duration(run) {
                self.rest = rest;
                return Ok(Token::Literal(Static::Duration(nanos)));
            }
        }
        let value = if is_float {
            text.parse().ok().filter(|value: &f64| value.is_finite()).map(Static::Float)
        } else {
            text.parse().ok().map(Static::Int)
        };
        let out_of_range =
            || Fault::at(self.offset(), format!("number {} is out of range", excerpt(&text)));
        value.map(Token::Literal).ok_or_else(out_of_range)
    }

    /// A keyword, an identifier, or a scope with the attribute or intrinsic behind it.
    fn word(&mut self) -> Result<Token, Fault> {
        let word = self.take_while(|c| c.is_alphanumeric() || c == '_');
        if let Some(prefix) = attribute_prefix(word)
            && let Some(rest) = self.rest.strip_prefix('.')
        {
            self.rest = rest;
            return self.attribute(Some(prefix));
        }
        if let Some(prefix) = intrinsic_prefix(word)
            && let Some(rest) = self.rest.strip_prefix(':')
        {
            self.rest = rest;
            return self.intrinsic(prefix, word);
        }
        Ok(keyword(word).unwrap_or_else(|| Token::Identifier(word.into())))
    }

    fn attribute(&mut self, prefix: Option<Prefix>) -> Result<Token, Fault> {
        let parent = prefix == Some(Prefix::Parent);
        let mut scope = match prefix {
            Some(Prefix::Scope(scope)) => Some(scope),
            Some(Prefix::Parent | Prefix::Trace) | None => None,
        };
        if parent {
            for word in ["span", "resource"] {
                let Some(rest) = self.rest.strip_prefix(word).and_then(|r| r.strip_prefix('.'))
                else {
                    continue;
                };
                if let Some(Prefix::Scope(inner)) = attribute_prefix(word) {
                    scope = Some(inner);
                    self.rest = rest;
                    break;
                }
            }
        }
        let name = self.attribute_name()?;
        Ok(Token::Attribute(AttributeName { parent, scope, name }))
    }

    /// Bare characters and quoted parts, joined.
    fn attribute_name(&mut self) -> Result<Arc<str>, Fault> {
        let before = self.rest;
        let mut name = String::new();
        loop {
            name.push_str(self.take_while(is_name_char));
            let Some(quoted) = self.rest.strip_prefix('"') else {
                break;
            };
            self.rest = quoted;
            self.quoted_part(&mut name)?;
        }
        if before.len() == self.rest.len() {
            let what = "attribute name is missing".to_owned();
            return Err(match self.peek() {
                None => Fault::unfinished(&what),
                Some(_) => Fault::at(self.offset(), what),
            });
        }
        Ok(name.into())
    }

    fn quoted_part(&mut self, name: &mut String) -> Result<(), Fault> {
        let mut chars = self.rest.chars();
        while let Some(c) = chars.next() {
            match c {
                '"' => {
                    self.rest = chars.as_str();
                    return Ok(());
                }
                '\\' => match chars.next() {
                    Some(c @ ('"' | '\\')) => name.push(c),
                    Some(_) => {
                        let end = self.text.len() - chars.as_str().len();
                        let what = "only \\\" and \\\\ are escapes in an attribute name";
                        return Err(Fault::at(end, what.to_owned()));
                    }
                    None => break,
                },
                c => name.push(c),
            }
        }
        Err(Fault::unfinished("quoted attribute name not terminated"))
    }

    fn intrinsic(&mut self, prefix: Prefix, scope: &str) -> Result<Token, Fault> {
        self.skip_blank()?;
        let word = self.take_while(|c| c.is_alphanumeric() || c == '_');
        if let Some(intrinsic) = scoped_intrinsic(prefix, word) {
            return Ok(Token::Intrinsic(intrinsic));
        }
        if self.rest.is_empty() {
            return Err(Fault::unfinished(&format!(
                "unknown intrinsic {scope}:{}",
                excerpt(&word)
            )));
        }
        let fault =
            Fault::at(self.offset(), format!("unknown intrinsic {scope}:{}", excerpt(&word)));
        let name = excerpt(&format!("{word}{}", split_while(self.rest, is_name_char).0));
        Err(match prefix {
            Prefix::Scope(_) if !word.is_empty() => {
                fault.advise(&format!("attributes are written with a dot: {scope}.{name}"))
            }
            _ => fault,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traceql::ast::{ArithmeticOp, CompareOp, Intrinsic, LogicalOp, Scope};
    use crate::traceql::token::{MetricWord, Token as T};

    fn tokens(text: &str) -> Vec<Token> {
        let mut tokens: Vec<_> = lex(text).into_iter().map(|lexeme| lexeme.token).collect();
        assert_eq!(tokens.pop(), Some(Token::End));
        tokens
    }

    fn attribute(scope: Option<Scope>, name: &str) -> Token {
        T::Attribute(AttributeName { parent: false, scope, name: name.into() })
    }

    #[test]
    fn names() {
        let cases = [
            (".a-b*2", attribute(None, "a-b*2")),
            ("span.a.\"b c\".d", attribute(Some(Scope::Span), "a.b c.d")),
            ("span.pre\"x y\"", attribute(Some(Scope::Span), "prex y")),
            ("resource.\"\"", attribute(Some(Scope::Resource), "")),
            ("span.resource.x", attribute(Some(Scope::Span), "resource.x")),
            ("event.\"a\\\"b\\\\\"", attribute(Some(Scope::Event), "a\"b\\")),
            ("span.5//x", attribute(Some(Scope::Span), "5//x")),
            ("span: /* any */ name", T::Intrinsic(Intrinsic::Name)),
            ("trace:rootService", T::Intrinsic(Intrinsic::RootServiceName)),
            ("rate", T::Metric(MetricWord::Rate)),
            ("größe_1", T::Identifier("größe_1".into())),
        ];
        for (text, token) in cases {
            assert_eq!(tokens(text), [token], "{text}");
        }
        let parent = |scope, name: &str| {
            T::Attribute(AttributeName { parent: true, scope, name: name.into() })
        };
        assert_eq!(tokens("parent.x"), [parent(None, "x")]);
        assert_eq!(tokens("parent.span.x"), [parent(Some(Scope::Span), "x")]);
        assert_eq!(tokens("parent.event.x"), [parent(None, "event.x")]);
        assert_eq!(tokens("parent.spanner"), [parent(None, "spanner")]);
    }

    #[test]
    fn operators_are_greedy() {
        let equal = T::Compare(CompareOp::Equal);
        assert_eq!(
            tokens(".a=.b&&!.c"),
            [
                attribute(None, "a"),
                equal.clone(),
                attribute(None, "b"),
                T::Logical(LogicalOp::And),
                T::Not,
                attribute(None, "c"),
            ]
        );
        assert_eq!(tokens("=="), [equal.clone(), equal]);
        assert_eq!(tokens("!&&"), [T::Not, T::Logical(LogicalOp::And)]);
        assert_eq!(tokens("! >").len(), 2);
        assert_eq!(tokens("!>>&<<&~").len(), 3);
    }

    #[test]
    fn numbers() {
        let int = |value| T::Literal(Static::Int(value));
        let float = |value| T::Literal(Static::Float(value));
        let minus = T::Arithmetic(ArithmeticOp::Sub);
        assert_eq!(tokens("017"), [int(17)]);
        assert_eq!(tokens(".5"), [float(0.5)]);
        assert_eq!(tokens("5."), [float(5.0)]);
        assert_eq!(tokens("2.5E-1"), [float(0.25)]);
        assert_eq!(tokens("008.5"), [float(8.5)]);
        assert_eq!(tokens("1-1s"), [int(1), minus, T::Literal(Static::Duration(1_000_000_000))]);
        assert_eq!(tokens("0xff"), [int(0), T::Identifier("xff".into())]);
        assert_eq!(tokens("2.0with"), [float(2.0), T::With]);
        assert_eq!(tokens("1..2"), [float(1.0), float(0.2)]);
    }

    #[test]
    fn invalid_text_ends_the_tokens() {
        for text in [
            "\"open",
            "\"a\nb\"",
            "`open",
            "/* open",
            "span. x",
            "span.",
            "span.\"open",
            "span.\"\\t\"",
            "span:",
            "span:Name",
            "'x'",
            "a & b",
            "008",
            "1e999",
            "9223372036854775808",
            "\u{a0}",
        ] {
            let tokens = tokens(text);
            assert!(matches!(tokens.last(), Some(T::Invalid { .. })), "{text}: {tokens:?}");
        }
    }
}
