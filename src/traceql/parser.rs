//! Tokens to the tree: the query, its pipelines and spanset expressions.
//!
//! A Pratt parser over a token list; `field`, `scalar`, `wrapped` and `metrics` hold the grammars
//! of the other layers. What an opening parenthesis opens (a group of spansets, a pipeline, a
//! metrics query) is decided by what is in it, which `Outline` has looked up for all of them at
//! once.
//!
//! Something well-formed that the tree cannot hold does not stop the parser: a syntax error behind
//! it would be the better message. It is kept in `refused`, and a stand-in goes into the tree.

use std::sync::Arc;

use super::MAX_QUERY_BYTES;
use super::advice::advice;
use super::ast::{
    Attribute, Body, CompareOp, FieldExpr, Hint, LogicalOp, Pipeline, Query, Relation,
    RelationMode, SpansetExpr, SpansetFilter, Stage, Static,
};
use super::error::{ParseError, excerpt};
use super::lexer::lex;
use super::regex::PatternCompiler;
use super::token::{Lexeme, Token};

/// Deepest nesting of a query and greatest height of its tree.
const MAX_DEPTH: u32 = 200;

pub(super) struct Parser<'a> {
    text: &'a str,
    lexemes: Vec<Lexeme>,
    pub(super) at: usize,
    depth: u32,
    outline: Outline,
    refused: Option<ParseError>,
    pub(super) patterns: PatternCompiler,
}

/// A tree and its height.
pub(super) struct Grown<T> {
    pub tree: T,
    pub height: u32,
}

/// What the parentheses of a query hold.
struct Outline {
    /// For each token: an opening parenthesis of a group with a `|` directly in it.
    has_pipe: Vec<bool>,
    /// For each token: as `has_pipe`, or its group begins with such a group.
    begins_with_pipeline: Vec<bool>,
    /// A metrics function stands within parentheses.
    math: bool,
}

/// Whether a pipeline may end in an aggregate without a comparison.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum BareAggregate {
    Refused,
    Allowed,
}

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a str) -> Result<Parser<'a>, ParseError> {
        if text.len() > MAX_QUERY_BYTES {
            let what = format!(
                "TraceQL expression exceeds the configured maximum size of {MAX_QUERY_BYTES} \
                 bytes, reduce the query expression size or contact your system administrator"
            );
            return Err(ParseError::size(what));
        }
        let lexemes = lex(text);
        Ok(Parser {
            text,
            outline: Outline::of(&lexemes),
            lexemes,
            at: 0,
            depth: 0,
            refused: None,
            patterns: PatternCompiler::new(),
        })
    }

    /// Reads a whole query.
    pub(super) fn query(mut self) -> Result<Query, ParseError> {
        let body = self.body()?;
        let hints = self.hints()?;
        self.finish()?;
        Ok(Query { body, hints })
    }

    /// Reads one attribute in braces and nothing else.
    pub(super) fn braced_attribute(mut self) -> Result<Attribute, ParseError> {
        self.expect(&Token::OpenBrace)?;
        let attribute = self.attribute()?;
        self.expect(&Token::CloseBrace)?;
        self.finish()?;
        Ok(attribute)
    }

    fn finish(&mut self) -> Result<(), ParseError> {
        self.expect(&Token::End)?;
        self.refused.take().map_or(Ok(()), Err)
    }

    /// Remembers that the query cannot be run; the first reason counts.
    pub(super) fn refuse(&mut self, error: ParseError) {
        self.refused.get_or_insert(error);
    }

    fn lexeme(&self, index: usize) -> &Lexeme {
        self.lexemes.get(index).or(self.lexemes.last()).expect("the lexer ends with Token::End")
    }

    pub(super) fn peek(&self) -> &Token {
        &self.lexeme(self.at).token
    }

    pub(super) fn peek_second(&self) -> &Token {
        &self.lexeme(self.at + 1).token
    }

    /// First token that is no opening parenthesis.
    pub(super) fn peek_inside(&self) -> &Token {
        let rest = self.lexemes.get(self.at..).unwrap_or_default();
        let inside = rest.iter().find(|lexeme| lexeme.token != Token::OpenParen);
        inside.map_or(&Token::End, |lexeme| &lexeme.token)
    }

    pub(super) fn advance(&mut self) {
        self.at += 1;
    }

    pub(super) fn accept(&mut self, token: &Token) -> bool {
        let found = self.peek() == token;
        if found {
            self.advance();
        }
        found
    }

    pub(super) fn expect(&mut self, token: &Token) -> Result<(), ParseError> {
        if self.accept(token) { Ok(()) } else { Err(self.unexpected()) }
    }

    /// The error for the current token.
    pub(super) fn unexpected(&self) -> ParseError {
        self.unexpected_at(self.at)
    }

    /// The error for the token at an index.
    pub(super) fn unexpected_at(&self, at: usize) -> ParseError {
        let Lexeme { token, start, end } = self.lexeme(at);
        let what = match token {
            Token::End => "syntax error: unexpected end of query".to_owned(),
            Token::Invalid { message, .. } => message.clone(),
            Token::Identifier(word) => format!("unknown identifier: {}", excerpt(word)),
            _ => {
                let text = self.text.get(*start..*end).unwrap_or_default();
                format!("syntax error: unexpected {}", excerpt(&text))
            }
        };
        ParseError::syntax(self.text, *start, &what, advice(self.text, &self.lexemes, at))
    }

    /// A syntax error at the token before the current one.
    pub(super) fn fault_before(&self, what: &str) -> ParseError {
        let start = self.lexeme(self.at.saturating_sub(1)).start;
        ParseError::syntax(self.text, start, what, None)
    }

    /// Enters one level of nesting; every recursion comes through here.
    pub(super) fn nest<T>(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<T, ParseError>,
    ) -> Result<T, ParseError> {
        if self.depth >= MAX_DEPTH {
            return Err(self.too_deep());
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    /// Height of a node over operands of these heights.
    pub(super) fn above(&self, left: u32, right: u32) -> Result<u32, ParseError> {
        let height = left.max(right) + 1;
        if height > MAX_DEPTH { Err(self.too_deep()) } else { Ok(height) }
    }

    fn too_deep(&self) -> ParseError {
        let start = self.lexeme(self.at).start;
        let what = format!("query nests deeper than {MAX_DEPTH} levels");
        ParseError::syntax(self.text, start, &what, None)
    }

    /// `item { "," item }` in parentheses, the opening one read.
    pub(super) fn list<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, ParseError>,
    ) -> Result<Vec<T>, ParseError> {
        let mut items = vec![item(self)?];
        while self.accept(&Token::Comma) {
            items.push(item(self)?);
        }
        self.expect(&Token::CloseParen)?;
        Ok(items)
    }

    /// Several `with(…)`: the last replaces the others.
    fn hints(&mut self) -> Result<Vec<Hint>, ParseError> {
        let mut hints = Vec::new();
        while self.accept(&Token::With) {
            self.expect(&Token::OpenParen)?;
            hints = self.list(Parser::hint)?;
        }
        Ok(hints)
    }

    fn hint(&mut self) -> Result<Hint, ParseError> {
        let Token::Identifier(name) = self.peek() else {
            return Err(self.unexpected());
        };
        let name = Arc::clone(name);
        self.advance();
        self.expect(&Token::Compare(CompareOp::Equal))?;
        let value = self.literal().ok_or_else(|| self.unexpected())?;
        self.advance();
        Ok(Hint { name, value })
    }

    /// The constant that the current token is.
    pub(super) fn literal(&self) -> Option<Static> {
        match self.peek() {
            Token::Literal(value) => Some(value.clone()),
            Token::Identifier(word) if &**word == "minInt" => Some(Static::Int(i64::MIN)),
            Token::Identifier(word) if &**word == "maxInt" => Some(Static::Int(i64::MAX)),
            _ => None,
        }
    }

    fn body(&mut self) -> Result<Body, ParseError> {
        if self.outline.math && self.begins_math() {
            return self.metrics_math();
        }
        if self.begins_with_pipeline(0) {
            return self.wrapped_body().map(Body::Spansets);
        }
        let pipeline = self.pipeline()?;
        if *self.peek() == Token::Pipe {
            self.metrics(pipeline)
        } else {
            Ok(Body::Spansets(pipeline))
        }
    }

    /// Whether the token `ahead` of the current one opens a group that is no spanset expression: it
    /// has a `|` or begins with one that has.
    pub(super) fn begins_with_pipeline(&self, ahead: usize) -> bool {
        self.outline.begins_with_pipeline.get(self.at + ahead).copied().unwrap_or(false)
    }

    /// Whether the current token opens a group with a `|` directly in it.
    pub(super) fn opens_pipeline(&self) -> bool {
        self.outline.has_pipe.get(self.at).copied().unwrap_or(false)
    }

    /// Stages up to a metrics function or the end.
    pub(super) fn pipeline(&mut self) -> Result<Pipeline, ParseError> {
        let (pipeline, _) = self.stages(BareAggregate::Refused)?;
        Ok(pipeline)
    }

    /// Stages, and whether they end in a bare aggregate.
    pub(super) fn stages(&mut self, bare: BareAggregate) -> Result<(Pipeline, bool), ParseError> {
        let mut stages = Vec::new();
        loop {
            if self.begins_scalar() {
                match self.scalar_filter(bare)? {
                    Some(filter) => stages.push(Stage::Scalar(filter)),
                    None => return Ok((Pipeline { stages }, true)),
                }
            } else {
                let stage = self.stage(stages.is_empty())?;
                stages.push(stage);
            }
            if *self.peek() != Token::Pipe || matches!(self.peek_second(), Token::Metric(_)) {
                return Ok((Pipeline { stages }, false));
            }
            self.advance();
        }
    }

    fn stage(&mut self, first: bool) -> Result<Stage, ParseError> {
        match self.peek() {
            Token::OpenBrace | Token::OpenParen => Ok(Stage::Spanset(self.spansets(0)?.tree)),
            Token::By => {
                self.advance();
                self.expect(&Token::OpenParen)?;
                let expr = self.field(0)?.tree;
                self.expect(&Token::CloseParen)?;
                Ok(Stage::Group(expr))
            }
            Token::Coalesce if !first => {
                self.advance();
                self.expect(&Token::OpenParen)?;
                self.expect(&Token::CloseParen)?;
                Ok(Stage::Coalesce)
            }
            Token::Select => {
                self.advance();
                self.expect(&Token::OpenParen)?;
                Ok(Stage::Select(self.list(Parser::attribute)?))
            }
            _ => Err(self.unexpected()),
        }
    }

    /// An expression of spansets whose operators bind at least as tightly as `least`.
    fn spansets(&mut self, least: u8) -> Result<Grown<SpansetExpr>, ParseError> {
        self.nest(|parser| {
            let mut left = parser.spanset()?;
            while let Some(op) = SpansetOp::of(parser.peek()).filter(|op| op.binding() >= least) {
                parser.advance();
                let right = parser.spansets(op.binding() + 1)?;
                left = parser.join_spansets(op, left, right)?;
            }
            Ok(left)
        })
    }

    fn spanset(&mut self) -> Result<Grown<SpansetExpr>, ParseError> {
        if self.accept(&Token::OpenParen) {
            let inner = self.spansets(0)?;
            self.expect(&Token::CloseParen)?;
            return Ok(inner);
        }
        Ok(Grown { tree: SpansetExpr::Filter(self.filter()?), height: 1 })
    }

    /// `{ field }`
    pub(super) fn filter(&mut self) -> Result<SpansetFilter, ParseError> {
        self.expect(&Token::OpenBrace)?;
        if self.accept(&Token::CloseBrace) {
            return Ok(SpansetFilter { expr: FieldExpr::Static(Static::Bool(true)) });
        }
        let expr = self.field(0)?.tree;
        self.expect(&Token::CloseBrace)?;
        Ok(SpansetFilter { expr })
    }

    pub(super) fn join_spansets(
        &self,
        op: SpansetOp,
        left: Grown<SpansetExpr>,
        right: Grown<SpansetExpr>,
    ) -> Result<Grown<SpansetExpr>, ParseError> {
        let height = self.above(left.height, right.height)?;
        let (left, right) = (Box::new(left.tree), Box::new(right.tree));
        let tree = match op {
            SpansetOp::Logical(LogicalOp::And) => SpansetExpr::And(left, right),
            SpansetOp::Logical(LogicalOp::Or) => SpansetExpr::Or(left, right),
            SpansetOp::Relation(relation, mode) => {
                SpansetExpr::Relation { relation, mode, left, right }
            }
        };
        Ok(Grown { tree, height })
    }
}

/// An operator between spansets.
#[derive(Clone, Copy)]
pub(super) enum SpansetOp {
    Logical(LogicalOp),
    Relation(Relation, RelationMode),
}

impl SpansetOp {
    pub(super) fn of(token: &Token) -> Option<SpansetOp> {
        Some(match token {
            Token::Logical(op) => SpansetOp::Logical(*op),
            Token::Relation(relation, mode) => SpansetOp::Relation(*relation, *mode),
            Token::Compare(CompareOp::Greater) => {
                SpansetOp::Relation(Relation::Child, RelationMode::Related)
            }
            Token::Compare(CompareOp::Less) => {
                SpansetOp::Relation(Relation::Parent, RelationMode::Related)
            }
            Token::Match { negated: true } => {
                SpansetOp::Relation(Relation::Sibling, RelationMode::Unrelated)
            }
            _ => return None,
        })
    }

    /// All operators of a kind bind alike, and to the left.
    pub(super) fn binding(self) -> u8 {
        match self {
            SpansetOp::Logical(_) => 0,
            SpansetOp::Relation(..) => 1,
        }
    }
}

impl Outline {
    fn of(lexemes: &[Lexeme]) -> Outline {
        let mut has_pipe = vec![false; lexemes.len()];
        let mut math = false;
        let mut open = Vec::new();
        for (index, lexeme) in lexemes.iter().enumerate() {
            match lexeme.token {
                Token::OpenParen => open.push(index),
                Token::CloseParen => {
                    open.pop();
                }
                Token::Pipe => {
                    if let Some(group) = open.last().and_then(|&index| has_pipe.get_mut(index)) {
                        *group = true;
                    }
                }
                Token::Metric(_) => math |= !open.is_empty(),
                _ => {}
            }
        }
        let mut begins_with_pipeline = has_pipe.clone();
        let mut inner = false;
        for (begins, lexeme) in begins_with_pipeline.iter_mut().zip(lexemes).rev() {
            *begins |= lexeme.token == Token::OpenParen && inner;
            inner = *begins;
        }
        Outline { has_pipe, begins_with_pipeline, math }
    }
}
