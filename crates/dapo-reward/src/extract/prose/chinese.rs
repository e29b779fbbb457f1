//! The value in a Chinese sentence.

use std::ops::Range;

/// Characters and words that leave open, deny or change what is said.
const HEDGES: [&str; 35] = [
    "不",
    "非",
    "没",
    "无",
    "或",
    "和",
    "与",
    "至",
    "到",
    "约",
    "多",
    "少",
    "大",
    "小于",
    "超",
    "等于",
    "倍",
    "半",
    "以",
    "之",
    "第",
    "余",
    "可能",
    "百",
    "负",
    "零下",
    "亏",
    "欠",
    "根",
    "平方根",
    "立方",
    "倒数",
    "相反",
    "的",
    "错",
];

/// The numeral, with the unit after it, of a sentence of Chinese words that holds no other value: `小明今年5岁`.
pub(super) fn only_value(piece: &str) -> Option<Range<usize>> {
    if !piece.starts_with(is_han) {
        return None;
    }
    let is_numeral = |c: char| c.is_ascii_digit() || matches!(c, '.' | '/');
    let start = piece.find(|c: char| c.is_ascii_digit())?;
    let rest = &piece[start..];
    let end = rest.find(|c: char| !is_numeral(c)).unwrap_or(rest.len());
    let (words, unit) = (&piece[..start], &rest[end..]);
    let is_plain = words.chars().all(|c| is_han(c) || matches!(c, ' ' | '，' | ','))
        && unit.chars().all(|c| is_han(c) || c == ' ');
    let is_hedged = HEDGES.iter().any(|hedge| words.contains(hedge) || unit.contains(hedge));
    (is_plain && !is_hedged && !rest[..end].ends_with(['.', '/'])).then_some(start..piece.len())
}

fn is_han(c: char) -> bool {
    ('\u{4e00}'..='\u{9fff}').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_numeral_among_words_is_the_value() {
        let value = |piece: &'static str| only_value(piece).map(|span| &piece[span]);
        assert_eq!(value("小明今年5岁"), Some("5岁"));
        assert_eq!(value("一共有 12 个"), Some("12 个"));
        assert_eq!(value("一共有12.5千克"), Some("12.5千克"));
        for piece in ["5岁", "小明5岁，小红3岁", "不是5", "大约5岁", "5或6", "甲比乙多5岁", "第5天", "x是5", "是5倍"]
        {
            assert_eq!(value(piece), None, "{piece}");
        }
    }
}
