//! An answer equals itself re-written, and never a changed one.

use dapo_reward::{
    Accuracy, Gold, Profile, RewardFn, RewardInput, RewardSum, SoftOverlong, TagCount, Verdict, VerifyConfig,
    is_equivalent, verify,
};
use proptest::prelude::*;

/// A polynomial in x and y as coefficients of x^i y^j.
type Terms = Vec<(i64, u32, u32)>;

fn terms() -> impl Strategy<Value = Terms> {
    prop::collection::vec((-20_i64..=20, 0_u32..4, 0_u32..3), 1..6)
}

fn typeset(terms: &Terms, spaced: bool, plain: bool) -> String {
    let times = if plain { "*" } else { "" };
    let space = if spaced { " " } else { "" };
    let mut out = String::new();
    for (coefficient, x, y) in terms {
        let sign = if *coefficient < 0 { "-" } else { "+" };
        out.extend([space, sign, space, &coefficient.abs().to_string()]);
        for (name, power) in [("x", x), ("y", y)] {
            match power {
                0 => {}
                1 => out.extend([times, name]),
                _ if plain => out.extend([times, name, "^", &power.to_string()]),
                _ => out.extend([name, "^{", &power.to_string(), "}"]),
            }
        }
    }
    out
}

fn holds(condition: bool) -> Result<(), TestCaseError> {
    if condition { Ok(()) } else { Err(TestCaseError::fail("does not hold")) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_polynomial_equals_itself_reordered_and_re_typeset(terms in terms(), seed in 0_usize..100) {
        let mut other = terms.clone();
        other.rotate_left(seed % terms.len());
        other.push((7, 1, 1));
        other.insert(0, (-7, 1, 1));
        holds(is_equivalent(&typeset(&terms, false, false), &typeset(&other, true, true)))?;
    }

    #[test]
    fn a_changed_coefficient_is_never_equal(terms in terms(), at in 0_usize..100, by in 1_i64..9) {
        let mut other = terms.clone();
        let at = at % terms.len();
        other[at].0 += by;
        holds(!is_equivalent(&typeset(&terms, false, false), &typeset(&other, false, true)))?;
    }

    #[test]
    fn products_equal_their_expansion(a in -9_i64..=9, b in -9_i64..=9, c in -9_i64..=9) {
        let factored = format!("(x+({a}))(x+({b}))(x+({c}))");
        let expanded = format!("x^3+({})x^2+({})x+({})", a + b + c, a * b + a * c + b * c, a * b * c);
        let changed = format!("x^3+({})x^2+({})x+({})", a + b + c, a * b + a * c + b * c, a * b * c + 1);
        holds(is_equivalent(&factored, &expanded))?;
        holds(!is_equivalent(&factored, &changed))?;
        holds(is_equivalent(&format!("\\frac{{{expanded}}}{{x+({a})}}"), &format!("(x+({b}))(x+({c}))")))?;
    }

    #[test]
    fn fractions_equal_themselves_scaled_and_never_another(p in -999_i64..=999, q in 1_i64..=999, k in 1_i64..=99) {
        let written = [format!("{p}/{q}"), format!("\\frac{{{p}}}{{{q}}}"), format!("\\dfrac{{{}}}{{{}}}", p * k, q * k), format!("({})/({})", -p, -q)];
        for one in &written {
            for other in &written {
                holds(is_equivalent(one, other))?;
            }
            let changed = format!("\\frac{{{}}}{{{q}}}", p + k);
            holds(!is_equivalent(one, &changed))?;
        }
    }

    #[test]
    fn decimals_equal_their_fraction_and_no_changed_digit(n in 1_i64..1_000_000, places in 1_u32..6, digit in 0_u32..6) {
        let scale = 10_i64.pow(places);
        let decimal = |n: i64| format!("{}.{:0width$}", n / scale, n % scale, width = places as usize);
        holds(is_equivalent(&format!("{n}/{scale}"), &decimal(n)))?;
        holds(is_equivalent(&decimal(n), &format!("\\frac{{{n}}}{{{scale}}}")))?;
        let changed = n + 10_i64.pow(digit);
        holds(!is_equivalent(&decimal(n), &decimal(changed)))?;
        holds(!is_equivalent(&format!("{n}/{scale}"), &decimal(changed)) || changed - n < n / 1_000_000)?;
    }

    #[test]
    fn exact_values_meet_their_decimal_expansion(p in 1_u32..500, q in 1_u32..500) {
        let value = f64::from(p) / f64::from(q);
        holds(is_equivalent(&format!("{p}/{q}"), &format!("{value:.12}")))?;
        let root = f64::from(p).sqrt();
        holds(is_equivalent(&format!("\\sqrt{{{p}}}"), &format!("{root:.12}")))?;
        holds(!is_equivalent(&format!("\\sqrt{{{p}}}"), &format!("{:.12}", root * 1.00001)))?;
    }

    #[test]
    fn radicals_simplify(a in 1_u64..40, b in 1_u64..40, c in 1_u64..40) {
        let (square, sum) = (a * a * b, format!("{a}\\sqrt{{{b}}}+{c}"));
        holds(is_equivalent(&format!("\\sqrt{{{square}}}+{c}"), &sum))?;
        holds(!is_equivalent(&format!("\\sqrt{{{}}}+{c}", square + 1), &sum))?;
        holds(is_equivalent(&format!("\\sqrt{{{a}}}\\sqrt{{{b}}}"), &format!("\\sqrt{{{}}}", a * b)))?;
        holds(is_equivalent(&format!("\\sqrt{{{a}}}+\\sqrt{{{b}}}"), &format!("\\sqrt{{{}+2\\sqrt{{{}}}}}", a + b, a * b)))?;
        holds(is_equivalent(&format!("\\frac{{{a}}}{{\\sqrt{{{b}}}}}"), &format!("\\frac{{{a}\\sqrt{{{b}}}}}{{{b}}}")))?;
    }

    #[test]
    fn intervals_keep_their_ends(a in -50_i64..50, width in 1_i64..50, left in 0_usize..2, right in 0_usize..2) {
        let b = a + width;
        let write = |l: usize, a: i64, b: i64, r: usize| format!("{}{a}, {b}{}", ["(", "["][l], [")", "]"][r]);
        let gold = write(left, a, b, right);
        let (below, above) = (["<", "\\le"][left], ["<", "\\le"][right]);
        holds(is_equivalent(&gold, &format!("{a} {below} x {above} {b}")))?;
        holds(is_equivalent(&gold, &format!("\\left{}{a},{}\\right{}", ["(", "["][left], b, [")", "]"][right])))?;
        holds(!is_equivalent(&gold, &write(1 - left, a, b, right)))?;
        holds(!is_equivalent(&gold, &write(left, a, b, 1 - right)))?;
        holds(!is_equivalent(&gold, &write(left, a, b + 1, right)))?;
        holds(!is_equivalent(&gold, &format!("{a} {below} x {} {b}", ["\\le", "<"][right])))?;
    }

    #[test]
    fn sets_ignore_order_and_tuples_do_not(items in prop::collection::btree_set(-99_i64..99, 2..7), turn in 1_usize..6) {
        let items: Vec<i64> = items.into_iter().collect();
        let mut turned = items.clone();
        turned.rotate_left(turn % items.len());
        let write = |items: &[i64], open: &str, close: &str| format!("{open}{}{close}", items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
        holds(is_equivalent(&write(&items, "\\{", "\\}"), &write(&turned, "\\{", "\\}")))?;
        holds(is_equivalent(&write(&items, "(", ")"), &write(&turned, "(", ")")) == (items == turned))?;
        holds(!is_equivalent(&write(&items, "\\{", "\\}"), &write(&items[1..], "\\{", "\\}")))?;
    }

    #[test]
    fn equations_hold_up_to_a_factor(a in 1_i64..20, b in -20_i64..20, c in -20_i64..20, k in 1_i64..9) {
        let gold = format!("{a}x+({b})y=({c})");
        holds(is_equivalent(&gold, &format!("{}x+({})y-({})=0", a * k, b * k, c * k)))?;
        holds(is_equivalent(&gold, &format!("({c})=({b})y+{a}x")))?;
        holds(!is_equivalent(&gold, &format!("{}x+({})y-({})=0", a * k, b * k, c * k + 1)))?;
        let inequality = format!("{a}x+({b})y<({c})");
        holds(is_equivalent(&inequality, &format!("({c})>({b})y+{a}x")))?;
        holds(is_equivalent(&inequality, &format!("{}x+({})y>({})", -a * k, -b * k, -c * k)))?;
        holds(!is_equivalent(&inequality, &format!("{a}x+({b})y>({c})")))?;
        holds(!is_equivalent(&inequality, &format!("{a}x+({b})y\\le({c})")))?;
    }

    #[test]
    fn any_text_is_judged_without_a_panic(gold in "\\PC{0,40}", pred in "\\PC{0,60}") {
        let first = verify(&gold, &pred, &VerifyConfig::default());
        prop_assert_eq!(first, verify(&gold, &pred, &VerifyConfig::default()));
    }

    #[test]
    fn any_latex_soup_is_judged_alike_twice(pieces in prop::collection::vec(prop::sample::select(SOUP), 0..14), other in prop::collection::vec(prop::sample::select(SOUP), 0..14)) {
        let (gold, pred) = (pieces.concat(), other.concat());
        let whole = VerifyConfig { profile: Profile::whole(), ..VerifyConfig::default() };
        let first = verify(&gold, &pred, &whole);
        prop_assert_eq!(&first, &verify(&gold, &pred, &whole));
        let own = verify(&gold, &gold, &whole).verdict;
        holds(own != Verdict::Incorrect || gold.contains('0') || gold.contains('\\'))?;
    }

    #[test]
    fn batches_score_like_single_completions(answers in prop::collection::vec(0_i64..6, 1..20)) {
        let completions: Vec<String> = answers.iter().map(|answer| format!("so \\boxed{{{answer}}}")).collect();
        let inputs: Vec<RewardInput<'_>> = completions
            .iter()
            .enumerate()
            .map(|(index, completion)| RewardInput::new("", completion, ["3", "\\frac{", "4.0"][index % 3]).with_num_tokens(index * 20))
            .collect();
        let overlong = SoftOverlong::new(100, 50).expect("valid");
        let sum = RewardSum::new(vec![(1.0, Box::new(Accuracy::default())), (0.5, Box::new(overlong)), (0.25, Box::new(TagCount))]).expect("valid");
        let batch = sum.score_batch(&inputs).expect("scored");
        for (input, reward) in inputs.iter().zip(&batch) {
            prop_assert_eq!(reward, &sum.score(input).expect("scored"));
            prop_assert_eq!(reward.total.is_none(), input.answer == "\\frac{");
            prop_assert_eq!(Accuracy::default().score(input).expect("scored").correct, reward.correct);
        }
    }
}

const SOUP: &[&str] = &[
    "1",
    "2",
    "37",
    "0",
    "0.5",
    ".",
    ",",
    "x",
    "y",
    "n",
    "e",
    "i",
    "+",
    "-",
    "*",
    "/",
    "^",
    "_",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "\\{",
    "\\}",
    "|",
    "!",
    "%",
    "=",
    "<",
    "\\le ",
    "\\frac",
    "\\frac12",
    "\\sqrt",
    "\\sqrt{2}",
    "\\pi",
    "\\sin ",
    "\\ln ",
    "\\cup ",
    "\\infty",
    "\\pm ",
    "\\text{ cm}",
    "\\text{or}",
    "\\begin{pmatrix}",
    "\\end{pmatrix}",
    "&",
    "\\\\",
    "\\left(",
    "\\right)",
    "^\\circ",
    "\\boxed{",
    "$",
    " ",
    "and",
    "\\overline{3}",
    "\\binom",
    "\\in ",
    "°",
];

#[test]
fn a_gold_answer_is_parsed_once_for_all_completions() {
    let gold = Gold::new("The sum is \\boxed{\\frac{3}{4}}.", &VerifyConfig::default());
    assert_eq!(gold.text(), "\\frac{3}{4}");
    assert_eq!(gold.verify("#### 0.75").verdict, Verdict::Correct);
    assert_eq!(gold.verify("#### 0.76").verdict, Verdict::Incorrect);
}

#[test]
fn the_verifier_may_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Gold>();
    shared::<RewardSum>();
}
