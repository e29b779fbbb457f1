//! Hostile input: every question ends, quickly, without a panic.

use std::time::{Duration, Instant};

use dapo_reward::{
    DapoRule, Format, Profile, Repetition, RewardFn, RewardInput, TagCount, VerifyConfig, dapo_grade, extract_answer, is_equivalent, verify,
};

/// What one question may take.
const LIMIT: Duration = Duration::from_millis(50);

fn in_time(what: &str, mut question: impl FnMut()) {
    // The best of a few: other work on the machine is not the verifier's.
    let best = (0..5)
        .map(|_| {
            let start = Instant::now();
            question();
            start.elapsed()
        })
        .min();
    assert!(best < Some(LIMIT), "{} took {best:?}", what.chars().take(60).collect::<String>());
}

fn nasty() -> Vec<String> {
    let nested = |open: &str, inner: &str, close: &str, times: usize| format!("{}{inner}{}", open.repeat(times), close.repeat(times));
    let mut all = vec![
        "2^{2^{2^{2^{2^{2}}}}}".to_owned(),
        "9^{9^{9^{9^9}}}".to_owned(),
        "9^9^9^9^9^9".to_owned(),
        "10^{10^{10}}".to_owned(),
        "10^{-10^{10}}".to_owned(),
        "(1+10^{-1000})^{10^{1000}}".to_owned(),
        "1000000!".to_owned(),
        "((((100!)!)!)!)!".to_owned(),
        "100!!!!!!!!".to_owned(),
        "\\binom{1000000000}{500000000}".to_owned(),
        "\\binom{10^{18}}{10^9}".to_owned(),
        "1/0".to_owned(),
        "0/0".to_owned(),
        "0^0".to_owned(),
        "0^{-1}".to_owned(),
        "\\frac{1}{0}".to_owned(),
        "\\frac{1}{\\frac{1}{\\frac{1}{0}}}".to_owned(),
        "\\frac{1}{x-x}".to_owned(),
        "\\ln 0".to_owned(),
        "\\ln(-1)".to_owned(),
        "\\log_1 5".to_owned(),
        "\\log_0 0".to_owned(),
        "\\sqrt[0]{5}".to_owned(),
        "\\sqrt[10^9]{2}".to_owned(),
        "\\sqrt[x]{x}".to_owned(),
        "\\arcsin 2".to_owned(),
        "\\tan\\frac{\\pi}{2}".to_owned(),
        "\\sin 10^{1000}".to_owned(),
        "\\sin(10^{10^{10}})".to_owned(),
        "e^{e^{e^{e^{e}}}}".to_owned(),
        "e^{-e^{e^{e^{e}}}}".to_owned(),
        "e^{\\pi\\sqrt{163}} - 262537412640768744".to_owned(),
        "\\sqrt{\\sqrt{\\sqrt{\\sqrt{\\sqrt{\\sqrt{2}}}}}}".to_owned(),
        "(a+b+c+d+f+g+h)^{60}".to_owned(),
        "(x+1)^{1000000}".to_owned(),
        "(x+y)^{64}(x-y)^{64}".to_owned(),
        "x^{10^{100}} + x^{-10^{100}}".to_owned(),
        "\\lfloor e^{1000} \\rfloor".to_owned(),
        "\\lfloor 0.\\overline{9} \\rfloor".to_owned(),
        "\\gcd(10^{1000}, 3^{2000})".to_owned(),
        "10^{1000} \\bmod 7".to_owned(),
        "1e5000".to_owned(),
        "1e-5000".to_owned(),
        "1e99999999999999999999".to_owned(),
        "0.(".to_owned(),
        "\\frac".to_owned(),
        "\\frac{}{}".to_owned(),
        "\\sqrt".to_owned(),
        "\\sqrt[".to_owned(),
        "\\begin{pmatrix}".to_owned(),
        "\\begin{pmatrix}1&2\\\\3\\end{pmatrix}".to_owned(),
        "\\begin{pmatrix}\\end{pmatrix}".to_owned(),
        "\\end{pmatrix}".to_owned(),
        "\\left(\\left[\\left\\{".to_owned(),
        "\\text{".to_owned(),
        "\\text{\\text{\\text{".to_owned(),
        "x_{x_{x_{x".to_owned(),
        "||||||x||||||".to_owned(),
        "((((".to_owned(),
        "))))".to_owned(),
        "}{}{}{".to_owned(),
        "$$$$$$$".to_owned(),
        "\\\\\\\\\\\\".to_owned(),
        "\\".to_owned(),
        "\u{0}\u{1}\u{2}\u{7f}".to_owned(),
        "\u{202e}21\u{202c}".to_owned(),
        "٣٤".to_owned(),
        "x̂ + ÿ".to_owned(),
        "💥 = 💥".to_owned(),
        "±±±±3".to_owned(),
        "\\pm\\pm 3".to_owned(),
        "1,000,000,00".to_owned(),
        "(1,2".to_owned(),
        "[5,1]".to_owned(),
        "(\\infty,-\\infty)".to_owned(),
        "(-\\infty,\\infty)\\setminus\\{0,1,2,3,4,5,6,7,8,9,10,11,12\\}".to_owned(),
        "x<y<z<w<x".to_owned(),
        "x=x=x=x=x".to_owned(),
        "1=2".to_owned(),
        "=".to_owned(),
        "<".to_owned(),
        "x\\in\\emptyset".to_owned(),
        nested("(", "1", ")", 100_000),
        nested("{", "1", "}", 2_000),
        nested("\\sqrt{", "2", "}", 60),
        nested("\\sqrt{1+", "2", "}", 60),
        nested("\\frac{1}{1+", "x", "}", 60),
        nested("\\frac{1}{1+", "\\sqrt2", "}", 40),
        nested("\\sin(", "x", ")", 60),
        nested("e^{", "x", "}", 60),
        nested("2^{", "2", "}", 60),
        nested("|", "x", "|", 60),
        nested("\\left(", "1", "\\right)", 2_000),
        nested("\\boxed{", "1", "}", 2_000),
        nested("\\text{", "1", "}", 2_000),
        nested("[", "1,2", "]", 60),
        nested("\\{", "1", "\\}", 60),
        "-".repeat(4_000),
        "!".repeat(4_000),
        "^".repeat(4_000),
        "x^".repeat(1_000),
        "1+".repeat(2_000),
        format!("{}1", "1+".repeat(900)),
        format!("{}x", "x+".repeat(900)),
        format!("{}1", "\\sqrt{2}+".repeat(400)),
        format!("{}1", "\\sqrt{2}\\cdot".repeat(300)),
        format!("{}1", "(1+\\sqrt{2})".repeat(300)),
        format!("{}1", "(x+y)".repeat(600)),
        format!("{}1", "\\sin x \\cos y +".repeat(200)),
        format!("{}1", "e^{x}+".repeat(400)),
        format!("{}1", "\\ln 1000003+".repeat(300)),
        (0..400).map(|n| format!("\\sqrt{{{}}}", 1_000_003 + 2 * n)).collect::<Vec<_>>().join("+"),
        (0..300).map(|n| format!("x_{{{n}}}")).collect::<Vec<_>>().join("+"),
        (0..250).map(|n| format!("(x_{{{n}}}+1)")).collect::<String>(),
        (0..400).map(|n| n.to_string()).collect::<Vec<_>>().join(", "),
        (0..300).map(|n| format!("\\sqrt{{{n}}}")).collect::<Vec<_>>().join(", "),
        (0..200).map(|n| format!("[{n},{}]", n + 1)).collect::<Vec<_>>().join("\\cup "),
        "9".repeat(1_000),
        "9".repeat(4_096),
        format!("{}/{}", "7".repeat(999), "3".repeat(999)),
        format!("\\sqrt{{{}}}", "7".repeat(999)),
        format!("\\ln {}", "7".repeat(999)),
        format!("0.{}", "3".repeat(990)),
        format!("0.(${}$)", "3".repeat(990)),
        "a".repeat(4_000),
        "\\alpha".repeat(600),
        "1 ".repeat(2_000),
        "\\text{and}".repeat(400),
        ",".repeat(4_000),
        "x^{y^{z^{x^{y^{z^{x}}}}}}".to_owned(),
    ];
    all.push(all.iter().filter(|text| text.len() < 60).take(40).cloned().collect::<Vec<_>>().join(","));
    all
}

#[test]
fn hostile_answers_are_judged_in_time() {
    let golds = ["5", "\\sqrt{2}", "x^2+1", "(1,2)", "\\{1,2,3\\}", "x=3", "(-\\infty,0)", "\\sin x", "east"];
    for text in nasty() {
        in_time(&text, || {
            is_equivalent(&text, &text);
        });
        for gold in golds {
            in_time(&text, || {
                is_equivalent(gold, &text);
                is_equivalent(&text, gold);
            });
        }
    }
}

#[test]
fn hostile_pairs_are_judged_in_time() {
    let all = nasty();
    for (index, gold) in all.iter().enumerate() {
        for pred in all.iter().skip(index % 7).step_by(7) {
            in_time(&format!("{} | {}", gold.chars().take(30).collect::<String>(), pred.chars().take(30).collect::<String>()), || {
                is_equivalent(gold, pred);
            });
        }
    }
}

#[test]
fn near_misses_that_need_precision_are_judged_in_time() {
    for (gold, pred) in [
        ("e^{\\pi\\sqrt{163}}", "262537412640768744"),
        ("\\sqrt{1000001}+\\sqrt{1000025}+\\sqrt{1000031}", "\\sqrt{1000003}+\\sqrt{1000019}+\\sqrt{1000035}"),
        ("(1+\\sqrt2)^{300}", "(3+2\\sqrt2)^{150}"),
        ("\\sqrt{2}+\\sqrt{3}+\\sqrt{5}", "\\sqrt{10+2\\sqrt{6}+2\\sqrt{10}+2\\sqrt{15}}"),
        ("\\sin(\\sin(\\sin(\\sin(1))))+10^{-900}", "\\sin(\\sin(\\sin(\\sin(1))))"),
        ("4\\arctan\\frac15-\\arctan\\frac1{239}", "\\frac{\\pi}{4}"),
        ("\\sum x", "x"),
    ] {
        in_time(gold, || {
            is_equivalent(gold, pred);
        });
    }
    assert!(is_equivalent("4\\arctan\\frac15-\\arctan\\frac1{239}", "\\frac{\\pi}{4}"));
    assert!(!is_equivalent("e^{\\pi\\sqrt{163}}", "262537412640768744"));
}

#[test]
fn a_megabyte_is_searched_in_time() {
    let megabyte = |piece: &str| piece.repeat(1_000_000 / piece.len() + 1);
    let texts = [
        megabyte("x"),
        megabyte("\\boxed{"),
        megabyte("\\boxed{1} "),
        megabyte("answer is "),
        megabyte("Answer:"),
        megabyte("Answer:\n"),
        megabyte("answer "),
        megabyte("$"),
        megabyte("$ $"),
        megabyte("####"),
        megabyte("<answer>"),
        megabyte("<think>\n"),
        megabyte("\n</answer>"),
        megabyte("A "),
        megabyte("((("),
        megabyte("1,"),
        megabyte("\\\\"),
        megabyte("**"),
        megabyte("é"),
        megabyte("\u{0}"),
        megabyte("answer is\n$$"),
        megabyte("Answer:\\["),
        megabyte(" "),
    ];
    let profiles = ["auto", "boxed", "answer-line", "hash", "answer-tag", "answer-is", "last-math", "choice", "last-number", "whole"];
    for text in &texts {
        for name in profiles {
            let profile: Profile = name.parse().unwrap();
            in_time(&format!("{name}: {}", &text.chars().take(20).collect::<String>()), || {
                extract_answer(text, &profile);
            });
        }
        in_time("verify", || {
            verify("1", text, &VerifyConfig::default());
        });
        in_time("verify gold", || {
            verify(text, "1", &VerifyConfig::default());
        });
        in_time("dapo", || {
            dapo_grade(text, "1", DapoRule::AnswerLineOrBox);
        });
        let input = RewardInput { prompt: "", completion: text, answer: "1", num_tokens: 1, truncated: false };
        in_time("format", || {
            Format::default().score(&input);
        });
        in_time("tags", || {
            TagCount.score(&input);
        });
        Repetition::default().score(&input);
    }
}
