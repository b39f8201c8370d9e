//! The error of a query that cannot be run.

use std::fmt::Display;

use thiserror::Error;

/// What is wrong with a query. All kinds are the client's error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The text is not in the grammar, or a literal cannot be read.
    Parse,
    /// The text is a query, but its types or arguments do not fit.
    Type,
    /// A query that is well-formed and refused.
    Unsupported,
}

/// Why a query was refused.
///
/// The first line of `message` says what is wrong, for syntax errors with the place in Tempo's
/// wording (`parse error at line 1, col 3: …`). A second line, if there is one, says what to write
/// instead.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct ParseError {
    pub kind: ErrorKind,
    pub message: String,
}

impl ParseError {
    /// A syntax error at byte `offset` of `text`.
    pub(super) fn syntax(text: &str, offset: usize, what: &str, advice: Option<String>) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
        let message = format!("parse error at line {line}, col {column}: {what}");
        ParseError { kind: ErrorKind::Parse, message }.advise(advice)
    }

    /// The error of a text that is too long to be read.
    pub(super) fn size(message: String) -> Self {
        ParseError { kind: ErrorKind::Parse, message }
    }

    pub(super) fn types(message: impl Into<String>) -> Self {
        ParseError { kind: ErrorKind::Type, message: message.into() }
    }

    pub(super) fn unsupported(message: impl Into<String>) -> Self {
        ParseError { kind: ErrorKind::Unsupported, message: message.into() }
    }

    /// What is wrong, without the advice.
    pub fn first_line(&self) -> &str {
        self.message.lines().next().unwrap_or_default()
    }

    /// Adds the second line.
    pub(super) fn advise(mut self, advice: Option<String>) -> Self {
        if let Some(advice) = advice {
            self.message.push('\n');
            self.message.push_str(&advice);
        }
        self
    }
}

/// The beginning of a text, on one line, for messages.
pub(super) fn excerpt(text: &impl Display) -> String {
    const MOST: usize = 80;
    let text = text.to_string();
    let mut start = String::new();
    for c in text.chars().take(MOST) {
        if c.is_control() { start.extend(c.escape_default()) } else { start.push(c) }
    }
    if text.chars().nth(MOST).is_some() {
        start.push('…');
    }
    start
}
