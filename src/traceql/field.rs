//! Tokens to the tree: expressions over one span.

use std::sync::Arc;

use super::ast::{ArithmeticOp, Attribute, CompareOp, FieldExpr, LogicalOp, Static};
use super::error::{ParseError, excerpt};
use super::parser::{Grown, Parser};
use super::token::Token;

/// How tightly the operators bind. `&&` and `||` share a level, as do all comparisons.
mod binding {
    pub(super) const LOGICAL: u8 = 0;
    pub(super) const COMPARE: u8 = 1;
    pub(super) const SUM: u8 = 2;
    pub(super) const NOT: u8 = 3;
    pub(super) const PRODUCT: u8 = 4;
    pub(super) const POWER: u8 = 5;
}

impl Parser<'_> {
    /// An expression whose operators bind at least as tightly as `least`.
    pub(super) fn field(&mut self, least: u8) -> Result<Grown<FieldExpr>, ParseError> {
        self.nest(|parser| {
            let mut left = parser.operand()?;
            while let Some((binding, right_binding)) = infix(parser.peek()) {
                if binding < least {
                    break;
                }
                let op = parser.peek().clone();
                parser.advance();
                left = match (nil_test(&op), parser.peek()) {
                    (Some(negated), Token::Nil) => {
                        parser.advance();
                        parser.nil(negated, left)?
                    }
                    _ => {
                        let right = parser.field(right_binding)?;
                        parser.join(&op, left, right)?
                    }
                };
            }
            Ok(left)
        })
    }

    fn operand(&mut self) -> Result<Grown<FieldExpr>, ParseError> {
        if let Some(value) = self.literal() {
            self.advance();
            return Ok(Grown { tree: FieldExpr::Static(value), height: 1 });
        }
        match self.peek() {
            Token::OpenParen => {
                self.advance();
                let inner = self.field(binding::LOGICAL)?;
                self.expect(&Token::CloseParen)?;
                Ok(inner)
            }
            // A sign takes products and powers with it, a negation products and powers, too.
            Token::Arithmetic(ArithmeticOp::Sub) => {
                self.advance();
                let operand = self.field(binding::SUM + 1)?;
                self.over(operand, FieldExpr::Negate)
            }
            Token::Not => {
                self.advance();
                let operand = self.field(binding::NOT)?;
                self.over(operand, FieldExpr::Not)
            }
            Token::Nil => self.leading_nil(),
            _ => {
                let attribute = self.attribute()?;
                Ok(Grown { tree: FieldExpr::Attribute(attribute), height: 1 })
            }
        }
    }

    /// `nil = x`, or `nil = nil`, which is false either way.
    fn leading_nil(&mut self) -> Result<Grown<FieldExpr>, ParseError> {
        self.advance();
        let negated = nil_test(self.peek()).ok_or_else(|| self.unexpected())?;
        self.advance();
        if self.accept(&Token::Nil) {
            return Ok(Grown { tree: FieldExpr::Static(Static::Bool(false)), height: 1 });
        }
        let operand = self.field(binding::COMPARE + 1)?;
        self.nil(negated, operand)
    }

    fn nil(
        &self,
        negated: bool,
        operand: Grown<FieldExpr>,
    ) -> Result<Grown<FieldExpr>, ParseError> {
        self.over(operand, |operand| FieldExpr::Nil { negated, operand })
    }

    fn over(
        &self,
        operand: Grown<FieldExpr>,
        node: impl FnOnce(Box<FieldExpr>) -> FieldExpr,
    ) -> Result<Grown<FieldExpr>, ParseError> {
        let height = self.above(operand.height, 0)?;
        Ok(Grown { tree: node(Box::new(operand.tree)), height })
    }

    fn join(
        &mut self,
        op: &Token,
        left: Grown<FieldExpr>,
        right: Grown<FieldExpr>,
    ) -> Result<Grown<FieldExpr>, ParseError> {
        if let Token::Logical(op) = op {
            return self.join_logical(*op, left, right);
        }
        let height = self.above(left.height, right.height)?;
        let (left, right) = (Box::new(left.tree), Box::new(right.tree));
        let tree = match op {
            Token::Compare(op) => FieldExpr::Compare { op: *op, left, right },
            Token::Arithmetic(op) => FieldExpr::Arithmetic { op: *op, left, right },
            Token::Match { negated } => self.matching(*negated, left, &right),
            _ => return Err(self.unexpected()),
        };
        Ok(Grown { tree, height })
    }

    /// Joins chains of one operator into one node, so that long ones do not make a high tree. That
    /// `a && (b && c)` goes the same way changes nothing: the operators are associative.
    fn join_logical(
        &self,
        op: LogicalOp,
        left: Grown<FieldExpr>,
        right: Grown<FieldExpr>,
    ) -> Result<Grown<FieldExpr>, ParseError> {
        let below = |side: &Grown<FieldExpr>| match &side.tree {
            FieldExpr::Logical { op: inner, .. } if *inner == op => side.height - 1,
            _ => side.height,
        };
        let height = self.above(below(&left), below(&right))?;
        let mut operands = Vec::new();
        for side in [left.tree, right.tree] {
            match side {
                FieldExpr::Logical { op: inner, operands: more } if inner == op => {
                    if operands.is_empty() {
                        operands = more;
                    } else {
                        operands.extend(more);
                    }
                }
                side => operands.push(side),
            }
        }
        Ok(Grown { tree: FieldExpr::Logical { op, operands }, height })
    }

    fn matching(&mut self, negated: bool, value: Box<FieldExpr>, right: &FieldExpr) -> FieldExpr {
        let FieldExpr::Static(Static::Str(text)) = right else {
            let what =
                format!("a regular expression must be a string literal, not `{}`", excerpt(right));
            self.refuse(ParseError::types(what));
            return *value;
        };
        match self.patterns.compile(text) {
            Ok(pattern) => FieldExpr::Match { negated, value, pattern },
            Err(error) => {
                let what = format!("invalid regular expression `{}`: {error}", excerpt(text));
                self.refuse(ParseError::types(what));
                *value
            }
        }
    }

    /// An attribute or intrinsic.
    pub(super) fn attribute(&mut self) -> Result<Attribute, ParseError> {
        let (attribute, parent) = match self.peek() {
            Token::Intrinsic(intrinsic) => (Attribute::Intrinsic(*intrinsic), false),
            Token::Attribute(written) => {
                let name = Arc::clone(&written.name);
                (Attribute::Named { scope: written.scope, name }, written.parent)
            }
            Token::Parent => (Attribute::Named { scope: None, name: "parent".into() }, true),
            _ => return Err(self.unexpected()),
        };
        if parent {
            self.refuse(ParseError::unsupported("parent attributes are not supported"));
        }
        self.advance();
        Ok(attribute)
    }
}

/// Binding of an operator, and the least of its right side.
fn infix(token: &Token) -> Option<(u8, u8)> {
    let left = |binding| Some((binding, binding + 1));
    match token {
        Token::Logical(_) => left(binding::LOGICAL),
        Token::Compare(_) | Token::Match { .. } => left(binding::COMPARE),
        Token::Arithmetic(ArithmeticOp::Add | ArithmeticOp::Sub) => left(binding::SUM),
        Token::Arithmetic(ArithmeticOp::Mul | ArithmeticOp::Div | ArithmeticOp::Mod) => {
            left(binding::PRODUCT)
        }
        Token::Arithmetic(ArithmeticOp::Pow) => Some((binding::POWER, binding::POWER)),
        _ => None,
    }
}

/// Whether the operator may test for nil; true if negated.
fn nil_test(op: &Token) -> Option<bool> {
    match op {
        Token::Compare(CompareOp::Equal) => Some(false),
        Token::Compare(CompareOp::NotEqual) => Some(true),
        _ => None,
    }
}
