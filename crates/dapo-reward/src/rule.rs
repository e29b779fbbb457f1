//! The rules by which the verifier decides.

use std::fmt;

/// The rule that decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// No answer was found in the completion.
    Extraction,
    /// An answer could not be read.
    Parsing,
    /// Both read as the same expression.
    Identical,
    /// Both are rational numbers, compared exactly.
    Number,
    /// Canonical sums, products, powers and radicals.
    CanonicalForm,
    /// Values modulo large primes.
    Residues,
    /// Enclosures of constants at rising precision.
    Enclosure,
    /// Values at fixed points of the common real domain.
    Points,
    /// A decimal at its stated digits, or to the configured precision.
    Decimal,
    /// Parts of a structure: a list, tuple, set, matrix or ratio.
    Structure,
    /// Sets of real numbers: intervals, unions, inequalities.
    RealSet,
    /// Equations up to a factor, inequalities with their direction.
    Relation,
    /// A chain of equations that does not hold.
    Contradiction,
    /// Units that do not measure the same.
    Unit,
    /// Choice letters.
    Choice,
    /// Words.
    Words,
    /// Texts written alike, where the gold answer cannot be read.
    Text,
    /// A value that does not exist, such as a quotient by zero.
    Undefined,
    /// Nothing shows the answers equal, and nothing that they differ.
    Undecided,
    /// The work allowed was used up.
    Fuel,
}

impl Rule {
    /// The rule's name in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Extraction => "extraction",
            Self::Parsing => "parsing",
            Self::Identical => "identical",
            Self::Number => "number",
            Self::CanonicalForm => "canonical-form",
            Self::Residues => "residues",
            Self::Enclosure => "enclosure",
            Self::Points => "points",
            Self::Decimal => "decimal",
            Self::Structure => "structure",
            Self::RealSet => "real-set",
            Self::Relation => "relation",
            Self::Contradiction => "contradiction",
            Self::Unit => "unit",
            Self::Choice => "choice",
            Self::Words => "words",
            Self::Text => "text",
            Self::Undefined => "undefined",
            Self::Undecided => "undecided",
            Self::Fuel => "fuel",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
