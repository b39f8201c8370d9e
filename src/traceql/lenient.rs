//! The filter of a query that is still being typed, for tag names and values.

use super::ast::{Body, FieldExpr, LogicalOp, Pipeline, SpansetExpr, SpansetFilter, Stage, Static};
use super::lexer::lex;
use super::token::{Lexeme, Token};
use super::{MAX_QUERY_BYTES, parse};

/// Reads what a query being typed says so far about the spans it wants.
///
/// Unfinished conditions count as true, and so do attributes that stand alone. `None` means that
/// the query restricts nothing, or is more than one `{ … }`, or cannot be read.
pub fn parse_lenient_filter(text: &str) -> Option<SpansetFilter> {
    let query = parse(text).or_else(|_| parse(&completed(text).unwrap_or_default())).ok()?;
    let Body::Spansets(Pipeline { mut stages }) = query.body else {
        return None;
    };
    let (Some(Stage::Spanset(SpansetExpr::Filter(filter))), true) =
        (stages.pop(), stages.is_empty())
    else {
        return None;
    };
    let expr = conditions(filter.expr);
    (expr != FieldExpr::Static(Static::Bool(true))).then_some(SpansetFilter { expr })
}

/// The text with `true` for what is unfinished, and with its missing braces.
fn completed(text: &str) -> Option<String> {
    if text.len() > MAX_QUERY_BYTES {
        return None;
    }
    let lexemes = lex(text);
    let mut output = String::new();
    let mut open_braces = 0_usize;
    let mut done = 0;
    let mut index = 0;
    let token_at = |index: usize| lexemes.get(index).map_or(&Token::End, |lexeme| &lexeme.token);
    while let Some(Lexeme { token, start, end }) = lexemes.get(index) {
        match token {
            Token::End => {}
            // A string or name without its end.
            Token::Invalid { .. } if *end == text.len() => {
                output.push_str(text.get(done..*start)?);
                done = text.len();
            }
            Token::Invalid { .. } | Token::Pipe => return None,
            Token::OpenBrace => open_braces += 1,
            Token::CloseBrace => open_braces = open_braces.saturating_sub(1),
            Token::Attribute(_) | Token::Intrinsic(_)
                if is_comparison(token_at(index + 1)) && ends_operand(token_at(index + 2)) =>
            {
                output.push_str(text.get(done..*start)?);
                output.push_str(" true ");
                index += 1;
                done = lexemes.get(index)?.end;
            }
            Token::Logical(_) if ends_operand(token_at(index + 1)) => {
                output.push_str(text.get(done..*end)?);
                output.push_str(" true ");
                done = *end;
            }
            _ => {}
        }
        index += 1;
    }
    output.push_str(text.get(done..)?);
    output.push('\n');
    output.push_str(&"}".repeat(open_braces));
    Some(output)
}

fn is_comparison(token: &Token) -> bool {
    matches!(token, Token::Compare(_) | Token::Match { .. })
}

/// Whether no operand begins with this token.
fn ends_operand(token: &Token) -> bool {
    matches!(
        token,
        Token::CloseBrace
            | Token::CloseParen
            | Token::Logical(_)
            | Token::Invalid { .. }
            | Token::End
    )
}

/// The expression with `true` for attributes that stand alone.
fn conditions(expr: FieldExpr) -> FieldExpr {
    match expr {
        FieldExpr::Attribute(_) => FieldExpr::Static(Static::Bool(true)),
        FieldExpr::Logical { op, operands } => {
            // `true` ends an or, and leaves an and.
            let is_true = |expr: &FieldExpr| *expr == FieldExpr::Static(Static::Bool(true));
            let mut operands: Vec<_> = operands.into_iter().map(conditions).collect();
            if op == LogicalOp::Or && operands.iter().any(is_true) {
                return FieldExpr::Static(Static::Bool(true));
            }
            operands.retain(|operand| !is_true(operand));
            match operands.pop() {
                None => FieldExpr::Static(Static::Bool(true)),
                Some(only) if operands.is_empty() => only,
                Some(last) => {
                    operands.push(last);
                    FieldExpr::Logical { op, operands }
                }
            }
        }
        expr => expr,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_so_far() {
        let cases = [
            ("{ resource.a = \"b\" }", "{ resource.a = `b` }"),
            ("{ resource.a = \"b\" && span.c = }", "{ resource.a = `b` }"),
            ("{ resource.a=\"b\" && span.c=~", "{ resource.a = `b` }"),
            ("{ resource.a = \"b\" && span.c = \"unfin", "{ resource.a = `b` }"),
            ("{ resource.a = \"b\" && span.", "{ resource.a = `b` }"),
            ("{ resource.a = \"b\" && span.\"x y", "{ resource.a = `b` }"),
            ("{ resource.a = \"b\" && ", "{ resource.a = `b` }"),
            ("{ resource.a = \"b\" && span.c", "{ resource.a = `b` }"),
            ("{ name = && (.b = 1 || .c = 2) }", "{ (.b = 1) || (.c = 2) }"),
            ("{ span.x > 1 // note", "{ span.x > 1 }"),
            ("{ span.vip && !span.x }", "{ !span.x }"),
            ("{ false }", "{ false }"),
        ];
        for (text, filter) in cases {
            let read = parse_lenient_filter(text).map(|filter| filter.to_string());
            assert_eq!(read.as_deref(), Some(filter), "{text}");
        }
    }

    #[test]
    fn nothing_usable() {
        for text in [
            "",
            "{}",
            "{",
            "garbage",
            "{ span.vip }",
            "{ .a = 1 || .b = }",
            "{ .a = 1 } && { .b = 2 }",
            "{ .a = 1 } | count() > 1",
            "{ .a = 1 } | rate()",
            "{ .a = 1 && .b = } | rate()",
            "{ .a = foo }",
            "{ .a = 1 } }",
            "{ status = 1 && .b = }",
        ] {
            assert_eq!(parse_lenient_filter(text), None, "{text}");
        }
    }
}
