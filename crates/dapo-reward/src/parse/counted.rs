//! Words after a number: units, things counted, multipliers, and words that are none of these.

/// Words that may follow a number without a `\text`: units of measure, currencies, and things commonly counted.
pub(crate) fn is_unit(word: &str) -> bool {
    let lower = word.to_ascii_lowercase();
    super::units::is_measure(&lower) || is_counted(&lower) || lower.strip_suffix('s').is_some_and(is_counted)
}

/// Whether words after a number are a unit or a thing counted, not a part of the statement.
pub(crate) fn is_unit_phrase(text: &str) -> bool {
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
