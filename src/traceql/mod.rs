//! TraceQL, the language alone: text in, a checked syntax tree out.
//!
//! `lexer` makes tokens, `parser` (with `field`, `scalar`, `wrapped` and `metrics`) makes the tree
//! of `ast`, `check` folds its constants and refuses what cannot be meant. What is left runs as it
//! stands: no ill-typed operation, no unsupported attribute, every regular expression compiled.
//! `print` writes a tree back; its text is also the name of an attribute or aggregate in results
//! and labels.
//!
//! Running a query is left to others; `fold` holds the arithmetic and comparison both must agree
//! on.
//!
//! **Invariant:** no text can overflow the stack or take memory out of proportion: size, depth of
//! the tree and compiled patterns are bounded.

mod advice;
mod ast;
mod check;
mod dialect;
mod error;
mod field;
mod fold;
mod lenient;
mod lexer;
mod literal;
mod metrics;
mod parser;
mod print;
mod regex;
mod scalar;
mod token;
mod wrapped;

pub use ast::{
    Aggregate, AggregateFn, ArithmeticOp, Attribute, Body, CompareOp, Comparison, FieldExpr,
    FirstStage, Hint, Intrinsic, Kind, LogicalOp, MathOp, MetricsExpr, MetricsFn, MetricsQuery,
    Pipeline, Query, Relation, RelationMode, ScalarFilter, Scope, SecondStage, SpansetExpr,
    SpansetFilter, Stage, Static, Status, Type,
};
pub use error::{ErrorKind, ParseError};
pub use fold::{arithmetic, compare};
pub use lenient::parse_lenient_filter;
pub use print::duration_text;
pub use regex::Pattern;

/// Longest query text. Tempo's default for `max_traceql_expression_size_bytes`.
pub const MAX_QUERY_BYTES: usize = 128 * 1024;

/// Reads a query: lexes, parses, folds constants and checks.
pub fn parse(text: &str) -> Result<Query, ParseError> {
    let mut query = parser::Parser::new(text)?.query()?;
    check::check(&mut query)?;
    Ok(query)
}

/// Reads the identifier of a tag, as the tag value endpoints take it: `resource.service.name`,
/// `.x`, `span."quoted name"`, `name`, `span:kind`.
pub fn parse_attribute(text: &str) -> Result<Attribute, ParseError> {
    let failed = |error: ParseError| ParseError {
        message: format!("failed to parse identifier {text}: {}", error.first_line()),
        ..error
    };
    // Tempo reads an identifier inside braces, and its columns count the opening one.
    parser::Parser::new(&format!("{{{text}}}"))
        .and_then(parser::Parser::braced_attribute)
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{any, prop_assert_eq, proptest};
    use proptest::sample::select;

    use super::*;

    /// The conformance table, which lies beside the project in its own tree.
    const CASES: &str =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/contract/traceql-cases.toml");

    /// The queries of one table of the conformance file; empty, with a word about it, without the
    /// file.
    fn cases(table: &str) -> Vec<toml::Table> {
        let Ok(text) = std::fs::read_to_string(CASES) else {
            eprintln!("skipped: there is no {CASES}");
            return Vec::new();
        };
        let file: toml::Table = text.parse().unwrap();
        let entries = file[table].as_array().unwrap().iter();
        entries.map(|case| case.as_table().unwrap().clone()).collect()
    }

    fn verdict(text: &str) -> &'static str {
        match parse(text) {
            Ok(_) => "valid",
            Err(ParseError { kind: ErrorKind::Parse, .. }) => "parse",
            Err(ParseError { kind: ErrorKind::Type, .. }) => "type",
            Err(ParseError { kind: ErrorKind::Unsupported, .. }) => "unsupported",
        }
    }

    /// Checks that the text of a query says the same as the query.
    fn check_print(text: &str) {
        let query = parse(text).unwrap_or_else(|error| panic!("{text}\n{error}"));
        let printed = query.to_string();
        let again = parse(&printed).unwrap_or_else(|error| panic!("{text}\n{printed}\n{error}"));
        assert_eq!(again, query, "{text}\n{printed}");
        assert_eq!(again.to_string(), printed, "{text}");
    }

    #[test]
    fn conformance_table() {
        let mut wrong = Vec::new();
        for case in cases("parse") {
            let query = case["query"].as_str().unwrap();
            let reason = case.get("reason").map_or("valid", |reason| reason.as_str().unwrap());
            assert_eq!(case["valid"].as_bool().unwrap(), reason == "valid", "{query}");
            let verdict = verdict(query);
            if verdict == "valid" {
                check_print(query);
            }
            if verdict != reason {
                wrong.push(format!("{query}: {verdict}, not {reason}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn queries_of_the_evaluation_tables_parse_and_print() {
        for case in cases("search").iter().chain(&cases("metrics")) {
            check_print(case["query"].as_str().unwrap());
        }
    }

    /// What the specification says beyond the table.
    #[test]
    fn verdicts() {
        let cases = [
            ("valid", "({ .a } | { .b })"),
            ("valid", "{ .a } | ({ .b } && { .c })"),
            ("parse", "{ .a } | ({ .b } | { .c })"),
            ("valid", "(({ .a } | count() > 1))"),
            ("valid", "({ .a } && { .b } | count() > 1) || ({ .c })"),
            ("valid", "((({ .a }) && ({ .b })) | count() > 1) && ({ .c })"),
            ("valid", "({ .a } | { .b }) && (({ .c } | { .d }) && ({ .e }))"),
            ("valid", "({ .a } | { .b }) && ({ .c }) > ({ .d })"),
            ("parse", "{ .b } && ({ .a } | count() > 1)"),
            ("parse", "({ .a }) || ({ .b } | count() > 1)"),
            ("parse", "(({ .a }) && ({ .b } | count() > 1))"),
            ("parse", "({ .a } | count() > 1) && ({ .b }) | { .c }"),
            ("valid", "({ .a } | count() > 1) && ({ .b }) with(x=1)"),
            ("parse", "({ .a } | count())"),
            ("parse", "({ .a } | count()) && ({ .b })"),
            ("unsupported", "({ .a } | count()) > 1 + 2"),
            (
                "unsupported",
                "(({ .a } | count())) * ({ .a } | max(.b)) = ({ .b } | count()) with(x=1)",
            ),
            ("parse", "({ .a } | count()) > 3 } "),
            ("parse", "3 < ({ .a } | count())"),
            ("unsupported", "{} | count() % 2 = 1"),
            ("unsupported", "{} | 2 ^ count() > 1"),
            ("unsupported", "{} | (count()) + (1) > max(duration)"),
            ("parse", "{} | -count() > 1"),
            ("valid", "{} | count() > 5.0 / 0"),
            ("valid", "{} | count() > 0.0 / 0.0 | count() > -1.0 / 0.0"),
            ("valid", "{} | count() > -9223372036854775807 - 1"),
            ("parse", "{} | count() > minInt"),
            ("valid", "1 + 2 * ({} | rate())"),
            ("valid", "(({} && {}) | rate()) * (2)"),
            ("parse", "({} | rate()) * 2s"),
            ("parse", "2s * ({} | rate())"),
            ("parse", "(({} | rate()) | topk(2)) + 1"),
            ("type", "(({} | compare({ .a }))) + ({} | rate())"),
            ("type", "({} | compare({ .a })) > 3"),
            ("unsupported", "{} | rate() by (parent.x)"),
            ("unsupported", "{} | max_over_time(parent)"),
            ("unsupported", "{} | compare({ parent.a })"),
            ("parse", "{ parent.a } }"),
            ("type", "{} | quantile_over_time(duration, 2)"),
            ("type", "{} | compare({}, 10, 0, 5)"),
            ("valid", "{} | compare({}, 10, 0, 0)"),
            ("type", "{} | by(nil = nil)"),
            ("valid", "{} | by(10 / 0 + .a)"),
            ("valid", "{ span.a ^ -2 * .b > 1 }"),
            ("valid", "{ nil = .a + 1 = true }"),
            ("valid", "{ 1 = nil || .a + .b != nil }"),
            ("parse", ""),
            ("parse", " // nothing\n"),
            ("parse", "{\u{a0}}"),
            ("parse", "{} /* open"),
        ];
        for (expected, text) in cases {
            assert_eq!(verdict(text), expected, "{text}");
        }
    }

    #[test]
    fn precedence_and_folding() {
        let cases = [
            ("{ .a || .b && .c }", "{ (.a || .b) && .c }"),
            ("{ .a && .b && (.c && .d) }", "{ ((.a && .b) && .c) && .d }"),
            ("{ -.a * .b = 1 }", "{ (-(.a * .b)) = 1 }"),
            ("{ -.a + .b = 1 }", "{ ((-.a) + .b) = 1 }"),
            ("{ -.a ^ .b = 1 }", "{ (-(.a ^ .b)) = 1 }"),
            ("{ !.a = .b }", "{ (!.a) = .b }"),
            ("{ !.a && .b }", "{ (!.a) && .b }"),
            ("{ .a = .b = .c }", "{ (.a = .b) = .c }"),
            ("{ .a + .b = nil }", "{ (.a + .b) = nil }"),
            ("{ nil != .a + 1 }", "{ (.a + 1) != nil }"),
            ("{ .a - .b - .c = 1 }", "{ ((.a - .b) - .c) = 1 }"),
            ("{ .a * -.b + .c = 1 }", "{ ((.a * (-.b)) + .c) = 1 }"),
            ("{ (-3) * .a = -3 }", "{ ((-3) * .a) = -3 }"),
            ("{ 2 ^ 3 ^ 2 = .a }", "{ 512 = .a }"),
            ("{ duration > 1s + 500ms }", "{ duration > 1500000000.0 }"),
            ("{ .a = minInt || .a = -maxInt }", "{ (.a = minInt) || (.a = -9223372036854775807) }"),
            ("{ 10 / 0 = .a }", "{ (10 / 0) = .a }"),
            ("{ .a = 1.0 / 0.0 }", "{ .a = (1.0 / 0.0) }"),
            ("{ \"abc\" =~ \"a.*\" && 1 < 2 && nil = nil }", "{ false }"),
            ("{}", "{ true }"),
            ("{ .x } || { .y } && { .z }", "{ .x } || { .y } && { .z }"),
            ("({ .x } || { .y }) && { .z }", "{ .x } || { .y } && { .z }"),
            ("{ .x } && ({ .y } || { .z })", "{ .x } && ({ .y } || { .z })"),
            ("{ .x } && ({ .y } >> { .z })", "{ .x } && { .y } >> { .z }"),
            ("({ .x } && { .y }) >> { .z }", "({ .x } && { .y }) >> { .z }"),
            ("{ .x } > ({ .y } !~ { .z })", "{ .x } > ({ .y } !~ { .z })"),
            ("{} | count() > 2 + 3 * 4", "{ true } | count() > 14"),
            ("{} | count() > 7 / 2", "{ true } | count() > 3"),
            ("1 + 2 * ({} | rate())", "1 + (2 * ({ true } | rate()))"),
            ("1 + 2 + ({} | rate())", "3 + ({ true } | rate())"),
            ("({} | rate()) + 1 + 2 * 3", "(({ true } | rate()) + 1) + 6"),
            ("{} | rate() > 2 * 3 - 1 | topk(2)", "{ true } | rate() > 5 | topk(2)"),
            ("(({} | rate() | topk(3))) > 1", "{ true } | rate() | topk(3) > 1"),
            ("{} | rate() by(span:name, .\"5\")", "{ true } | rate() by (name, .\"5\")"),
            ("{} | compare({ .a })", "{ true } | compare({ .a }, 10)"),
            ("{} with(a=1) with(b=\"c\", d=2s)", "{ true } with(b=`c`, d=2s)"),
        ];
        for (text, printed) in cases {
            let query = parse(text).unwrap();
            assert_eq!(query.to_string(), printed, "{text}");
            check_print(text);
        }
    }

    #[test]
    fn canonical_names() {
        let cases = [
            ("by(duration > 200ms)", "by(duration > 200ms)"),
            ("by(span:name = \"x\")", "by(name = `x`)"),
            ("by(name = \"`\\n\")", "by(name = \"`\\n\")"),
            ("by(span.\"a b\")", "by(span.\"a b\")"),
            ("by(span.\"a\")", "by(span.a)"),
            ("by(.\"q\\\"\\\\\")", "by(.\"q\\\"\\\\\")"),
            ("by(span.\"\")", "by(span.\"\")"),
            ("by(.a = 2.0)", "by(.a = 2.0)"),
            ("by(.a != nil)", "by(.a != nil)"),
            ("avg(trace:duration) > 1", "avg(traceDuration) > 1"),
            ("sum(span.b1 * span.c1 + 1) > 3", "sum((span.b1 * span.c1) + 1) > 3"),
            ("count() > 1h0m1.5s", "count() > 1h0m1.5s"),
        ];
        for (text, name) in cases {
            assert_eq!(parse(text).unwrap().to_string(), name, "{text}");
        }
    }

    #[test]
    fn durations_print_like_go() {
        let cases = [
            (0, "0s"),
            (300, "300ns"),
            (1_500, "1.5µs"),
            (400_000_000, "400ms"),
            (2_257_142_857, "2.257142857s"),
            (60_000_000_000, "1m0s"),
            (3_690_000_000_000, "1h1m30s"),
            (3_600_000_000_001, "1h0m0.000000001s"),
            (-1_000_000, "-1ms"),
            (i64::MAX, "2562047h47m16.854775807s"),
        ];
        for (nanos, text) in cases {
            assert_eq!(duration_text(nanos), text);
        }
    }

    /// Queries, what is wrong with them, and the advice if there is any.
    const MESSAGES: &[(&str, &str, &str)] = &[
        (
            "{ foo }",
            "parse error at line 1, col 3: unknown identifier: foo",
            "write .foo, span.foo or resource.foo",
        ),
        (
            "{ service.name = \"x\" }",
            "parse error at line 1, col 3: unknown identifier: service",
            "write .service.name, span.service.name or resource.service.name",
        ),
        (
            "{ .a = foo }",
            "parse error at line 1, col 8: unknown identifier: foo",
            "strings are written in double quotes: \"foo\"",
        ),
        (
            "{ .a = foo.bar }",
            "parse error at line 1, col 8: unknown identifier: foo",
            "strings are written in double quotes: \"foo.bar\"",
        ),
        ("{ .a = TRUE }", "parse error at line 1, col 8: unknown identifier: TRUE", "write true"),
        (
            "{ status = \"error\" }",
            "a status and a string do not go together: status = `error`",
            "write status = error, without quotes",
        ),
        (
            "{ status = \"failed\" }",
            "a status and a string do not go together: status = `failed`",
            "a status is ok, error or unset",
        ),
        (
            "{ kind = 3 }",
            "a kind and an integer do not go together: kind = 3",
            "a kind is unspecified, internal, server, client, producer or consumer",
        ),
        (
            "{ duration > \"10s\" }",
            "a duration and a string do not go together: duration > `10s`",
            "write duration > 10s, without quotes",
        ),
        (
            "{ .a = 1, .b = 2 }",
            "parse error at line 1, col 9: syntax error: unexpected ,",
            "write && between conditions",
        ),
        (
            "{ .a = 1 | .b = 2 }",
            "parse error at line 1, col 10: syntax error: unexpected |",
            "write || for or",
        ),
        (
            "{ .a = 'x' }",
            "parse error at line 1, col 8: unexpected character \"'\"",
            "strings are written in double quotes: \"text\"",
        ),
        (
            "{ .a == 1 }",
            "parse error at line 1, col 7: syntax error: unexpected =",
            "write = for equal",
        ),
        (
            "{ .a <> 1 }",
            "parse error at line 1, col 7: syntax error: unexpected >",
            "write != for unequal",
        ),
        (
            "{ .a = 1 and .b = 2 }",
            "parse error at line 1, col 10: unknown identifier: and",
            "write && for and",
        ),
        (
            "{ .a } or { .b }",
            "parse error at line 1, col 8: unknown identifier: or",
            "write || for or",
        ),
        (
            "{ .a = 1 & .b = 2 }",
            "parse error at line 1, col 10: unexpected character \"&\"",
            "write && for and",
        ),
        (
            ".a = 1",
            "parse error at line 1, col 1: syntax error: unexpected .a",
            "conditions stand in braces: { .a = 1 }",
        ),
        (
            "{ .a } | count()",
            "parse error at line 1, col 17: syntax error: unexpected end of query",
            "an aggregate must be compared: count() > 1",
        ),
        (
            "{ .a } | topk(1)",
            "parse error at line 1, col 10: syntax error: unexpected topk",
            "it needs a metrics function before it: | rate() | topk(10)",
        ),
        ("{ .a =\n  }", "parse error at line 2, col 3: syntax error: unexpected }", ""),
        ("{ .a = 1", "parse error at line 1, col 9: syntax error: unexpected end of query", ""),
        (
            "{ span:http.method = 1 }",
            "parse error at line 1, col 3: unknown intrinsic span:http",
            "attributes are written with a dot: span.http.method",
        ),
        (
            "{ traceID = `x` }",
            "parse error at line 1, col 3: syntax error: unexpected traceID",
            "write trace:id or link:traceID, or .traceID for an attribute",
        ),
        ("{ name }", "a filter is true or false, not a string: name", ""),
        ("{ name = nil }", "name is never nil", ""),
        ("{ name =~ \"(\" }", "invalid regular expression `(`: missing closing )", ""),
        ("{ parent.x = 1 }", "parent attributes are not supported", ""),
        ("{} | by(3)", "by() needs a value of the span: 3", ""),
        ("{} | max(name) > 1", "max() needs a number, not a string: name", ""),
    ];

    #[test]
    fn messages() {
        for (text, what, advice) in MESSAGES {
            let message = parse(text).unwrap_err().to_string();
            let (first, second) = message.split_once('\n').unwrap_or((&message, ""));
            assert_eq!((first, second), (*what, *advice), "{text}");
        }
    }

    #[test]
    fn identifiers() {
        let cases = [
            ("resource.service.name", "resource.service.name"),
            (".service.name", ".service.name"),
            ("span.\"quoted name\"", "span.\"quoted name\""),
            ("span:name", "name"),
            ("trace:rootService", "rootServiceName"),
            ("event:name", "event:name"),
            ("instrumentation.x", "instrumentation.x"),
        ];
        for (text, name) in cases {
            assert_eq!(parse_attribute(text).unwrap().to_string(), name);
        }
        let error = parse_attribute("foo").unwrap_err().message;
        assert_eq!(
            error,
            "failed to parse identifier foo: parse error at line 1, col 2: unknown identifier: foo"
        );
        for text in ["", "1", "name }{ name", "span.a = 1", "parent.x", "span.a span.b", "{ name }"]
        {
            assert!(parse_attribute(text).is_err(), "{text}");
        }
    }

    #[test]
    fn text_and_tree_are_bounded() {
        let long = format!("{{ .a = `{}` }}", "x".repeat(MAX_QUERY_BYTES));
        assert!(parse(&long).unwrap_err().message.starts_with("TraceQL expression exceeds"));
        assert!(parse_attribute(&"x".repeat(MAX_QUERY_BYTES)).is_err());
        let repeat = |part: &str| part.repeat((MAX_QUERY_BYTES - 100) / part.len());
        for text in [
            repeat("("),
            repeat("{"),
            format!("{{ {}", repeat("(")),
            format!("{{ {} .a }}", repeat("!")),
            format!("{{ {}1 }}", repeat("-")),
            format!("{{ .a {} }}", repeat("+ 1")),
            format!("{{ .a {} }}", repeat("^ 1 ")),
            format!("{{ .a {} }}", repeat("= nil ")),
            format!("{{ .a {} }}", repeat("&& .a || .a ")),
            format!("{{}} {}", repeat("> {} ")),
            format!("{{}} {}", repeat("&& {} ")),
            format!("{{}} | count() > {}1", repeat("-")),
            format!("{{}} | {}", repeat("(")),
            format!("{{}} | count() > {}", repeat("(")),
            format!("({{}} | rate()) {}", repeat("+ 1")),
            format!("{}{{}} | rate()", repeat("(")),
            format!("{}{{}} | {{}})", repeat("(")),
            format!("({{}} | {{}}) {}", repeat("&& ({})")),
            format!("{{ .a {} }}", repeat("+ (.a") + &")".repeat(10)),
        ] {
            assert_eq!(verdict(&text), "parse", "{}", text.chars().take(40).collect::<String>());
        }
        for text in [
            format!("{{ .a {} }}", repeat("|| .a ")),
            format!("{{ .a {} }}", repeat("&& name = `x` ")),
            format!("{{}} {}", repeat("| {}")),
            format!("{{}} | rate() {}", repeat("> 1 ")),
            format!("{{}} | count() > 1 {}", repeat("+ 1 ")),
        ] {
            assert!(!parse(&text).unwrap().to_string().is_empty());
        }
        // Each level of parentheses adds a chain, so the tree grows faster than the nesting.
        let chains = format!("{{ {}.a{} = 1 }}", "(".repeat(150), "+ 1 + 1 + 1)".repeat(150));
        assert_eq!(verdict(&chains), "parse");
    }

    /// Pieces of queries, so that random sequences of them get past the first token.
    const PIECES: &[&str] = &[
        "{",
        "}",
        "(",
        ")",
        "|",
        "||",
        "&&",
        "!",
        "-",
        "+",
        "*",
        "/",
        "%",
        "^",
        "=",
        "!=",
        "<",
        ">",
        ">=",
        "=~",
        "!~",
        ">>",
        "<<",
        "~",
        "!>",
        "&>>",
        "&~",
        ",",
        ".a",
        "span.\"b c\"",
        "resource.service.name",
        "parent.x",
        "name",
        "duration",
        "status",
        "kind",
        "event:name",
        "nestedSetParent",
        "nil",
        "true",
        "error",
        "server",
        "1",
        "0",
        "2.5",
        "3s",
        "1h30m",
        "`x`",
        "\"y.*\"",
        "minInt",
        "count()",
        "avg(",
        "sum(.a)",
        "by(",
        "coalesce()",
        "select(",
        "rate()",
        "count_over_time()",
        "max_over_time(",
        "quantile_over_time(",
        "compare({",
        "topk(",
        "bottomk(2)",
        "with(",
        "x",
        "//",
        "/*",
        "'",
        "\u{b5}",
        "\n",
        "{}",
        "{ .a }",
        "({} | rate())",
        "({} | count() > 1)",
        " ",
    ];

    const BEFORE: &[&str] = &["", "-", "!", "("];
    const OPERANDS: &[&str] = &[".a", "1", "2.5", "0", "3s", "`x`", "true", "name", "nil"];
    const AFTER: &[&str] = &["", ")", " = nil"];
    const BETWEEN: &[&str] = &["+", "*", "^", "-", "=", "<", "&&", "||", "=~"];
    const SCOPES: &[Option<Scope>] = &[
        None,
        Some(Scope::Span),
        Some(Scope::Resource),
        Some(Scope::Event),
        Some(Scope::Link),
        Some(Scope::Instrumentation),
    ];

    /// Runs everything that takes foreign text; whatever parses must print.
    fn check_robust(text: &str) {
        if parse(text).is_ok() {
            check_print(text);
        }
        if let Ok(attribute) = parse_attribute(text) {
            assert_eq!(parse_attribute(&attribute.to_string()), Ok(attribute));
        }
        if let Some(filter) = parse_lenient_filter(text) {
            check_print(&filter.to_string());
        }
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "\\PC*") {
            check_robust(&text);
        }

        #[test]
        fn any_pieces_are_answered(pieces in vec(select(PIECES), 0..24)) {
            check_robust(&pieces.join(" "));
            check_robust(&pieces.concat());
        }

        #[test]
        fn any_expression_prints(
            pieces in vec((select(BEFORE), select(OPERANDS), select(AFTER), select(BETWEEN)), 1..6),
        ) {
            let text = pieces.iter().map(|(a, b, c, d)| format!("{a}{b}{c} {d} "));
            check_robust(&format!("{{ {} .z }}", text.collect::<String>()));
        }

        #[test]
        fn any_attribute_name_prints(name in "\\PC*", scope in select(SCOPES)) {
            let attribute = Attribute::Named { scope, name: name.as_str().into() };
            prop_assert_eq!(parse_attribute(&attribute.to_string()), Ok(attribute));
        }

        #[test]
        fn any_string_prints(value in any::<String>()) {
            let printed = Static::Str(value.as_str().into()).to_string();
            let text = format!("{{ .a = {printed} }}");
            prop_assert_eq!(parse(&text).unwrap().to_string(), text);
        }

        #[test]
        fn any_duration_prints(nanos in 0..i64::MAX) {
            let query = parse(&format!("{{ duration = {} }}", duration_text(nanos))).unwrap();
            let plain = parse(&format!("{{ duration = {nanos}ns }}")).unwrap();
            prop_assert_eq!(query, plain);
        }
    }

    #[test]
    fn mutated_queries_are_answered() {
        let queries: Vec<String> =
            cases("parse").iter().map(|case| case["query"].as_str().unwrap().to_owned()).collect();
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % (below.max(1) as u64)).unwrap()
        };
        for query in &queries {
            let mut chars: Vec<char> = query.chars().collect();
            for _ in 0..8 {
                let at = random(chars.len());
                match random(3) {
                    0 if !chars.is_empty() => {
                        chars.remove(at);
                    }
                    1 => {
                        let piece = PIECES[random(PIECES.len())];
                        chars.splice(at..at, piece.chars());
                    }
                    _ => {
                        let other: Vec<char> = queries[random(queries.len())].chars().collect();
                        let from = random(other.len());
                        chars.splice(at..at, other[from..].iter().copied().take(12));
                    }
                }
                check_robust(&chars.iter().collect::<String>());
            }
        }
    }
}
