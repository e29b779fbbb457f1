//! One changed digit, sign, end, letter or unit never stays correct, and the unchanged answer always is, in every form
//! an answer is commonly written and announced in.
//!
//! Each function of a kind draws golds with right and wrong completions; the two modules at the end judge the right
//! ones and the wrong ones apart, so that a failure names the kind and the direction. `PROPTEST_CASES` sets how often
//! each is drawn.

mod announcements;
mod approximations;
mod numbers;
mod quantities;
mod relations;
mod scripts;

use dapo_reward::{Profile, Verdict, VerifyConfig, verify};
use proptest::prelude::*;

/// An answer as a completion writes it.
#[derive(Debug, Clone)]
enum Form {
    /// In mathematical notation; any announcement may surround it.
    Math(String),
    /// In running text; any announcement may surround it.
    Text(String),
    /// A whole completion.
    Whole(String),
    /// A whole completion for the `choice` profile.
    Choice(String),
}

use Form::{Choice, Math, Text, Whole};

/// Golds with completions that are right, and with some that are not.
#[derive(Default)]
struct Case {
    right: Vec<(String, Form)>,
    wrong: Vec<(String, Form)>,
}

impl Case {
    fn right(&mut self, gold: &str, form: Form) {
        self.right.push((gold.to_owned(), form));
    }

    fn wrong(&mut self, gold: &str, form: Form) {
        self.wrong.push((gold.to_owned(), form));
    }

    fn add(&mut self, is_right: bool, gold: &str, form: Form) {
        if is_right { self.right(gold, form) } else { self.wrong(gold, form) }
    }
}

/// Random choices that shrink towards the first of each.
struct Draw {
    values: Vec<u32>,
    at: usize,
}

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.at += 1;
        self.values[self.at % self.values.len()] as usize % bound
    }

    fn int(&mut self, low: i64, high: i64) -> i64 {
        low + self.below((high - low + 1) as usize) as i64
    }

    fn nonzero(&mut self, low: i64, high: i64) -> i64 {
        match self.int(low, high) {
            0 => high,
            other => other,
        }
    }

    fn one<'a>(&mut self, items: &[&'a str]) -> &'a str {
        items[self.below(items.len())]
    }

    fn is_heads(&mut self) -> bool {
        self.below(2) == 1
    }

    /// A numeral with one digit changed.
    fn changed_digit(&mut self, numeral: &str) -> String {
        let places: Vec<usize> =
            numeral.bytes().enumerate().filter(|(_, byte)| byte.is_ascii_digit()).map(|(at, _)| at).collect();
        let at = places[self.below(places.len())];
        let old = numeral.as_bytes()[at] - b'0';
        let new = (old + 1 + self.below(9) as u8) % 10;
        format!("{}{new}{}", &numeral[..at], &numeral[at + 1..])
    }

    /// Another integer that looks like this one: its sign, a digit or its last place changed.
    fn near(&mut self, n: i64) -> i64 {
        match self.below(4) {
            0 if n != 0 => -n,
            1 => n + 1,
            2 => n - 1,
            _ => self.changed_digit(&n.to_string()).parse().expect("digits"),
        }
    }

    /// A value in mathematical notation, and another one.
    fn value(&mut self) -> (String, String) {
        let n = self.nonzero(-999, 999);
        let other = self.near(n);
        let q = self.int(2, 40);
        match self.below(5) {
            0 | 1 => (n.to_string(), other.to_string()),
            2 => (format!("\\frac{{{n}}}{{{q}}}"), format!("\\frac{{{other}}}{{{q}}}")),
            3 => {
                let decimal = format!("{}.{:02}", n.abs(), self.int(0, 99));
                let changed = self.changed_digit(&decimal);
                (decimal, changed)
            }
            _ => {
                let root = self.one(&["\\sqrt{2}", "\\sqrt{7}", "\\pi"]);
                (format!("{n}{root}"), format!("{other}{root}"))
            }
        }
    }

    /// Two different positive integers.
    fn pair(&mut self) -> (i64, i64) {
        let v = self.int(2, 2000);
        let w = self.near(v).abs();
        (v, if w == v { v + 1 } else { w })
    }
}

fn stop(text: &str) -> &'static str {
    if text.ends_with('.') { "" } else { "." }
}

/// A completion that announces the answer, and its profile.
fn announce(draw: &mut Draw, form: &Form) -> (String, Profile) {
    let written = match form {
        Math(x) => match draw.below(14) {
            0 => format!("So we get $\\boxed{{{x}}}$."),
            1 => format!("The answer is ${x}$."),
            2 => format!("Final Answer: The final answer is ${x}$. I hope it is correct."),
            3 => format!("We add.\n#### {x}"),
            4 => format!("<think>Let us see.</think>\n<answer>{x}</answer>"),
            5 => format!("**Answer:** ${x}$"),
            6 => format!("We are done.\n\n## Final Answer\n\n${x}$"),
            7 => format!("<think>\nFirst, 12 and 7.\n</think>\n\nTherefore, the final answer is \\({x}\\)."),
            8 => format!("所以答案是 ${x}$。"),
            9 => format!("Hence \\[ \\boxed{{{x}}} \\]<|im_end|>"),
            10 => format!("Answer: {x}"),
            11 => format!("<answer>The answer is ${x}$.</answer>"),
            12 => format!("**Final Answer**\n\\[\n\\boxed{{{x}}}\n\\]"),
            _ => format!("Adding both, we find ${x}$."),
        },
        Text(x) => match draw.below(9) {
            0 => format!("\\boxed{{\\text{{{x}}}}}"),
            1 => format!("The answer is {x}{}", stop(x)),
            2 => format!("Final Answer: The final answer is {x}{} I hope it is correct.", stop(x)),
            3 => format!("We add.\n#### {x}"),
            4 => format!("<answer>\n{x}\n</answer>"),
            5 => format!("**Answer:** {x}"),
            6 => format!("We are done.\n\n### Final Answer\n\n**{x}**"),
            7 => format!("Answer: {x}<|im_end|>"),
            _ => x.clone(),
        },
        Whole(x) | Choice(x) => x.clone(),
    };
    (written, if matches!(form, Choice(_)) { Profile::choice() } else { Profile::auto() })
}

fn joined(items: &[i64], by: &str) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(by)
}

fn judge(draw: &mut Draw, pairs: &[(String, Form)], expected: bool) -> Result<(), TestCaseError> {
    for (gold, form) in pairs {
        let (completion, profile) = announce(draw, form);
        let found = verify(gold, &completion, &VerifyConfig { profile, ..VerifyConfig::default() });
        prop_assert_eq!(
            found.verdict == Verdict::Correct,
            expected,
            "gold {:?}, completion {:?}: {:?} of {:?} by {} ({})",
            gold,
            completion,
            found.verdict,
            found.extracted.map(|extracted| extracted.text(&completion).to_owned()),
            found.rule,
            found.reason
        );
    }
    Ok(())
}

/// Judges the right completions of each kind in one module and the wrong ones in another.
macro_rules! kinds {
    ($($module:ident::$kind:ident)*) => {
        mod unchanged_answers_are_correct {
            use super::*;

            proptest! {
                #![proptest_config(config())]
                $(
                    #[test]
                    fn $kind(mut draw in draws()) {
                        let case = crate::$module::$kind(&mut draw);
                        judge(&mut draw, &case.right, true)?;
                    }
                )*
            }
        }

        mod changed_answers_are_not_correct {
            use super::*;

            proptest! {
                #![proptest_config(config())]
                $(
                    #[test]
                    fn $kind(mut draw in draws()) {
                        let case = crate::$module::$kind(&mut draw);
                        judge(&mut draw, &case.wrong, false)?;
                    }
                )*
            }
        }
    };
}

fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { 128 };
    ProptestConfig { cases, failure_persistence: None, ..default }
}

fn draws() -> impl Strategy<Value = Draw> {
    prop::collection::vec(any::<u32>(), 61).prop_map(|values| Draw { values, at: 0 })
}

impl std::fmt::Debug for Draw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("random choices")
    }
}

kinds! {
    announcements::announcements_inside
    announcements::several_boxes
    announcements::last_announcements
    announcements::headings
    announcements::text_and_tokens_after
    announcements::emphasis
    announcements::boxes_without_braces
    announcements::prose_around_values
    announcements::hedges
    numbers::plain_values
    numbers::numerals_as_right_factors
    numbers::ratios
    numbers::bases
    numbers::powers_of_ten
    numbers::points_after_integers
    numbers::ordinals
    numbers::short_decimals_in_structures
    numbers::counts
    numbers::finite_sums_and_integrals
    numbers::residue_classes
    approximations::leading_approximation_signs
    approximations::approximations_after_exact_values
    approximations::chained_equalities
    relations::labels
    relations::equations_are_no_values
    relations::relations_of_unknown_functions
    relations::conditions_as_sets
    relations::qualifiers
    relations::primes
    relations::indexed_roots
    relations::own_text
    quantities::clock_times
    quantities::mixed_durations
    quantities::degrees_and_minutes
    quantities::values_with_a_group
    quantities::units
    quantities::currencies
    quantities::dollars_as_money
    scripts::chinese_and_full_width
    scripts::superscripts_and_subscripts
    scripts::choice_letters
    scripts::lists_of_choice_letters
}
