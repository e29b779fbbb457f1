//! What a judge's answer means. Strict: an answer that can be read in two ways is none.

use serde_json::{Map, Value};

/// Most places at which a JSON object or list is looked for, from the end.
const TRIES: usize = 64;

/// The rating in an answer: the number `score` of the last JSON object that has one, else the last number of the text,
/// where `8/10` and `8 out of 10` are 8. `None` where that is missing, or not within the scale.
pub(super) fn score(text: &str, min: f64, max: f64) -> Option<f64> {
    let text = without_reasoning(text)?;
    let number = match object_with_score(text) {
        Some(object) => object["score"].as_f64()?,
        None => last_number(text, min, max)?,
    };
    (min..=max).contains(&number).then_some(number)
}

/// The order in an answer, as places from 0 on: the last list in brackets, else a last line such as `2 > 1 > 3`. `None`
/// where it does not hold each of the numbers from 1 to `count` once.
pub(super) fn ranking(text: &str, count: usize) -> Option<Vec<usize>> {
    let text = without_reasoning(text)?.trim_end();
    let listed = text.rfind('[').and_then(|start| {
        let end = start + text[start..].find(']')?;
        serde_json::from_str::<Vec<usize>>(&text[start..=end]).ok()
    });
    let order = if let Some(order) = listed {
        order
    } else {
        let line = text.lines().next_back()?;
        line.split('>').map(|part| part.trim_matches(['*', '`', ' ', '\t']).parse().ok()).collect::<Option<_>>()?
    };
    let mut is_seen = vec![false; count];
    for number in &order {
        let seen = number.checked_sub(1).and_then(|place| is_seen.get_mut(place))?;
        if std::mem::replace(seen, true) {
            return None;
        }
    }
    (order.len() == count).then(|| order.into_iter().map(|number| number - 1).collect())
}

/// What follows the reasoning; `None` where that has no end.
fn without_reasoning(text: &str) -> Option<&str> {
    match text.rsplit_once("</think>") {
        Some((_, answer)) => Some(answer),
        None => (!text.contains("<think>")).then_some(text),
    }
}

fn object_with_score(text: &str) -> Option<Map<String, Value>> {
    let end = text.rfind('}')?;
    let starts = text[..end].rmatch_indices('{').take(TRIES);
    let objects = starts.filter_map(|(start, _)| serde_json::from_str::<Map<String, Value>>(&text[start..=end]).ok());
    objects.into_iter().find(|object| object.contains_key("score"))
}

/// The last number of a text.
fn last_number(text: &str, min: f64, max: f64) -> Option<f64> {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '.' | ',' | '-' | '+' | '_' | '−');
    let mut numbers = Vec::new();
    let mut rest = 0;
    while let Some(start) = text[rest..].find(is_part).map(|at| rest + at) {
        let end = text[start..].find(|c| !is_part(c)).map_or(text.len(), |at| start + at);
        if let Some(number) = number(&text[start..end]) {
            numbers.push((start, end, number));
        }
        rest = end;
    }
    let (start, _, last) = numbers.pop()?;
    let Some((_, end, before)) = numbers.pop() else { return Some(last) };
    let between: String = text[end..start].chars().filter(|c| !matches!(c, '*' | '`')).collect();
    match between.trim().to_lowercase().as_str() {
        "/" | "of" | "out of" => (last == max).then_some(before),
        // The scale itself.
        "to" | "and" if before == min && last == max => None,
        _ => Some(last),
    }
}

/// A word that is a number: digits with a sign and a fraction, and punctuation after them.
fn number(word: &str) -> Option<f64> {
    let word = word.trim_end_matches(['.', ',', '_']).trim_start_matches('_').replace('−', "-");
    let digits = word.strip_prefix(['-', '+']).unwrap_or(&word);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if are_digits(whole) && are_digits(fraction) { word.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratings_are_read() {
        for (text, expected) in [
            ("7", 7.0),
            (" 7.5\n", 7.5),
            ("The answer has 2 faults.\n\nRating: **8**.", 8.0),
            ("8/10", 8.0),
            ("**8** / 10", 8.0),
            ("I give it 6 out of 10.", 6.0),
            ("On a scale from 0 to 10: 3", 3.0),
            ("0", 0.0),
            ("10", 10.0),
            ("GPT4 says _9_", 9.0),
            (r#"{"score": 4, "reason": "12 words"}"#, 4.0),
            ("So:\n```json\n{\"reason\": {\"a\": 1}, \"score\": 2.5}\n```\n", 2.5),
            (r#"{"rating": 5}"#, 5.0),
            ("<think>9? No, 3.</think>4", 4.0),
        ] {
            assert_eq!(score(text, 0.0, 10.0), Some(expected), "{text}");
        }
        assert_eq!(score("-0.5", -1.0, 1.0), Some(-0.5));
        assert_eq!(score("−1", -1.0, 1.0), Some(-1.0));
        assert_eq!(score("80%", 0.0, 100.0), Some(80.0));
    }

    #[test]
    fn what_is_no_rating_is_none() {
        for text in [
            "",
            "good",
            "11",
            "-1",
            "8/20",
            "7 on a scale of 0 to 10",
            "somewhere between 0 and 10",
            "8,5",
            "1,000",
            "7-8",
            "1e1",
            "v2",
            "8th",
            "NaN",
            r#"{"score": "8"}"#,
            r#"{"score": null}"#,
            r#"{"score": 11} 7"#,
            "<think>I would say 7",
            "I rate it 7, not 12",
        ] {
            assert_eq!(score(text, 0.0, 10.0), None, "{text}");
        }
    }

    #[test]
    fn orders_are_read() {
        for text in [
            "[2, 3, 1]",
            "I see [1].\nThe order is [2,3,1].",
            "2 > 3 > 1",
            "Well:\n**2 > 3 > 1**\n",
            "{\"r\": [2, 3, 1]}",
        ] {
            assert_eq!(ranking(text, 3), Some(vec![1, 2, 0]), "{text}");
        }
        for text in
            ["", "[2, 3]", "[2, 3, 3]", "[2, 3, 1, 4]", "[0, 1, 2]", "2, 3, 1", "2 > 3", "[2, 3, 1.5]", "[2, 3, 1"]
        {
            assert_eq!(ranking(text, 3), None, "{text}");
        }
    }

    #[test]
    fn long_nonsense_is_read_in_time() {
        let start = std::time::Instant::now();
        for text in
            ["{".repeat(1 << 20) + "}", "[".repeat(1 << 20), "1 ".repeat(1 << 19), "{\"a\":".repeat(1 << 18) + "}"]
        {
            score(&text, 0.0, 10.0);
            ranking(&text, 3);
        }
        assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
    }
}
