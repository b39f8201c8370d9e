//! Tokens to the tree: metrics functions, stages over series, metrics math.

use super::ast::{
    ArithmeticOp, Attribute, Body, FirstStage, MathOp, MetricsExpr, MetricsFn, MetricsQuery,
    Pipeline, SecondStage, Static,
};
use super::error::ParseError;
use super::parser::{Grown, Parser};
use super::token::{MetricWord, Token};

/// Number of attributes `compare` lists when the query does not say.
const COMPARE_TOP: usize = 10;

impl Parser<'_> {
    /// `| first { second }` behind a pipeline.
    pub(super) fn metrics(&mut self, pipeline: Pipeline) -> Result<Body, ParseError> {
        let query = self.metrics_query(pipeline)?;
        Ok(Body::Metrics { expr: MetricsExpr::Query(query), second: Vec::new() })
    }

    fn metrics_query(&mut self, pipeline: Pipeline) -> Result<MetricsQuery, ParseError> {
        self.expect(&Token::Pipe)?;
        let first = self.first_stage()?;
        let second = self.second_stages()?;
        Ok(MetricsQuery { pipeline, first, second })
    }

    fn first_stage(&mut self) -> Result<FirstStage, ParseError> {
        let Token::Metric(word) = *self.peek() else {
            return Err(self.unexpected());
        };
        self.advance();
        self.expect(&Token::OpenParen)?;
        if word == MetricWord::Compare {
            return self.compare_stage();
        }
        let function = match word {
            MetricWord::Rate => MetricsFn::Rate,
            MetricWord::CountOverTime => MetricsFn::CountOverTime,
            MetricWord::MinOverTime => MetricsFn::MinOverTime(self.attribute()?),
            MetricWord::MaxOverTime => MetricsFn::MaxOverTime(self.attribute()?),
            MetricWord::AvgOverTime => MetricsFn::AvgOverTime(self.attribute()?),
            MetricWord::SumOverTime => MetricsFn::SumOverTime(self.attribute()?),
            MetricWord::HistogramOverTime => MetricsFn::HistogramOverTime(self.attribute()?),
            MetricWord::QuantileOverTime => self.quantile()?,
            MetricWord::Compare => return Err(self.unexpected()),
        };
        self.expect(&Token::CloseParen)?;
        let by = self.metrics_by()?;
        Ok(FirstStage::Function { function, by })
    }

    fn quantile(&mut self) -> Result<MetricsFn, ParseError> {
        let argument = self.attribute()?;
        let mut quantiles = Vec::new();
        while quantiles.is_empty() || *self.peek() == Token::Comma {
            self.expect(&Token::Comma)?;
            quantiles.push(match self.peek() {
                Token::Literal(Static::Int(value)) => *value as f64,
                Token::Literal(Static::Float(value)) => *value,
                _ => return Err(self.unexpected()),
            });
            self.advance();
        }
        Ok(MetricsFn::QuantileOverTime(argument, quantiles))
    }

    fn metrics_by(&mut self) -> Result<Vec<Attribute>, ParseError> {
        if !self.accept(&Token::By) {
            return Ok(Vec::new());
        }
        self.expect(&Token::OpenParen)?;
        self.list(Parser::attribute)
    }

    /// `{ selection } [, top [, start, end]] )`
    fn compare_stage(&mut self) -> Result<FirstStage, ParseError> {
        let selection = self.filter()?;
        let (mut top, mut start_nanos, mut end_nanos) = (COMPARE_TOP, 0, 0);
        if self.accept(&Token::Comma) {
            top = self.count()?;
            if self.accept(&Token::Comma) {
                start_nanos = self.integer()?;
                self.expect(&Token::Comma)?;
                end_nanos = self.integer()?;
            }
        }
        self.expect(&Token::CloseParen)?;
        Ok(FirstStage::Compare { selection, top, start_nanos, end_nanos })
    }

    fn second_stages(&mut self) -> Result<Vec<SecondStage>, ParseError> {
        let mut stages = Vec::new();
        loop {
            if let Some(comparison) = self.comparison()? {
                stages.push(SecondStage::Filter(comparison));
                continue;
            }
            if !self.accept(&Token::Pipe) {
                return Ok(stages);
            }
            let largest = match self.peek() {
                Token::TopK => true,
                Token::BottomK => false,
                _ => return Err(self.unexpected()),
            };
            self.advance();
            self.expect(&Token::OpenParen)?;
            let n = self.count()?;
            self.expect(&Token::CloseParen)?;
            stages.push(if largest { SecondStage::TopK(n) } else { SecondStage::BottomK(n) });
        }
    }

    fn integer(&mut self) -> Result<u64, ParseError> {
        let Token::Literal(Static::Int(value)) = *self.peek() else {
            return Err(self.unexpected());
        };
        self.advance();
        Ok(u64::try_from(value).unwrap_or(0))
    }

    fn count(&mut self) -> Result<usize, ParseError> {
        Ok(usize::try_from(self.integer()?).unwrap_or(usize::MAX))
    }

    /// Whether an operand of metrics math can begin here.
    pub(super) fn begins_math(&self) -> bool {
        matches!(
            self.peek(),
            Token::OpenParen | Token::Literal(_) | Token::Arithmetic(ArithmeticOp::Sub)
        )
    }

    /// A query in which a metrics function stands within parentheses.
    pub(super) fn metrics_math(&mut self) -> Result<Body, ParseError> {
        let expr = self.math(0)?.tree;
        let second = self.second_stages()?;
        match expr {
            MetricsExpr::Query(mut query) => {
                query.second.extend(second);
                Ok(Body::Metrics { expr: MetricsExpr::Query(query), second: Vec::new() })
            }
            MetricsExpr::Math { .. } => Ok(Body::Metrics { expr, second }),
            MetricsExpr::Constant(_) => Err(self.unexpected()),
        }
    }

    fn math(&mut self, least: u8) -> Result<Grown<MetricsExpr>, ParseError> {
        self.nest(|parser| {
            let mut left = parser.math_operand()?;
            while let Token::Arithmetic(arithmetic) = *parser.peek() {
                let (op, binding) = match arithmetic {
                    ArithmeticOp::Add => (MathOp::Add, 0),
                    ArithmeticOp::Sub => (MathOp::Sub, 0),
                    ArithmeticOp::Mul => (MathOp::Mul, 1),
                    ArithmeticOp::Div => (MathOp::Div, 1),
                    ArithmeticOp::Mod | ArithmeticOp::Pow => return Err(parser.unexpected()),
                };
                if binding < least {
                    break;
                }
                parser.advance();
                let right = parser.math(binding + 1)?;
                left = parser.join_math((op, arithmetic), left, right)?;
            }
            Ok(left)
        })
    }

    fn math_operand(&mut self) -> Result<Grown<MetricsExpr>, ParseError> {
        let tree = match self.peek() {
            Token::OpenParen if self.opens_pipeline() && !self.begins_with_pipeline(1) => {
                self.advance();
                let pipeline = self.pipeline()?;
                let query = self.metrics_query(pipeline)?;
                self.expect(&Token::CloseParen)?;
                MetricsExpr::Query(query)
            }
            Token::OpenParen => {
                self.advance();
                let inner = self.math(0)?;
                self.expect(&Token::CloseParen)?;
                return Ok(inner);
            }
            Token::Arithmetic(ArithmeticOp::Sub) => MetricsExpr::Constant(self.negative()?),
            _ => MetricsExpr::Constant(self.number()?),
        };
        Ok(Grown { tree, height: 1 })
    }

    fn join_math(
        &self,
        (op, arithmetic): (MathOp, ArithmeticOp),
        left: Grown<MetricsExpr>,
        right: Grown<MetricsExpr>,
    ) -> Result<Grown<MetricsExpr>, ParseError> {
        if let (MetricsExpr::Constant(left), MetricsExpr::Constant(right)) =
            (&left.tree, &right.tree)
        {
            let value = self.fold_constants(arithmetic, left, right)?;
            return Ok(Grown { tree: MetricsExpr::Constant(value), height: 1 });
        }
        for side in [&left.tree, &right.tree] {
            if let MetricsExpr::Constant(Static::Duration(_)) = side {
                return Err(
                    self.fault_before("syntax error: durations cannot be computed with here")
                );
            }
        }
        let height = self.above(left.height, right.height)?;
        let (left, right) = (Box::new(left.tree), Box::new(right.tree));
        Ok(Grown { tree: MetricsExpr::Math { op, left, right }, height })
    }
}
