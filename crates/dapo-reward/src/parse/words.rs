//! The vocabulary: function names, Greek letters, text commands, unit words, typographic characters.

use crate::expr::Function;

/// A plain word with a meaning of its own.
pub(crate) enum Known {
    /// The same as the LaTeX command of this name.
    Command(&'static str),
    /// "and", "or".
    Separator,
}

const GREEK: &[&str] = &[
    "alpha", "beta", "gamma", "delta", "epsilon", "varepsilon", "zeta", "eta", "theta", "vartheta", "iota", "kappa",
    "lambda", "mu", "nu", "xi", "rho", "varrho", "sigma", "tau", "upsilon", "phi", "varphi", "chi", "psi", "omega",
    "Gamma", "Delta", "Theta", "Lambda", "Xi", "Sigma", "Upsilon", "Phi", "Psi", "Omega", "ell", "hbar", "Pi", "aleph",
];

/// The variable a command stands for.
pub(crate) fn greek(command: &str) -> Option<&'static str> {
    let name = GREEK.iter().find(|name| **name == command)?;
    Some(match *name {
        "varepsilon" => "epsilon",
        "vartheta" => "theta",
        "varrho" => "rho",
        "varphi" => "phi",
        name => name,
    })
}

pub(crate) fn function(command: &str) -> Option<Function> {
    Some(match command {
        "sin" => Function::Sin,
        "cos" => Function::Cos,
        "tan" | "tg" => Function::Tan,
        "cot" | "ctg" => Function::Cot,
        "sec" => Function::Sec,
        "csc" | "cosec" => Function::Csc,
        "arcsin" | "asin" => Function::ArcSin,
        "arccos" | "acos" => Function::ArcCos,
        "arctan" | "atan" | "arctg" => Function::ArcTan,
        "arccot" | "acot" => Function::ArcCot,
        "arcsec" | "asec" => Function::ArcSec,
        "arccsc" | "acsc" => Function::ArcCsc,
        "sinh" => Function::Sinh,
        "cosh" => Function::Cosh,
        "tanh" => Function::Tanh,
        "coth" => Function::Coth,
        "sech" => Function::Sech,
        "csch" => Function::Csch,
        "arsinh" | "arcsinh" | "asinh" => Function::ArcSinh,
        "arcosh" | "arccosh" | "acosh" => Function::ArcCosh,
        "artanh" | "arctanh" | "atanh" => Function::ArcTanh,
        "ln" => Function::Ln,
        "log" | "lg" => Function::Log,
        "exp" => Function::Exp,
        "abs" => Function::Abs,
        "floor" => Function::Floor,
        "ceil" | "ceiling" => Function::Ceil,
        "sgn" | "sign" | "signum" => Function::Sign,
        "gcd" => Function::Gcd,
        "lcm" => Function::Lcm,
        "min" => Function::Min,
        "max" => Function::Max,
        "Re" => Function::Re,
        "Im" => Function::Im,
        "arg" | "Arg" => Function::Arg,
        "det" => Function::Determinant,
        _ => return None,
    })
}

/// Plain words that need no backslash.
pub(crate) fn known(word: &str) -> Option<Known> {
    const COMMANDS: &[&str] = &[
        "sqrt", "cbrt", "frac", "dfrac", "tfrac", "binom", "cdot", "times", "pi", "Pi", "infty", "infinity", "inf", "oo",
        "cup", "union", "cap", "mod", "pm", "degree", "overline", "neq", "leq", "geq", "choose",
    ];
    if matches!(word, "and" | "or" | "AND" | "OR" | "And" | "Or") {
        return Some(Known::Separator);
    }
    if word == "Pi" || word == "PI" {
        return Some(Known::Command("pi"));
    }
    if word == "Infinity" {
        return Some(Known::Command("infty"));
    }
    let found = COMMANDS.iter().chain(FUNCTION_NAMES).chain(GREEK).find(|name| **name == word)?;
    Some(Known::Command(canonical_command(found)))
}

const FUNCTION_NAMES: &[&str] = &[
    "arcsin", "arccos", "arctan", "arccot", "arcsec", "arccsc", "arctg", "arcsinh", "arccosh", "arctanh", "arsinh", "arcosh",
    "artanh", "asin", "acos", "atan", "acot", "asinh", "acosh", "atanh", "sinh", "cosh", "tanh", "coth", "sech", "csch",
    "sin", "cos", "tan", "cot", "sec", "csc", "cosec", "ln", "log", "lg", "exp", "abs", "floor", "ceil", "ceiling", "sgn",
    "sign", "gcd", "lcm", "min", "max", "det",
];

/// `sinx` → `sin`, `x`: a function with at most two letters run on, or π with one.
pub(crate) fn split_function(word: &str) -> Option<(&'static str, &str)> {
    if let Some(rest) = word.strip_prefix("pi").filter(|rest| rest.len() == 1) {
        return Some(("pi", rest));
    }
    FUNCTION_NAMES
        .iter()
        .chain(&["sqrt"])
        .filter(|name| name.len() >= 2)
        .find_map(|name| Some((*name, word.strip_prefix(name)?)))
        .filter(|(_, rest)| (1..=2).contains(&rest.len()) && is_letters(rest))
}

/// Whether a run of letters reads as a product of variables rather than as a word.
pub(crate) fn is_letters(word: &str) -> bool {
    match word.len() {
        0 | 1 => true,
        2 => true,
        3..=5 if word.bytes().all(|c| c.is_ascii_uppercase()) => word.len() == 3 || !word.contains(['E', 'I', 'O', 'U']),
        3..=5 => word.bytes().all(|c| c.is_ascii_lowercase()) && !word.contains(['e', 'i', 'o', 'u']) && (!word.contains('a') || word.bytes().all(|c| b"abcdxyzmnk".contains(&c))),
        _ => false,
    }
}

/// Two-letter words that are words, when an answer consists of nothing else.
pub(crate) fn is_short_word(word: &str) -> bool {
    matches!(word, "no" | "on" | "up" | "in" | "at" | "to" | "is" | "it" | "he" | "us" | "we" | "me" | "my" | "by" | "if" | "an" | "as" | "go" | "so" | "of" | "ok" | "am" | "pm")
}

/// LaTeX commands that take a group of words.
pub(crate) fn is_text_command(name: &str) -> bool {
    matches!(
        name,
        "text" | "mbox" | "hbox" | "textbf" | "textit" | "textrm" | "textsf" | "texttt" | "textup" | "textnormal" | "mathrm" | "operatorname" | "emph" | "underline" | "textsc"
    )
}

/// Commands that only change how their argument looks.
pub(crate) fn is_font(name: &str) -> bool {
    matches!(
        name,
        "mathbf" | "mathit" | "boldsymbol" | "bm" | "mathcal" | "mathsf" | "mathtt" | "mathfrak" | "mathscr" | "pmb" | "bf" | "rm" | "it" | "displaystyle" | "textstyle" | "scriptstyle" | "limits" | "nolimits" | "boxed" | "fbox" | "mathop" | "mathrel" | "mathbin" | "mathord" | "color" | "normalfont"
    )
}

pub(crate) fn is_spacing(name: &str) -> bool {
    matches!(
        name,
        "quad" | "qquad" | "big" | "Big" | "bigg" | "Bigg" | "bigl" | "bigr" | "Bigl" | "Bigr" | "biggl" | "biggr" | "Biggl" | "Biggr" | "thinspace" | "hspace" | "enspace" | "space" | "hfill" | "smallskip" | "medskip" | "noindent" | "newline" | "par" | "strut" | "mathstrut" | "nonumber"
    )
}

/// One name for commands that mean the same.
pub(crate) fn canonical_command(name: &str) -> &str {
    match name {
        "dfrac" | "tfrac" | "cfrac" => "frac",
        "dbinom" | "tbinom" => "binom",
        "leq" | "leqslant" | "leqq" => "le",
        "geq" | "geqslant" | "geqq" => "ge",
        "neq" => "ne",
        "infinity" | "inf" | "oo" => "infty",
        "ast" | "bullet" => "cdot",
        "union" | "bigcup" => "cup",
        "bigcap" => "cap",
        "dots" | "cdots" | "dotsc" | "dotsb" | "dotso" => "ldots",
        "varnothing" => "emptyset",
        "backslash" => "setminus",
        "lbrace" => "{",
        "rbrace" => "}",
        "vert" => "mid",
        "simeq" | "thickapprox" | "approxeq" => "approx",
        "degree" | "degrees" => "degree",
        "ne" => "ne",
        "lor" | "vee" => "or",
        "land" | "wedge" => "and",
        "bmod" => "mod",
        _ => name,
    }
}

/// Commands whose backslash may come doubled.
pub(crate) fn is_latex_command(name: &str) -> bool {
    matches!(
        name,
        "frac" | "dfrac" | "tfrac" | "sqrt" | "cdot" | "times" | "div" | "pm" | "mp" | "infty" | "cup" | "cap" | "text" | "left" | "right" | "begin" | "end" | "boxed" | "mathrm" | "mathbf" | "le" | "leq" | "ge" | "geq" | "ne" | "neq" | "binom" | "overline" | "circ" | "pi" | "in"
    ) || function(name).is_some()
        || greek(name).is_some()
}

pub(crate) fn superscript(c: char) -> Option<&'static str> {
    Some(match c {
        '⁰' => "0",
        '¹' => "1",
        '²' => "2",
        '³' => "3",
        '⁴' => "4",
        '⁵' => "5",
        '⁶' => "6",
        '⁷' => "7",
        '⁸' => "8",
        '⁹' => "9",
        _ => return None,
    })
}

pub(crate) fn vulgar_fraction(c: char) -> Option<&'static str> {
    Some(match c {
        '½' => "1/2",
        '⅓' => "1/3",
        '⅔' => "2/3",
        '¼' => "1/4",
        '¾' => "3/4",
        '⅕' => "1/5",
        '⅖' => "2/5",
        '⅗' => "3/5",
        '⅘' => "4/5",
        '⅙' => "1/6",
        '⅚' => "5/6",
        '⅐' => "1/7",
        '⅛' => "1/8",
        '⅜' => "3/8",
        '⅝' => "5/8",
        '⅞' => "7/8",
        '⅑' => "1/9",
        '⅒' => "1/10",
        _ => return None,
    })
}

pub(crate) fn symbol(c: char) -> Option<char> {
    Some(match c {
        '−' | '–' | '—' | '‐' | '‑' | '－' => '-',
        '×' | '·' | '⋅' | '∙' | '•' | '∗' | '✕' => '*',
        '÷' | '⁄' | '∕' => '/',
        '＋' => '+',
        '＝' => '=',
        '，' | '、' => ',',
        '：' | '∶' => ':',
        '；' => ';',
        '（' => '(',
        '）' => ')',
        '［' => '[',
        '］' => ']',
        '’' | '′' => '\'',
        '∣' | '｜' => '|',
        '％' => '%',
        '！' => '!',
        '＜' => '<',
        '＞' => '>',
        _ => return None,
    })
}

pub(crate) fn unicode_command(c: char) -> Option<&'static str> {
    Some(match c {
        '≤' | '⩽' | '≦' => "le",
        '≥' | '⩾' | '≧' => "ge",
        '≠' => "ne",
        '≈' | '≃' | '≅' => "approx",
        '≡' => "equiv",
        '±' => "pm",
        '∓' => "mp",
        '∞' => "infty",
        'π' | 'Π' | '𝜋' => "pi",
        '√' => "sqrt",
        '∛' => "cbrt",
        '°' | '˚' | 'º' => "degree",
        '∪' => "cup",
        '∩' => "cap",
        '∈' => "in",
        '∅' => "emptyset",
        '∖' => "setminus",
        '…' | '⋯' => "ldots",
        'ℝ' => "Reals",
        'α' => "alpha",
        'β' => "beta",
        'γ' => "gamma",
        'δ' => "delta",
        'ε' | 'ϵ' => "epsilon",
        'θ' | 'ϑ' => "theta",
        'λ' => "lambda",
        'μ' | 'µ' => "mu",
        'ρ' => "rho",
        'σ' => "sigma",
        'τ' => "tau",
        'φ' | 'ϕ' => "phi",
        'ω' => "omega",
        'Δ' | '∆' => "Delta",
        'Ω' => "Omega",
        '⌊' => "lfloor",
        '⌋' => "rfloor",
        '⌈' => "lceil",
        '⌉' => "rceil",
        '⟨' | '〈' => "langle",
        '⟩' | '〉' => "rangle",
        '∧' => "and",
        '∨' => "or",
        '€' => "euro",
        '£' => "sterling",
        '¥' => "yen",
        '₹' => "rupee",
        '∠' => "angle",
        '△' => "triangle",
        _ => return None,
    })
}

/// Words that may follow a number without a `\text`: units of measure, currencies, and things commonly counted.
pub(crate) fn is_unit(word: &str) -> bool {
    let lower = word.to_ascii_lowercase();
    super::units::is_measure(&lower) || COUNTED.contains(&lower.as_str()) || lower.strip_suffix('s').is_some_and(|one| COUNTED.contains(&one))
}

/// Whether words after a number are a unit or a thing counted, not a part of the statement.
pub(crate) fn is_unit_phrase(text: &str) -> bool {
    const CONNECTIVES: &[&str] = &[
        "or", "and", "not", "no", "more", "less", "fewer", "than", "least", "most", "if", "for", "when", "where", "mod", "modulo",
        "times", "over", "about", "approximately", "is", "are", "was", "plus", "minus", "but", "to", "from", "between", "otherwise",
        "with", "without", "only", "both", "neither", "nor", "either", "infinity", "undefined", "base", "half", "halves", "thirds", "quarter", "quarters",
    ];
    !text.split(|c: char| !c.is_alphanumeric()).any(|word| CONNECTIVES.iter().any(|other| word.eq_ignore_ascii_case(other)))
        && !text.contains(['=', '<', '>', '+', '\\'])
}

/// Multipliers spelled out.
pub(crate) fn multiplier(text: &str) -> Option<i64> {
    Some(match text.trim().to_ascii_lowercase().as_str() {
        "hundred" => 100,
        "thousand" => 1_000,
        "million" => 1_000_000,
        "billion" => 1_000_000_000,
        "trillion" => 1_000_000_000_000,
        "dozen" => 12,
        _ => return None,
    })
}

const COUNTED: &[&str] = &[
    "unit", "way", "point", "people", "person", "student", "child", "children", "kid", "boy", "girl", "man", "men", "woman", "women", "adult", "friend",
    "player", "worker", "teacher", "guest", "member", "customer", "passenger", "apple", "orange", "banana", "egg", "cookie",
    "cake", "cupcake", "slice", "piece", "pizza", "book", "page", "pencil", "pen", "marble", "ball", "card", "stamp", "coin",
    "toy", "car", "truck", "bus", "buses", "bike", "box", "boxes", "bag", "bottle", "cup", "glass", "glasses", "can", "jar", "pack", "packet",
    "ticket", "flower", "rose", "tree", "plant", "seed", "dog", "cat", "fish", "bird", "chicken", "duck", "cow", "sheep", "pig",
    "horse", "animal", "house", "room", "chair", "table", "window", "door", "step", "lap", "game", "match", "matches", "goal", "time",
    "question", "problem", "answer", "letter", "word", "number", "integer", "digit", "solution", "root", "value", "term",
    "side", "edge", "vertex", "vertices", "face", "triangle", "rectangle", "circle", "square", "line", "region", "path", "route",
    "choice", "outcome", "combination", "arrangement", "permutation", "pair", "set", "subset", "group", "team", "row", "column",
    "sticker", "balloon", "candy", "candies", "chocolate", "sandwich", "sandwiches", "meal", "shirt", "dress", "shoe", "hat",
    "photo", "picture", "song", "movie", "video", "seashell", "shell", "flag", "block", "brick", "tile", "stone", "rock",
    "percent", "multiple", "divisor", "factor", "ounce", "serving", "crayon", "marker", "sheet", "paper", "plate", "bowl",
    "basket", "bucket", "crate", "item", "object", "thing", "unit", "place", "spot", "seat", "visitor", "turn", "trip", "roll",
    "dice", "die", "head", "tail", "total", "apiece", "each", "remaining", "left", "altogether", "tonne", "cubic", "per", "sq",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_not_products_of_letters() {
        for letters in ["xy", "abc", "xyz", "mn", "rst", "pq"] {
            assert!(is_letters(letters), "{letters}");
        }
        for word in ["odd", "even", "east", "Amy", "May", "apples", "yes", "none"] {
            assert!(!is_letters(word), "{word}");
        }
    }

    #[test]
    fn functions_split_from_short_arguments_only() {
        assert_eq!(split_function("sinx"), Some(("sin", "x")));
        assert_eq!(split_function("lnab"), Some(("ln", "ab")));
        assert_eq!(split_function("sincere"), None);
        assert_eq!(split_function("pir"), Some(("pi", "r")));
    }

    #[test]
    fn statements_are_not_units() {
        assert!(is_unit_phrase(" any text"));
        assert!(is_unit_phrase("square feet"));
        assert!(!is_unit_phrase(" or more"));
        assert!(!is_unit_phrase("if x"));
    }
}
