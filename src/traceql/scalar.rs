//! Tokens to the tree: constants and comparisons of aggregates.

use super::ast::{Aggregate, ArithmeticOp, CompareOp, Comparison, FieldExpr, ScalarFilter, Static};
use super::error::ParseError;
use super::fold::{arithmetic, negate};
use super::parser::{BareAggregate, Parser};
use super::token::Token;

/// An operand of a scalar comparison.
enum Scalar {
    Constant(Static),
    Aggregate(Aggregate),
    /// Arithmetic with an aggregate, which is not supported.
    Compound,
}

impl Parser<'_> {
    /// Whether a scalar filter begins here.
    pub(super) fn begins_scalar(&self) -> bool {
        let token = match self.peek() {
            Token::OpenParen => self.peek_inside(),
            token => token,
        };
        match token {
            Token::Count | Token::Aggregate(_) | Token::Arithmetic(ArithmeticOp::Sub) => true,
            Token::Literal(value) => value.type_of().is_numeric(),
            _ => false,
        }
    }

    /// `aggregate cmp constant`. Nothing, where that is allowed, for an aggregate with a
    /// parenthesis behind it.
    pub(super) fn scalar_filter(
        &mut self,
        bare: BareAggregate,
    ) -> Result<Option<ScalarFilter>, ParseError> {
        let left = self.scalar(0)?;
        let constant_left = matches!(left, Scalar::Constant(_));
        if bare == BareAggregate::Allowed && !constant_left && *self.peek() == Token::CloseParen {
            return Ok(None);
        }
        let Token::Compare(op) = *self.peek() else {
            return Err(self.unexpected());
        };
        self.advance();
        match (left, self.scalar(0)?) {
            (Scalar::Aggregate(aggregate), Scalar::Constant(value)) => {
                Ok(Some(ScalarFilter { aggregate, comparison: Comparison { op, value } }))
            }
            (Scalar::Constant(_), Scalar::Constant(_)) => {
                Err(self.fault_before("syntax error: constants are compared with constants"))
            }
            _ => {
                let what = "an aggregate can only be compared with a constant to its right";
                self.refuse(ParseError::unsupported(what));
                let comparison = Comparison { op: CompareOp::Equal, value: Static::Int(0) };
                Ok(Some(ScalarFilter { aggregate: Aggregate::Count, comparison }))
            }
        }
    }

    /// `cmp constant`, if a comparison stands here.
    pub(super) fn comparison(&mut self) -> Result<Option<Comparison>, ParseError> {
        let Token::Compare(op) = *self.peek() else {
            return Ok(None);
        };
        self.advance();
        let value = self.constant()?;
        Ok(Some(Comparison { op, value }))
    }

    /// The longest sum of literals.
    pub(super) fn constant(&mut self) -> Result<Static, ParseError> {
        match self.scalar(0)? {
            Scalar::Constant(value) => Ok(value),
            Scalar::Aggregate(_) | Scalar::Compound => {
                Err(self.fault_before("syntax error: expected a constant"))
            }
        }
    }

    fn scalar(&mut self, least: u8) -> Result<Scalar, ParseError> {
        self.nest(|parser| {
            let mut left = parser.scalar_operand()?;
            while let Token::Arithmetic(op) = *parser.peek() {
                let (binding, right_binding) = match op {
                    ArithmeticOp::Add | ArithmeticOp::Sub => (0, 1),
                    ArithmeticOp::Mul | ArithmeticOp::Div | ArithmeticOp::Mod => (1, 2),
                    ArithmeticOp::Pow => (2, 2),
                };
                if binding < least {
                    break;
                }
                let at = parser.at;
                parser.advance();
                left = match (left, parser.scalar(right_binding)?) {
                    (Scalar::Constant(left), Scalar::Constant(right)) => match op {
                        ArithmeticOp::Mod | ArithmeticOp::Pow => {
                            return Err(parser.unexpected_at(at));
                        }
                        _ => Scalar::Constant(parser.fold_constants(op, &left, &right)?),
                    },
                    _ => Scalar::Compound,
                };
            }
            Ok(left)
        })
    }

    fn scalar_operand(&mut self) -> Result<Scalar, ParseError> {
        match self.peek() {
            Token::OpenParen => {
                self.advance();
                let inner = self.scalar(0)?;
                self.expect(&Token::CloseParen)?;
                Ok(inner)
            }
            Token::Count => {
                self.advance();
                self.expect(&Token::OpenParen)?;
                self.expect(&Token::CloseParen)?;
                Ok(Scalar::Aggregate(Aggregate::Count))
            }
            Token::Aggregate(function) => {
                let function = *function;
                self.advance();
                self.expect(&Token::OpenParen)?;
                let argument: FieldExpr = self.field(0)?.tree;
                self.expect(&Token::CloseParen)?;
                Ok(Scalar::Aggregate(Aggregate::Of(function, argument)))
            }
            Token::Arithmetic(ArithmeticOp::Sub) => self.negative().map(Scalar::Constant),
            _ => self.number().map(Scalar::Constant),
        }
    }

    /// A sign and the constant behind it, which it binds more tightly than any operator.
    pub(super) fn negative(&mut self) -> Result<Static, ParseError> {
        self.expect(&Token::Arithmetic(ArithmeticOp::Sub))?;
        let operand = self.nest(Parser::scalar_operand)?;
        if let Scalar::Constant(value) = operand
            && let Some(value) = negate(&value)
        {
            return Ok(value);
        }
        Err(self.fault_before("syntax error: only a constant takes a sign here"))
    }

    /// A literal number or duration.
    pub(super) fn number(&mut self) -> Result<Static, ParseError> {
        let value = match self.peek() {
            Token::Literal(value) if value.type_of().is_numeric() => value.clone(),
            _ => return Err(self.unexpected()),
        };
        self.advance();
        Ok(value)
    }

    /// Value of `left op right` among constants.
    pub(super) fn fold_constants(
        &self,
        op: ArithmeticOp,
        left: &Static,
        right: &Static,
    ) -> Result<Static, ParseError> {
        if matches!(left, Static::Duration(_)) || matches!(right, Static::Duration(_)) {
            return Err(self.fault_before("syntax error: durations cannot be computed with here"));
        }
        arithmetic(op, left, right).ok_or_else(|| self.fault_before("division by zero"))
    }
}
