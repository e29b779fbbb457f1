//! Numerals: digits, thousands separators, decimals, repetends, powers of ten.

use dashu_int::{IBig, UBig};
use dashu_ratio::RBig;

use super::ParseError;
use super::text::braced;
use crate::expr::Number;

const MAX_DIGITS: usize = 1_000;
const MAX_EXPONENT: i64 = 5_000;

/// Separators that can only be meant to group digits.
const GROUPINGS: [&str; 7] = ["{,}\\!", "{,}", ",\\!", ",\\,", "\\,", "\\!", "\\ "];

/// The length of the numeral that `source` begins with; with `commas`, a comma or a space may group digits by three.
pub(super) fn scan(source: &str, commas: bool) -> usize {
    let mut at = digits(source, 0);
    if (1..=3).contains(&at) && !source.starts_with('0') {
        while let Some(end) = group(source, at, commas) {
            at = end;
        }
    }
    at = fraction(source, at);
    at = exponent(source, at);
    let rest = &source[at..];
    let has_point = source[..at].contains('.');
    if has_point
        && let Some(mark) = ["...", "…", "\\ldots", "\\dots", "\\cdots"].iter().find(|mark| rest.starts_with(**mark))
    {
        at += mark.len();
    }
    at
}

fn digits(source: &str, from: usize) -> usize {
    let rest = &source.as_bytes()[from..];
    from + rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len())
}

/// A separator at `at` and the three digits after it.
fn group(source: &str, at: usize, commas: bool) -> Option<usize> {
    let rest = &source[at..];
    let separator = GROUPINGS.iter().find_map(|separator| rest.strip_prefix(separator)).map(str::trim_start);
    let after = separator.or_else(|| {
        let after = rest.strip_prefix([',', ' ']).filter(|_| commas)?;
        // `3 125/128` is a mixed number.
        let is_mixed = rest.starts_with(' ')
            && after.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start().starts_with('/');
        (!is_mixed).then_some(after)
    })?;
    let start = source.len() - after.len();
    let end = digits(source, start);
    (end - start == 3).then_some(end)
}

/// `.digits`, `.digits\overline{digits}`, `.digits(digits)`, or nothing.
fn fraction(source: &str, at: usize) -> usize {
    let Some(rest) = source[at..].strip_prefix('.') else {
        return at;
    };
    let end = digits(source, at + 1);
    let repetend = repetend_length(&source[end..]);
    if end == at + 1 && repetend == 0 && (at == 0 || !rest.starts_with("..")) {
        // `1./3` is a quotient.
        return if at > 0 && rest.starts_with(['/', '*', '}', ')']) { at + 1 } else { at };
    }
    end + repetend
}

fn repetend_length(rest: &str) -> usize {
    let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    for command in ["\\overline", "\\bar", "\\dot", "\\overline "] {
        if let Some(group) = rest.strip_prefix(command).and_then(braced).filter(|group| all_digits(group.text)) {
            return command.len() + group.end;
        }
    }
    let Some(end) = rest.strip_prefix('(').and_then(|rest| rest.find(')')) else {
        return 0;
    };
    if all_digits(&rest[1..=end]) { end + 2 } else { 0 }
}

/// `e-5`, when no letter or digit runs on.
fn exponent(source: &str, at: usize) -> usize {
    let Some(rest) = source[at..].strip_prefix(['e', 'E']) else {
        return at;
    };
    let sign = usize::from(rest.starts_with(['+', '-']));
    let end = digits(rest, sign);
    let runs_on = rest[end..].starts_with(|c: char| c.is_alphanumeric() || matches!(c, '.' | '^' | '_'));
    if at == 0 || end == sign || runs_on { at } else { at + 1 + end }
}

/// Reads a numeral that [`scan`] delimited.
pub(super) fn parse(text: &str) -> Result<Number, ParseError> {
    if text.len() < 18
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && let Ok(value) = text.parse::<i64>()
    {
        return Ok(Number { value: RBig::from(value), places: None });
    }
    let text = text.strip_suffix('.').filter(|digits| !digits.contains('.')).unwrap_or(text);
    if let Some((numerator, denominator)) = text.split_once('/') {
        let part = |text: &str| text.parse::<u32>().map_err(|_| ParseError::Syntax);
        return Ok(Number {
            value: RBig::from_parts(part(numerator)?.into(), part(denominator)?.max(1).into()),
            places: None,
        });
    }
    let mantissa_end = text
        .find(['e', 'E'])
        .filter(|&at| text[..at].bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b',')));
    let (mantissa, scale) = match mantissa_end {
        Some(at) => (&text[..at], text[at + 1..].parse::<i64>().map_err(|_| ParseError::TooLarge)?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let whole: String = whole.chars().filter(char::is_ascii_digit).collect();
    let fraction_end = digits(fraction, 0);
    let (fixed, tail) = fraction.split_at(fraction_end);
    let repetend: String = tail.chars().filter(char::is_ascii_digit).collect();
    if whole.len() + fixed.len() + repetend.len() > MAX_DIGITS || scale.abs() > MAX_EXPONENT {
        return Err(ParseError::TooLarge);
    }
    let (fixed, repetend) =
        if repetend.is_empty() && !tail.is_empty() { endless(fixed) } else { (fixed, repetend.as_str()) };
    let integer = |text: &str| {
        if text.is_empty() { Ok(UBig::ZERO) } else { UBig::from_str_radix(text, 10).map_err(|_| ParseError::Syntax) }
    };
    let ten = UBig::from(10_u8);
    let places = fixed.len();
    let mut value = RBig::from_parts(IBig::from(integer(&format!("{whole}{fixed}"))?), ten.pow(places));
    if !repetend.is_empty() {
        let nines = ten.pow(repetend.len()) - UBig::ONE;
        value += RBig::from_parts(IBig::from(integer(repetend)?), nines * ten.pow(places));
    }
    if scale != 0 {
        value *= RBig::from(10).pow(scale as isize);
    }
    let is_decimal = (text.contains('.') || !(0..16).contains(&scale)) && repetend.is_empty();
    Ok(Number { value, places: is_decimal.then_some(places as i64 - scale) })
}

/// `0.1666…`: the digits that repeat are the shortest block seen at least twice at the end, of three digits or more in
/// all; otherwise the numeral is a decimal cut short.
fn endless(fixed: &str) -> (&str, &str) {
    for period in 1..=fixed.len() / 2 {
        let times = if period == 1 { 3 } else { 2 };
        let block = &fixed[fixed.len() - period..];
        if fixed.len() >= period * times
            && fixed.as_bytes().rchunks_exact(period).take(times).all(|chunk| chunk == block.as_bytes())
        {
            return fixed.split_at(fixed.len() - period);
        }
    }
    (fixed, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(source: &str) -> (String, Option<i64>, usize) {
        let length = scan(source, true);
        let number = parse(&source[..length]).unwrap();
        (number.value.to_string(), number.places, length)
    }

    #[test]
    fn numerals_of_every_shape() {
        for (source, value, places) in [
            ("42", "42", None),
            ("007", "7", None),
            ("1,234,567", "1234567", None),
            ("10,\\!080", "10080", None),
            ("11,\\! 111,\\! 111,\\! 100", "11111111100", None),
            ("1{,}000", "1000", None),
            ("58\\,500", "58500", None),
            ("1 000 000", "1000000", None),
            (".5", "1/2", Some(1)),
            ("3.140", "157/50", Some(3)),
            ("0.\\overline{3}", "1/3", None),
            ("0.1\\overline{6}", "1/6", None),
            ("0.(142857)", "1/7", None),
            ("0.333...", "1/3", None),
            ("0.1666\\ldots", "1/6", None),
            ("3.14\\dots", "157/50", Some(2)),
            ("1.5e3", "1500", Some(-2)),
            ("2e-3", "1/500", Some(3)),
        ] {
            assert_eq!(read(source), (value.to_owned(), places, source.len()), "{source}");
        }
    }

    #[test]
    fn numerals_end_where_they_should() {
        for (source, length) in [
            ("1,23", 1),
            ("0,123", 1),
            ("1,2345", 1),
            ("5. Next", 1),
            ("2e", 1),
            ("2ex", 1),
            ("3 125/128", 1),
            ("1.2.3", 3),
        ] {
            assert_eq!(scan(source, true), length, "{source}");
        }
        assert_eq!(scan("1,000", false), 1);
    }

    #[test]
    fn numerals_beyond_a_thousand_digits_are_refused() {
        assert!(parse(&"9".repeat(1000)).is_ok());
        assert_eq!(parse(&"9".repeat(1001)), Err(ParseError::TooLarge));
        assert_eq!(parse("1e999999"), Err(ParseError::TooLarge));
    }
}
