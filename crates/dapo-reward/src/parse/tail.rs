//! What stands after a value and is no part of it: letters that are units, a unit in parentheses, a rounding.

use super::text::plain_words;
use super::{counted, units};

/// Whether letters name a unit, in the spelling that stands after a number.
fn is_symbol(letters: &str) -> bool {
    matches!(
        letters,
        "m" | "s"
            | "g"
            | "h"
            | "l"
            | "L"
            | "N"
            | "J"
            | "W"
            | "V"
            | "A"
            | "K"
            | "C"
            | "F"
            | "T"
            | "t"
            | "mm"
            | "cm"
            | "dm"
            | "km"
            | "nm"
            | "in"
            | "ft"
            | "yd"
            | "mi"
            | "kg"
            | "mg"
            | "lb"
            | "lbs"
            | "oz"
            | "hr"
            | "min"
            | "sec"
            | "ms"
            | "ml"
            | "mL"
            | "Pa"
            | "kPa"
            | "Hz"
            | "kHz"
            | "MHz"
            | "mol"
            | "kJ"
            | "kW"
            | "kN"
            | "kWh"
            | "eV"
            | "MeV"
            | "rad"
            | "rpm"
            | "Wb"
            | "cal"
            | "kcal"
    ) || units::is_prefixed_symbol(letters)
}

/// A value and the unit after it.
pub(super) struct Tail<'a> {
    pub(super) value: &'a str,
    pub(super) unit: String,
    /// Whether it can hardly be anything else than a unit: `m/s`, `(apples)`; `5 m` may be a product.
    pub(super) is_certain: bool,
}

/// Splits `5 m`, `5 km/h`, `2 kg·m/s^2`, `9 (apples)`.
pub(super) fn split(source: &str) -> Option<Tail<'_>> {
    let last = source.chars().next_back()?;
    if last == ')' {
        return parenthesised(source);
    }
    if let Some(value) = source.strip_suffix("\\Omega").or_else(|| source.strip_suffix('Ω')) {
        let bare = value.trim_end_matches([' ', '~', '\\', ',', ';']);
        let is_unit = bare.len() < value.len() && !bare.is_empty() && is_numeral(bare);
        return is_unit.then(|| Tail { value: bare, unit: "ohm".to_owned(), is_certain: false });
    }
    if !ends_in_symbol(source) {
        return None;
    }
    // Units are short: only the end of the answer is looked at.
    let mut start = source.len().saturating_sub(32);
    while !source.is_char_boundary(start) {
        start += 1;
    }
    if let Some((value, unit)) = source.strip_prefix('$').and_then(|rest| rest.split_once('$')) {
        // `$5$ m`
        let is_unit = !value.is_empty() && is_numeral(value) && terms(unit.trim()).is_some();
        return is_unit.then(|| Tail { value, unit: unit.trim().to_owned(), is_certain: true });
    }
    let ends = |before: &str| {
        before.ends_with(|c: char| c.is_ascii_digit() || matches!(c, '}' | ')' | 'π')) || before.ends_with("\\pi")
    };
    (start.max(1)..source.len()).filter(|&at| source.is_char_boundary(at)).find_map(|at| {
        let (value, rest) = source.split_at(at);
        if !ends(value) {
            return None;
        }
        let text = rest.trim_start_matches(['~', ' ']);
        let text = text.strip_prefix("\\,").or_else(|| text.strip_prefix("\\ ")).unwrap_or(text).trim_start();
        let terms = terms(text)?;
        let is_certain = terms > 1 && text.contains('/');
        let is_spaced = text.len() < rest.len();
        // After anything but a numeral, a lone letter is a variable.
        let is_letter = text.len() == 1 && !is_numeral(value);
        ((is_spaced && !is_letter) || is_certain).then(|| Tail { value, unit: text.to_owned(), is_certain })
    })
}

/// Whether a value has no letters and roots: digits, a fraction of digits, a power of ten.
fn is_numeral(value: &str) -> bool {
    const COMMANDS: [&str; 5] = ["\\frac", "\\dfrac", "\\tfrac", "\\times", "\\cdot"];
    let mut rest = value;
    while let Some(c) = rest.chars().next() {
        rest = if c.is_ascii_digit() || matches!(c, '.' | ',' | '/' | ' ' | '{' | '}' | '^' | '-' | '+' | '×') {
            &rest[c.len_utf8()..]
        } else if let Some(after) = COMMANDS.iter().find_map(|command| rest.strip_prefix(command)) {
            after
        } else {
            return false;
        };
    }
    true
}

fn is_letter(c: char) -> bool {
    c.is_ascii_alphabetic() || matches!(c, 'µ' | 'μ')
}

/// Whether the last letters, before a power if there is one, are a unit symbol: most answers go no further.
fn ends_in_symbol(source: &str) -> bool {
    let is_power = |c: char| c.is_ascii_digit() || matches!(c, '-' | '{' | '}');
    let base = source.trim_end_matches(is_power);
    let base = match base.strip_suffix('^') {
        Some(base) if base.len() + 1 < source.len() => base,
        _ => source,
    };
    let letters = base.len() - base.trim_end_matches(is_letter).len();
    (1..=5).contains(&letters) && is_symbol(&base[base.len() - letters..])
}

/// The number of unit symbols when a text is nothing but these, with powers, products and quotients.
fn terms(text: &str) -> Option<usize> {
    let mut rest = text;
    let mut count = 0;
    loop {
        let length = rest.find(|c: char| !is_letter(c)).unwrap_or(rest.len());
        if !is_symbol(&rest[..length]) {
            return None;
        }
        count += 1;
        rest = &rest[length..];
        if let Some(power) = rest.strip_prefix('^') {
            let inner = power.strip_prefix('{').unwrap_or(power);
            let digits = inner.strip_prefix('-').unwrap_or(inner);
            let after = digits.strip_prefix(['1', '2', '3'])?;
            rest = if power.len() > inner.len() { after.strip_prefix('}')? } else { after };
        }
        if rest.is_empty() {
            return Some(count);
        }
        rest = rest.strip_prefix("\\cdot").or_else(|| rest.strip_prefix(['/', '*', '·', '-', ' ']))?.trim_start();
    }
}

fn parenthesised(source: &str) -> Option<Tail<'_>> {
    let inner = source.strip_suffix(')')?;
    let open = inner.rfind('(')?;
    let value = source[..open].trim_end().trim_end_matches("\\text{").trim_end_matches("\\left");
    let content = inner[open + 1..].trim_end_matches("\\right");
    if !content.starts_with(|c: char| c.is_alphabetic() || c == '\\') {
        return None;
    }
    if !value.is_empty() && terms(content).is_some_and(|terms| terms > 1 || content.contains('^')) {
        return Some(Tail { value, unit: content.to_owned(), is_certain: true });
    }
    let words = plain_words(content)?;
    let is_phrase = words.chars().all(|c| c.is_alphabetic() || matches!(c, ' ' | '-' | '/' | '\''))
        && counted::is_unit_phrase(&words)
        && !words.is_empty();
    let is_measure = open > value.len() && units::resolve(&words).is_some();
    let is_word = words.split(|c: char| !c.is_alphabetic()).any(|word| word.chars().count() >= 3)
        || !words.is_ascii()
        || is_measure;
    let is_certain = !super::words::is_letters(&words) || (is_measure && words.len() > 1);
    (is_phrase && is_word && !value.is_empty()).then_some(Tail { value, unit: words, is_certain })
}

/// `$5/hour`, `5 €/kg`: the amount, and the word it is for.
pub(super) fn rate(source: &str) -> Option<(&str, &str)> {
    let (amount, word) = source.rsplit_once('/').or_else(|| source.rsplit_once(" per "))?;
    let word = word.trim().trim_start_matches("\\text{").trim_end_matches('}');
    let amount = amount.trim_end().trim_end_matches("\\text{").trim_end();
    (!word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphabetic())).then_some((amount, word))
}

/// `√12 (≈ 3.46)`: the value without the rounding in parentheses, and the rounding.
pub(super) fn rounding(source: &str) -> Option<(&str, &str)> {
    let inner = source.strip_suffix(')')?.trim_end_matches("\\right").trim_end();
    let open = inner.rfind('(')?;
    let content = without_approximately(inner[open + 1..].trim())?;
    let value = source[..open].trim_end().trim_end_matches("\\left").trim_end_matches("\\quad").trim_end();
    (!value.is_empty()).then_some((value, content))
}

/// What follows `≈`, `\approx`, `about` at the start of a text.
pub(super) fn without_approximately(source: &str) -> Option<&str> {
    let first = source.chars().next()?;
    // Most answers begin with none of the signs and words.
    let may_begin = match first {
        '\\' => matches!(source.as_bytes().get(1), Some(b'a' | b's' | b't' | b'd' | b'c')),
        'a' | 'A' | 'r' | 'R' | 'n' | 'N' => true,
        other => !other.is_ascii(),
    };
    if !may_begin {
        return None;
    }
    let inner = source.strip_prefix("\\text{").and_then(|rest| {
        let (word, rest) = rest.split_once('}')?;
        is_approximately(word).then_some(rest)
    });
    if let Some(rest) = inner {
        return Some(rest.trim_start()).filter(|rest| !rest.is_empty());
    }
    for sign in [
        "\\approx",
        "\\sim",
        "\\simeq",
        "\\thickapprox",
        "\\doteq",
        "\\cong",
        "\\approxeq",
        "≈",
        "∼",
        "≒",
        "≃",
        "约为",
        "大约",
        "约",
    ] {
        if let Some(rest) = source.strip_prefix(sign)
            && !(sign.starts_with('\\') && rest.starts_with(|c: char| c.is_ascii_alphabetic()))
        {
            return Some(rest.trim_start()).filter(|rest| !rest.is_empty());
        }
    }
    let (word, rest) = source.split_once(char::is_whitespace)?;
    let rest = rest.trim_start();
    let is_value = rest.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '.' | '\\' | '$' | '('));
    (is_approximately(word) && is_value).then_some(rest)
}

fn is_approximately(word: &str) -> bool {
    let word = word.trim().trim_end_matches('.');
    ["about", "approximately", "approx", "roughly", "around", "nearly", "almost"]
        .iter()
        .any(|other| word.eq_ignore_ascii_case(other))
}
