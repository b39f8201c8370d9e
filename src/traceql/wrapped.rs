//! Tokens to the tree: expressions over parenthesised pipelines.
//!
//! `({ a } | count() > 1) && ({ b })` stands for a whole query only, and each of its operands in
//! parentheses.

use super::ast::{Pipeline, SpansetExpr, Stage};
use super::error::ParseError;
use super::parser::{BareAggregate, Grown, Parser, SpansetOp};
use super::token::Token;

/// An operand of an expression over parenthesised pipelines.
enum Wrapped {
    Spansets(Grown<SpansetExpr>),
    /// The pipeline ends in an aggregate without a comparison.
    Scalar,
}

impl Parser<'_> {
    /// A query that begins with a parenthesised pipeline.
    pub(super) fn wrapped_body(&mut self) -> Result<Pipeline, ParseError> {
        let expr = match self.wrapped(0)? {
            Wrapped::Spansets(expr) => expr.tree,
            Wrapped::Scalar => {
                self.wrapped_comparison()?;
                let what = "comparing the aggregates of whole pipelines is not supported";
                self.refuse(ParseError::unsupported(what));
                SpansetExpr::Pipeline(Pipeline { stages: vec![Stage::Coalesce] })
            }
        };
        Ok(match expr {
            SpansetExpr::Pipeline(pipeline) => pipeline,
            expr => Pipeline { stages: vec![Stage::Spanset(expr)] },
        })
    }

    fn wrapped(&mut self, least: u8) -> Result<Wrapped, ParseError> {
        self.nest(|parser| {
            let mut left = match parser.wrapped_operand()? {
                Wrapped::Spansets(left) => left,
                Wrapped::Scalar => return Ok(Wrapped::Scalar),
            };
            while let Some(op) = SpansetOp::of(parser.peek()).filter(|op| op.binding() >= least) {
                parser.advance();
                let Wrapped::Spansets(right) = parser.wrapped(op.binding() + 1)? else {
                    return Err(parser.unexpected());
                };
                left = parser.join_spansets(op, left, right)?;
            }
            Ok(Wrapped::Spansets(left))
        })
    }

    /// `( pipeline )`, or a group of such operands in more parentheses.
    fn wrapped_operand(&mut self) -> Result<Wrapped, ParseError> {
        self.expect(&Token::OpenParen)?;
        let inner = if *self.peek() == Token::OpenParen && self.begins_with_pipeline(0) {
            self.wrapped(0)?
        } else {
            match self.stages(BareAggregate::Allowed)? {
                (_, true) => Wrapped::Scalar,
                (pipeline, false) => {
                    let tree = SpansetExpr::Pipeline(pipeline);
                    Wrapped::Spansets(Grown { tree, height: 1 })
                }
            }
        };
        self.expect(&Token::CloseParen)?;
        Ok(inner)
    }

    /// What follows the first operand of `({a} | count()) + ({b} | count()) > 3`.
    fn wrapped_comparison(&mut self) -> Result<(), ParseError> {
        self.wrapped_sum()?;
        let Token::Compare(_) = self.peek() else {
            return Err(self.unexpected());
        };
        self.advance();
        if *self.peek() == Token::OpenParen && self.begins_with_pipeline(0) {
            self.wrapped_scalar()?;
            self.wrapped_sum()
        } else {
            self.constant().map(drop)
        }
    }

    fn wrapped_sum(&mut self) -> Result<(), ParseError> {
        while let Token::Arithmetic(_) = self.peek() {
            self.advance();
            self.wrapped_scalar()?;
        }
        Ok(())
    }

    fn wrapped_scalar(&mut self) -> Result<(), ParseError> {
        match self.wrapped_operand()? {
            Wrapped::Scalar => Ok(()),
            Wrapped::Spansets(_) => Err(self.unexpected()),
        }
    }
}
