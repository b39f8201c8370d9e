//! What to write instead: the second line of a syntax error, for mistakes that can be recognised.

use super::ast::CompareOp;
use super::error::excerpt;
use super::token::{Lexeme, Token, keyword};

/// Advice for the token at `at`, which the parser did not expect.
pub(super) fn advice(text: &str, lexemes: &[Lexeme], at: usize) -> Option<String> {
    let found = lexemes.get(at)?;
    let before = at.checked_sub(1).and_then(|at| lexemes.get(at));
    let after = lexemes.get(at + 1);
    let before_token = before.map(|lexeme| &lexeme.token);
    match &found.token {
        Token::Invalid { advice, .. } => advice.clone(),
        Token::Identifier(word) => identifier(text, word, found, before_token, after),
        Token::Compare(op) => comparison(*op, before_token).map(str::to_owned),
        Token::Attribute(_) | Token::Intrinsic(_) | Token::Literal(_) if at == 0 => {
            Some(format!("conditions stand in braces: {{ {} }}", excerpt(&text.trim())))
        }
        Token::Comma if in_braces(lexemes, at) => Some("write && between conditions".to_owned()),
        Token::Pipe if in_braces(lexemes, at) => Some("write || for or".to_owned()),
        Token::End | Token::Pipe | Token::CloseParen if ends_in_aggregate(lexemes, at) => {
            Some("an aggregate must be compared: count() > 1".to_owned())
        }
        Token::TopK | Token::BottomK => {
            Some("it needs a metrics function before it: | rate() | topk(10)".to_owned())
        }
        Token::Reserved => reserved(text.get(found.start..found.end)?),
        _ => None,
    }
}

/// A word that the language does not know.
fn identifier(
    text: &str,
    word: &str,
    found: &Lexeme,
    before: Option<&Token>,
    after: Option<&Lexeme>,
) -> Option<String> {
    match word.to_ascii_lowercase().as_str() {
        "and" => return Some("write && for and".to_owned()),
        "or" => return Some("write || for or".to_owned()),
        "not" => return Some("write ! for not".to_owned()),
        "in" => return Some("write x = 1 || x = 2, or x =~ \"a|b\"".to_owned()),
        "null" => return Some("write nil".to_owned()),
        "trace" => {
            return Some("traces have no attributes; intrinsics are written trace:id".to_owned());
        }
        _ => {}
    }
    let word = excerpt(&word);
    let is_value = matches!(before, Some(Token::Compare(_) | Token::Match { .. }));
    let dotted = after
        .filter(|after| after.start == found.end && matches!(after.token, Token::Attribute(_)));
    if let Some(after) = dotted {
        let name = excerpt(&text.get(found.start..after.end)?);
        return Some(if is_value {
            format!("strings are written in double quotes: \"{name}\"")
        } else {
            format!("write .{name}, span.{name} or resource.{name}")
        });
    }
    if is_value {
        let lower = word.to_ascii_lowercase();
        return Some(match keyword(&lower) {
            Some(Token::Literal(_)) => format!("write {lower}"),
            _ => format!("strings are written in double quotes: \"{word}\""),
        });
    }
    let is_condition = matches!(
        after.map(|after| &after.token),
        Some(Token::Compare(_) | Token::Match { .. } | Token::CloseBrace | Token::Logical(_))
    );
    is_condition.then(|| format!("write .{word}, span.{word} or resource.{word}"))
}

/// A comparison behind another one.
fn comparison(op: CompareOp, before: Option<&Token>) -> Option<&'static str> {
    match (before, op) {
        (Some(Token::Compare(CompareOp::Equal)), CompareOp::Equal) => Some("write = for equal"),
        (Some(Token::Compare(CompareOp::Equal)), CompareOp::Greater) => Some("write >="),
        (Some(Token::Compare(CompareOp::Equal)), CompareOp::Less) => Some("write <="),
        (Some(Token::Compare(CompareOp::Less)), CompareOp::Greater) => Some("write != for unequal"),
        _ => None,
    }
}

/// A keyword that stands behind a scope only.
fn reserved(word: &str) -> Option<String> {
    let written = match word {
        "childCount" => "span:childCount",
        "id" => "span:id or trace:id",
        "parentID" => "span:parentID",
        "rootService" => "rootServiceName",
        "spanID" => "span:id or link:spanID",
        "timeSinceStart" => "event:timeSinceStart",
        "traceID" => "trace:id or link:traceID",
        "version" => "instrumentation:version",
        _ => return None,
    };
    Some(format!("write {written}, or .{word} for an attribute"))
}

fn in_braces(lexemes: &[Lexeme], at: usize) -> bool {
    let before = lexemes.get(..at).unwrap_or_default();
    let brace = before
        .iter()
        .rev()
        .find(|lexeme| matches!(lexeme.token, Token::OpenBrace | Token::CloseBrace));
    brace.is_some_and(|lexeme| lexeme.token == Token::OpenBrace)
}

/// Whether `count()` or `sum(…)` stands right before.
fn ends_in_aggregate(lexemes: &[Lexeme], at: usize) -> bool {
    let mut depth = 0_usize;
    for lexeme in lexemes.get(..at).unwrap_or_default().iter().rev() {
        match lexeme.token {
            Token::CloseParen => depth += 1,
            Token::OpenParen => depth = depth.saturating_sub(1),
            Token::Count | Token::Aggregate(_) if depth == 0 => return true,
            Token::Pipe | Token::Compare(_) => return false,
            _ if depth == 0 => return false,
            _ => {}
        }
    }
    false
}
