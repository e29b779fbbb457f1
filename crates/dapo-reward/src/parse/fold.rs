//! Typographic variants of a character become the character: full-width forms, mathematical letters, scripts.

use std::borrow::Cow;

/// The same text in plain characters; superscripts and subscripts become `^{…}` and `_{…}`.
pub(super) fn fold(source: &str) -> Cow<'_, str> {
    if source.is_ascii() {
        return Cow::Borrowed(source);
    }
    let mut out = String::with_capacity(source.len() + 8);
    let mut script = None;
    for c in source.chars() {
        let (mark, plain) = match (raised(c), lowered(c)) {
            (Some(plain), _) => (Some('^'), plain),
            (_, Some(plain)) => (Some('_'), plain),
            _ => (None, plain(c)),
        };
        if mark != script {
            if script.is_some() {
                out.push('}');
            }
            if let Some(mark) = mark {
                out.push(mark);
                out.push('{');
            }
            script = mark;
        }
        match squared(c) {
            Some(text) => out.push_str(text),
            None => out.push(plain),
        }
    }
    if script.is_some() {
        out.push('}');
    }
    Cow::Owned(out)
}

/// Units that are one character.
fn squared(c: char) -> Option<&'static str> {
    Some(match c {
        '″' => "''",
        '℃' => "°C",
        '℉' => "°F",
        '㎜' => " mm",
        '㎝' => " cm",
        '㎞' => " km",
        '㎎' => " mg",
        '㎏' => " kg",
        '㎠' => " cm^2",
        '㎡' => " m^2",
        '㎥' => " m^3",
        _ => return None,
    })
}

fn plain(c: char) -> char {
    let shifted = |base: u32| char::from_u32(u32::from(c) - base).unwrap_or(c);
    let letter = |index: u32| {
        let (first, index) = if index < 26 { (b'A', index) } else { (b'a', index - 26) };
        char::from_u32(u32::from(first) + index).unwrap_or(c)
    };
    match c {
        '\u{3000}' => ' ',
        '～' => '~',
        '\u{ff01}'..='\u{ff5d}' => shifted(0xfee0),
        '\u{1d400}'..='\u{1d6a3}' => letter((u32::from(c) - 0x1_d400) % 52),
        '\u{1d7ce}'..='\u{1d7ff}' => char::from_digit((u32::from(c) - 0x1_d7ce) % 10, 10).unwrap_or(c),
        '‘' | '’' | 'ʼ' => '\'',
        '￠' => '¢',
        '￡' => '£',
        '￥' => '¥',
        '￢' => '¬',
        '￣' => '¯',
        _ => c,
    }
}

fn raised(c: char) -> Option<char> {
    Some(match c {
        '⁰' => '0',
        '¹' => '1',
        '²' => '2',
        '³' => '3',
        '⁴'..='⁹' => digit(c, '⁴', 4),
        '⁺' => '+',
        '⁻' => '-',
        '⁽' => '(',
        '⁾' => ')',
        'ⁿ' => 'n',
        'ⁱ' => 'i',
        'ˣ' => 'x',
        'ʸ' => 'y',
        'ᵃ' => 'a',
        'ᵇ' => 'b',
        'ᵏ' => 'k',
        'ᵐ' => 'm',
        'ᵗ' => 't',
        'ʰ' => 'h',
        _ => return None,
    })
}

fn lowered(c: char) -> Option<char> {
    Some(match c {
        '₀'..='₉' => digit(c, '₀', 0),
        '₊' => '+',
        '₋' => '-',
        'ₐ' => 'a',
        'ₑ' => 'e',
        'ₓ' => 'x',
        'ₖ' => 'k',
        'ₘ' => 'm',
        'ₙ' => 'n',
        'ᵢ' => 'i',
        'ⱼ' => 'j',
        _ => return None,
    })
}

fn digit(c: char, first: char, value: u32) -> char {
    char::from_digit(u32::from(c) - u32::from(first) + value, 10).unwrap_or(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_become_plain() {
        for (source, plain) in [
            ("７２", "72"),
            ("72．5", "72.5"),
            ("（１，２）", "(1,2)"),
            ("x₁₂=1", "x_{12}=1"),
            ("10⁻³", "10^{-3}"),
            ("x²y₁", "x^{2}y_{1}"),
            ("𝑥+𝟑", "x+3"),
            ("25℃", "25°C"),
            ("abc", "abc"),
        ] {
            assert_eq!(fold(source), plain, "{source}");
        }
    }
}
