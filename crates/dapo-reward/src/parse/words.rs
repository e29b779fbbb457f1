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
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "varepsilon",
    "zeta",
    "eta",
    "theta",
    "vartheta",
    "iota",
    "kappa",
    "lambda",
    "mu",
    "nu",
    "xi",
    "rho",
    "varrho",
    "sigma",
    "tau",
    "upsilon",
    "phi",
    "varphi",
    "chi",
    "psi",
    "omega",
    "Gamma",
    "Delta",
    "Theta",
    "Lambda",
    "Xi",
    "Sigma",
    "Upsilon",
    "Phi",
    "Psi",
    "Omega",
    "ell",
    "hbar",
    "Pi",
    "aleph",
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
        "sqrt", "cbrt", "frac", "dfrac", "tfrac", "binom", "cdot", "times", "pi", "Pi", "infty", "infinity", "inf",
        "oo", "cup", "union", "cap", "mod", "pm", "degree", "overline", "neq", "leq", "geq", "choose",
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
    "arcsin", "arccos", "arctan", "arccot", "arcsec", "arccsc", "arctg", "arcsinh", "arccosh", "arctanh", "arsinh",
    "arcosh", "artanh", "asin", "acos", "atan", "acot", "asinh", "acosh", "atanh", "sinh", "cosh", "tanh", "coth",
    "sech", "csch", "sin", "cos", "tan", "cot", "sec", "csc", "cosec", "ln", "log", "lg", "exp", "abs", "floor",
    "ceil", "ceiling", "sgn", "sign", "gcd", "lcm", "min", "max", "det",
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
        0..=2 => true,
        3..=5 if word.bytes().all(|c| c.is_ascii_uppercase()) => {
            word.len() == 3 || !word.contains(['E', 'I', 'O', 'U'])
        }
        3..=5 => {
            word.bytes().all(|c| c.is_ascii_lowercase())
                && !word.contains(['e', 'i', 'o', 'u'])
                && (!word.contains('a') || word.bytes().all(|c| b"abcdxyzmnk".contains(&c)))
        }
        _ => false,
    }
}

/// Two-letter words that are words, when an answer consists of nothing else.
pub(crate) fn is_short_word(word: &str) -> bool {
    matches!(
        word,
        "no" | "on"
            | "up"
            | "in"
            | "at"
            | "to"
            | "is"
            | "it"
            | "he"
            | "us"
            | "we"
            | "me"
            | "my"
            | "by"
            | "if"
            | "an"
            | "as"
            | "go"
            | "so"
            | "of"
            | "ok"
            | "am"
            | "pm"
    )
}

/// LaTeX commands that take a group of words.
pub(crate) fn is_text_command(name: &str) -> bool {
    matches!(
        name,
        "text"
            | "mbox"
            | "hbox"
            | "textbf"
            | "textit"
            | "textrm"
            | "textsf"
            | "texttt"
            | "textup"
            | "textnormal"
            | "mathrm"
            | "operatorname"
            | "emph"
            | "underline"
            | "textsc"
    )
}

/// Commands that only change how their argument looks.
pub(crate) fn is_font(name: &str) -> bool {
    matches!(
        name,
        "mathbf"
            | "mathit"
            | "boldsymbol"
            | "bm"
            | "mathcal"
            | "mathsf"
            | "mathtt"
            | "mathfrak"
            | "mathscr"
            | "pmb"
            | "bf"
            | "rm"
            | "it"
            | "displaystyle"
            | "textstyle"
            | "scriptstyle"
            | "limits"
            | "nolimits"
            | "boxed"
            | "fbox"
            | "mathop"
            | "mathrel"
            | "mathbin"
            | "mathord"
            | "color"
            | "normalfont"
    )
}

pub(crate) fn is_spacing(name: &str) -> bool {
    matches!(
        name,
        "quad"
            | "qquad"
            | "big"
            | "Big"
            | "bigg"
            | "Bigg"
            | "bigl"
            | "bigr"
            | "Bigl"
            | "Bigr"
            | "biggl"
            | "biggr"
            | "Biggl"
            | "Biggr"
            | "thinspace"
            | "hspace"
            | "enspace"
            | "space"
            | "hfill"
            | "smallskip"
            | "medskip"
            | "noindent"
            | "newline"
            | "par"
            | "strut"
            | "mathstrut"
            | "nonumber"
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
        "degrees" => "degree",
        "lor" | "vee" => "or",
        "land" | "wedge" => "and",
        "bmod" => "mod",
        "pounds" | "pound" | "textsterling" => "sterling",
        "textdollar" => "dollar",
        "texteuro" => "euro",
        "textyen" => "yen",
        "textcent" | "cents" => "cent",
        _ => name,
    }
}

/// Commands whose backslash may come doubled.
pub(crate) fn is_latex_command(name: &str) -> bool {
    matches!(
        name,
        "frac"
            | "dfrac"
            | "tfrac"
            | "sqrt"
            | "cdot"
            | "times"
            | "div"
            | "pm"
            | "mp"
            | "infty"
            | "cup"
            | "cap"
            | "text"
            | "left"
            | "right"
            | "begin"
            | "end"
            | "boxed"
            | "mathrm"
            | "mathbf"
            | "le"
            | "leq"
            | "ge"
            | "geq"
            | "ne"
            | "neq"
            | "binom"
            | "overline"
            | "circ"
            | "pi"
            | "in"
    ) || function(name).is_some()
        || greek(name).is_some()
}

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
}
