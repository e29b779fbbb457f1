//! Typographic characters and what they stand for.

/// Chinese characters, kana and hangul.
pub(crate) fn is_cjk(c: char) -> bool {
    matches!(c, '\u{3005}'..='\u{3007}' | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}')
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
        '′' => '\'',
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
        '¢' => "cent",
        '∠' => "angle",
        '△' => "triangle",
        _ => return None,
    })
}
