//! Words after a number: units, things counted, multipliers, and words that are none of these.

/// Words that may follow a number without a `\text`: units of measure, currencies, and things commonly counted.
pub(crate) fn is_unit(word: &str) -> bool {
    let lower = word.to_ascii_lowercase();
    super::units::is_measure(&lower) || is_counted(&lower) || lower.strip_suffix('s').is_some_and(is_counted)
}

/// Whether words after a number are a unit or a thing counted: a few plain nouns. Digits, numbers, comparisons, operations
/// and denials say something else about the number.
pub(crate) fn is_unit_phrase(text: &str) -> bool {
    const LONGEST: usize = 8;
    let words = || text.split(|c: char| !(c.is_alphanumeric() || c == '\'')).filter(|word| !word.is_empty());
    let begins_with_power = words().next().is_some_and(|word| matches!(word, "squared" | "cubed"));
    is_name(text)
        && !begins_with_power
        && !has_numeral(text)
        && words().take(LONGEST + 1).count() <= LONGEST
        && !words().any(|word| {
            matches!(word, "R" | "k" | "M" | "B")
                || CHANGES.split_ascii_whitespace().any(|other| word.eq_ignore_ascii_case(other))
        })
}

/// Whether a text has digits other than a power right after a unit: `cm^2`, `m2`.
fn has_numeral(text: &str) -> bool {
    let mut before = ' ';
    text.chars().any(|c| {
        let is_numeral = c.is_ascii_digit() && (before.is_whitespace() || matches!(before, ',' | '.' | '(' | '~'));
        before = c;
        is_numeral
    })
}

/// Words that change the number before them, compare it, or deny it.
const CHANGES: &str = "\
    tens hundreds thousands millions billions trillions dozens grosses lakh lakhs crore crores mn bn gross \
    factorial factorials doubled tripled trebled quadrupled halved negated inverted squares reciprocal \
    inverse negative double triple twice thrice fold power root remainder rem modulo residue \
    below above under beneath beyond short before after ago until past zero exceeding greater higher lower larger \
    smaller bigger minimum maximum max shy odd some ish plus minus at \
    rejected reject incorrect wrong false invalid extraneous impossible excluded exclude discarded discard denied \
    never none fail fails failed incorrectly erroneous inadmissible unacceptable mistaken mistake error untrue \
    loss deficit debt overdrawn owed permille permil \
    one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty sixty seventy eighty \
    ninety third fourth fifth sixth tenth hundredth thousandth tenths hundredths thousandths fifths sixths eighths \
    so then hence therefore thus making giving actually wait instead whereas while versus vs";

/// Whether words can name something, and are no part of a statement.
pub(crate) fn is_name(text: &str) -> bool {
    const CONNECTIVES: &[&str] = &[
        "or",
        "and",
        "not",
        "no",
        "more",
        "less",
        "fewer",
        "than",
        "least",
        "most",
        "if",
        "for",
        "when",
        "where",
        "mod",
        "modulo",
        "times",
        "over",
        "about",
        "approximately",
        "is",
        "are",
        "was",
        "plus",
        "minus",
        "but",
        "to",
        "from",
        "between",
        "otherwise",
        "with",
        "without",
        "only",
        "both",
        "neither",
        "nor",
        "either",
        "infinity",
        "undefined",
        "base",
        "half",
        "halves",
        "thirds",
        "quarter",
        "quarters",
    ];
    !text
        .split(|c: char| !c.is_alphanumeric())
        .any(|word| CONNECTIVES.iter().any(|other| word.eq_ignore_ascii_case(other)))
        && !text.contains(['=', '<', '>', '+', '\\'])
        && !CHINESE_CONNECTIVES.iter().any(|word| text.contains(word))
        && !text.starts_with('的')
        && !text.ends_with("平方")
        && !text.ends_with("立方")
}

/// Words that change what is said about a number.
const CHINESE_CONNECTIVES: &[&str] = &[
    "或",
    "和",
    "与",
    "且",
    "不",
    "非",
    "以上",
    "以下",
    "以内",
    "至",
    "大于",
    "小于",
    "等于",
    "左右",
    "到",
    "约",
    "之",
    "者",
    "多",
    "少",
    "半",
    "余",
    "倍",
    "倒数",
    "反数",
    "方根",
    "阶乘",
    "绝对值",
    "对数",
    "错",
    "误",
    "负",
    "否",
    "舍",
];

/// The piece that a run of Chinese characters begins with, and its length there: a conjunction, a multiplier, or all of it.
pub(super) fn first_piece(run: &str) -> (&str, usize) {
    for (word, meaning) in [("或者", "or"), ("或", "or"), ("以及", "and"), ("和", "and"), ("与", "and"), ("且", "and")]
    {
        if run.starts_with(word) {
            return (meaning, word.len());
        }
    }
    for multiplier in ["万", "亿", "百", "千"] {
        if let Some(rest) = run.strip_prefix(multiplier)
            && !rest.starts_with(['米', '克', '瓦', '卡', '帕', '分'])
        {
            return (&run[..multiplier.len()], multiplier.len());
        }
    }
    let end = ["或", "和", "与", "且"].iter().filter_map(|word| run.find(word)).min().unwrap_or(run.len());
    (&run[..end], end)
}

/// Whether letters right after digits are the ending of an ordinal: `1st`, `12th`.
pub(super) fn is_ordinal(digits: &str, ending: &str) -> bool {
    let number = digits.as_bytes();
    if !number.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let is_teen = number.len() >= 2 && number[number.len() - 2] == b'1';
    ending
        == match number.last() {
            Some(b'1') if !is_teen => "st",
            Some(b'2') if !is_teen => "nd",
            Some(b'3') if !is_teen => "rd",
            _ => "th",
        }
}

/// The command for a currency named by its code or sign.
pub(super) fn currency(text: &str) -> Option<&'static str> {
    Some(match text.trim_matches(['.', ' ', '~']) {
        "USD" | "US$" | "US\\$" | "\\$" | "$" => "dollar",
        "EUR" | "€" => "euro",
        "GBP" | "£" => "sterling",
        "JPY" => "yen",
        "CNY" | "RMB" => "yuan",
        "INR" | "Rs" | "₹" => "rupee",
        _ => return None,
    })
}

/// A currency's code before an amount, and its length with the space or the sign after it.
pub(super) fn currency_before(source: &str) -> Option<(&'static str, usize)> {
    let end = source.find(|c: char| !c.is_ascii_alphabetic())?;
    let (word, rest) = source.split_at(end);
    if let Some(after) = rest.strip_prefix("\\$").or_else(|| rest.strip_prefix('$'))
        && matches!(word, "US" | "USD")
    {
        return Some(("dollar", source.len() - after.len()));
    }
    let command = currency(word)?;
    let after = rest.strip_prefix('.').filter(|_| word == "Rs").unwrap_or(rest);
    let amount = after.trim_start_matches([' ', '~', '\\', ',', '$']);
    amount.starts_with(|c: char| c.is_ascii_digit()).then(|| (command, source.len() - amount.len()))
}

/// Multipliers spelled out.
pub(crate) fn multiplier(text: &str) -> Option<i64> {
    Some(match text.trim().to_ascii_lowercase().as_str() {
        "tens" => 10,
        "hundred" | "hundreds" | "百" => 100,
        "thousand" | "thousands" | "千" => 1_000,
        "lakh" | "lakhs" => 100_000,
        "million" | "millions" => 1_000_000,
        "crore" | "crores" => 10_000_000,
        "billion" | "billions" => 1_000_000_000,
        "trillion" | "trillions" => 1_000_000_000_000,
        "dozen" | "dozens" => 12,
        "gross" => 144,
        "万" => 10_000,
        "亿" => 100_000_000,
        _ => return None,
    })
}

fn is_counted(word: &str) -> bool {
    COUNTED.split_ascii_whitespace().any(|counted| counted == word)
}

/// Things commonly counted, in the singular or as an irregular plural.
const COUNTED: &str = "\
    unit way point people person student child children kid boy girl man men woman women adult friend player \
    worker teacher guest member customer passenger apple orange banana egg cookie cake cupcake slice piece pizza \
    book page pencil pen marble ball card stamp coin toy car truck bus buses bike box boxes bag bottle cup glass \
    glasses can jar pack packet ticket flower rose tree plant seed dog cat fish bird chicken duck cow sheep pig \
    horse animal house room chair table window door step lap game match matches goal time question problem \
    answer letter word number integer digit solution root value term side edge vertex vertices face triangle \
    rectangle circle square line region path route choice outcome combination arrangement permutation pair set \
    subset group team row column sticker balloon candy candies chocolate sandwich sandwiches meal shirt dress \
    shoe hat photo picture song movie video seashell shell flag block brick tile stone rock percent multiple \
    divisor factor ounce serving crayon marker sheet paper plate bowl basket bucket crate item object thing \
    place spot seat visitor turn trip roll dice die head tail total apiece each remaining left altogether tonne \
    cubic per sq";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_not_units() {
        assert!(is_unit_phrase(" any text"));
        assert!(is_unit_phrase("square feet"));
        assert!(!is_unit_phrase(" or more"));
        assert!(!is_unit_phrase("if x"));
    }
}
