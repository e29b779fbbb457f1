//! What an answer means: one tree for numbers, expressions and structures.

use dashu_ratio::RBig;

/// A node of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Expr {
    Number(Number),
    Constant(Constant),
    Variable(Box<str>),
    Sum(Vec<Expr>),
    Product(Vec<Expr>),
    Power(Box<Expr>, Box<Expr>),
    Call(Function, Vec<Expr>),
    /// `±x` (or `∓x`): both signs; the same one everywhere in an answer that has a `∓`.
    PlusMinus {
        flipped: bool,
        term: Box<Expr>,
    },
    /// `x%` as a whole answer; elsewhere it is a product.
    Percent(Box<Expr>),
    /// A value with a unit of measure or a currency.
    Quantity(Box<Expr>, Box<str>),
    /// `(…)`, `[…]`, `(…]`, `[…)` with two items or more: a tuple, a vector or an interval.
    Tuple {
        left: Bracket,
        items: Vec<Expr>,
        right: Bracket,
    },
    /// Several answers side by side.
    List(Separator, Vec<Expr>),
    /// `{…}`.
    Set(Vec<Expr>),
    SetOperation(SetOperation, Vec<Expr>),
    Matrix(Vec<Vec<Expr>>),
    /// `sides[0] ops[0] sides[1] ops[1] …`.
    Relation {
        sides: Vec<Expr>,
        operators: Vec<Relation>,
    },
    /// `a : b : …`.
    Ratio(Vec<Expr>),
    /// A time of day.
    Time(Time),
    /// A value and the condition under which it holds: `cx` for any `c`.
    Qualified(Box<Expr>, Box<Expr>),
    /// A choice letter with the answer it stands for, if that was given.
    Choice(char, Option<Box<Expr>>),
    /// Words.
    Text(Box<str>),
}

/// A time of day as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Time {
    pub(crate) hour: u8,
    pub(crate) minute: u8,
    pub(crate) second: u8,
    /// Which half of the day, where `a.m.` or `p.m.` says so.
    pub(crate) half: Option<Half>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    Morning,
    Afternoon,
}

/// A rational number as written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Number {
    pub(crate) value: RBig,
    /// For a decimal: how many digits stand after the point, less the power of ten it is scaled by.
    pub(crate) places: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Constant {
    Pi,
    E,
    I,
    Infinity,
    Reals,
    EmptySet,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bracket {
    Round,
    Square,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Separator {
    Comma,
    And,
    Or,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SetOperation {
    Union,
    Intersection,
    Difference,
    /// One set written in several ways.
    Same,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relation {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Approximately,
    Congruent,
    In,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Function {
    Sin,
    Cos,
    Tan,
    Cot,
    Sec,
    Csc,
    ArcSin,
    ArcCos,
    ArcTan,
    ArcCot,
    ArcSec,
    ArcCsc,
    Sinh,
    Cosh,
    Tanh,
    Coth,
    Sech,
    Csch,
    ArcSinh,
    ArcCosh,
    ArcTanh,
    Ln,
    /// `Log(base, x)`.
    Log,
    Exp,
    Abs,
    Floor,
    Ceil,
    Sign,
    /// `Root(n, x)`: the real n-th root.
    Root,
    Factorial,
    DoubleFactorial,
    Binomial,
    Gcd,
    Lcm,
    Min,
    Max,
    Mod,
    Re,
    Im,
    Arg,
    /// An angle in degrees.
    Degree,
    Determinant,
    /// A function that is only named: its name as a variable, then its arguments.
    Apply,
}

impl Expr {
    pub(crate) fn integer(value: i64) -> Self {
        Self::rational(RBig::from(value))
    }

    pub(crate) fn rational(value: RBig) -> Self {
        Self::Number(Number { value, places: None })
    }

    pub(crate) fn power(base: Expr, exponent: Expr) -> Self {
        Self::Power(Box::new(base), Box::new(exponent))
    }

    pub(crate) fn reciprocal(self) -> Self {
        Self::power(self, Self::integer(-1))
    }

    pub(crate) fn negate(self) -> Self {
        match self {
            Self::Number(Number { value, places }) => Self::Number(Number { value: -value, places }),
            Self::Product(mut factors) => {
                factors.insert(0, Self::integer(-1));
                Self::Product(factors)
            }
            Self::Quantity(value, unit) => Self::Quantity(Box::new(value.negate()), unit),
            other => Self::Product(vec![Self::integer(-1), other]),
        }
    }

    pub(crate) fn difference(left: Expr, right: Expr) -> Self {
        Self::Sum(vec![left, right.negate()])
    }

    pub(crate) fn call(function: Function, argument: Expr) -> Self {
        Self::Call(function, vec![argument])
    }

    /// The node's children, in order.
    pub(crate) fn children(&self) -> Box<dyn Iterator<Item = &Expr> + '_> {
        match self {
            Self::Number(_) | Self::Constant(_) | Self::Variable(_) | Self::Text(_) | Self::Time(_) => {
                Box::new(std::iter::empty())
            }
            Self::Sum(items)
            | Self::Product(items)
            | Self::Call(_, items)
            | Self::List(_, items)
            | Self::Set(items)
            | Self::SetOperation(_, items)
            | Self::Ratio(items)
            | Self::Tuple { items, .. }
            | Self::Relation { sides: items, .. } => Box::new(items.iter()),
            Self::Power(base, exponent) | Self::Qualified(base, exponent) => {
                Box::new([base.as_ref(), exponent.as_ref()].into_iter())
            }
            Self::PlusMinus { term, .. } | Self::Percent(term) | Self::Quantity(term, _) => {
                Box::new(std::iter::once(term.as_ref()))
            }
            Self::Choice(_, rest) => Box::new(rest.iter().map(AsRef::as_ref)),
            Self::Matrix(rows) => Box::new(rows.iter().flatten()),
        }
    }

    /// The same node with every child replaced.
    pub(crate) fn map_children(&self, f: &mut dyn FnMut(&Expr) -> Expr) -> Expr {
        let mut all = |items: &[Expr]| items.iter().map(&mut *f).collect::<Vec<_>>();
        match self {
            Self::Number(_) | Self::Constant(_) | Self::Variable(_) | Self::Text(_) | Self::Time(_) => self.clone(),
            Self::Sum(items) => Self::Sum(all(items)),
            Self::Product(items) => Self::Product(all(items)),
            Self::Call(function, items) => Self::Call(*function, all(items)),
            Self::List(separator, items) => Self::List(*separator, all(items)),
            Self::Set(items) => Self::Set(all(items)),
            Self::SetOperation(operation, items) => Self::SetOperation(*operation, all(items)),
            Self::Ratio(items) => Self::Ratio(all(items)),
            Self::Tuple { left, items, right } => Self::Tuple { left: *left, items: all(items), right: *right },
            Self::Relation { sides, operators } => Self::Relation { sides: all(sides), operators: operators.clone() },
            Self::Power(base, exponent) => Self::power(f(base), f(exponent)),
            Self::PlusMinus { flipped, term } => Self::PlusMinus { flipped: *flipped, term: Box::new(f(term)) },
            Self::Qualified(value, condition) => Self::Qualified(Box::new(f(value)), Box::new(f(condition))),
            Self::Percent(term) => Self::Percent(Box::new(f(term))),
            Self::Quantity(term, unit) => Self::Quantity(Box::new(f(term)), unit.clone()),
            Self::Choice(letter, rest) => Self::Choice(*letter, rest.as_ref().map(|rest| Box::new(f(rest)))),
            Self::Matrix(rows) => Self::Matrix(rows.iter().map(|row| all(row)).collect()),
        }
    }

    /// Whether `test` holds for this node or any below it.
    pub(crate) fn any(&self, test: &dyn Fn(&Expr) -> bool) -> bool {
        test(self) || self.any_child(&|child| child.any(test))
    }

    /// Whether `test` holds for a child.
    fn any_child(&self, test: &dyn Fn(&Expr) -> bool) -> bool {
        match self {
            Self::Number(_) | Self::Constant(_) | Self::Variable(_) | Self::Text(_) | Self::Time(_) => false,
            Self::Sum(items)
            | Self::Product(items)
            | Self::Call(_, items)
            | Self::List(_, items)
            | Self::Set(items)
            | Self::SetOperation(_, items)
            | Self::Ratio(items)
            | Self::Tuple { items, .. }
            | Self::Relation { sides: items, .. } => items.iter().any(test),
            Self::Power(one, other) | Self::Qualified(one, other) => test(one) || test(other),
            Self::PlusMinus { term, .. } | Self::Percent(term) | Self::Quantity(term, _) => test(term),
            Self::Choice(_, rest) => rest.as_ref().is_some_and(|rest| test(rest)),
            Self::Matrix(rows) => rows.iter().flatten().any(test),
        }
    }

    /// Whether this is a value that arithmetic can be done with, not a structure or words.
    pub(crate) fn is_scalar(&self) -> bool {
        match self {
            Self::Number(_) | Self::Variable(_) => true,
            Self::Constant(constant) => !matches!(constant, Constant::Reals | Constant::EmptySet),
            Self::Sum(_)
            | Self::Product(_)
            | Self::Power(..)
            | Self::Call(..)
            | Self::PlusMinus { .. }
            | Self::Percent(_) => !self.any_child(&|child| !child.is_scalar()),
            _ => false,
        }
    }
}
