//! Hostile input: every question ends, without a panic and always the same way.

use dapo_reward::{
    Accuracy, DapoRule, Format, Grader, Profile, Repetition, RewardFn, RewardInput, TagCount, TextOptions,
    VerifyConfig, dapo_grade, extract_answer, group_answers, is_equivalent, verify,
};

/// Asks twice: a verdict that hung on a clock, an address or leftover state would differ.
fn ends<T: PartialEq + std::fmt::Debug>(what: &str, mut question: impl FnMut() -> T) {
    let (first, second) = (question(), question());
    assert_eq!(first, second, "{}", what.chars().take(60).collect::<String>());
}

const WRITTEN: &[&str] = &[
    "2^{2^{2^{2^{2^{2}}}}}",
    "9^{9^{9^{9^9}}}",
    "9^9^9^9^9^9",
    "10^{10^{10}}",
    "10^{-10^{10}}",
    "(1+10^{-1000})^{10^{1000}}",
    "1000000!",
    "((((100!)!)!)!)!",
    "100!!!!!!!!",
    "\\binom{1000000000}{500000000}",
    "\\binom{10^{18}}{10^9}",
    "1/0",
    "0/0",
    "0^0",
    "0^{-1}",
    "\\frac{1}{0}",
    "\\frac{1}{\\frac{1}{\\frac{1}{0}}}",
    "\\frac{1}{x-x}",
    "\\ln 0",
    "\\ln(-1)",
    "\\log_1 5",
    "\\log_0 0",
    "\\sqrt[0]{5}",
    "\\sqrt[10^9]{2}",
    "\\sqrt[x]{x}",
    "\\arcsin 2",
    "\\tan\\frac{\\pi}{2}",
    "\\sin 10^{1000}",
    "\\sin(10^{10^{10}})",
    "e^{e^{e^{e^{e}}}}",
    "e^{-e^{e^{e^{e}}}}",
    "e^{\\pi\\sqrt{163}} - 262537412640768744",
    "\\sqrt{\\sqrt{\\sqrt{\\sqrt{\\sqrt{\\sqrt{2}}}}}}",
    "(a+b+c+d+f+g+h)^{60}",
    "(x+1)^{1000000}",
    "(x+y)^{64}(x-y)^{64}",
    "x^{10^{100}} + x^{-10^{100}}",
    "\\lfloor e^{1000} \\rfloor",
    "\\lfloor 0.\\overline{9} \\rfloor",
    "\\gcd(10^{1000}, 3^{2000})",
    "10^{1000} \\bmod 7",
    "1e5000",
    "1e-5000",
    "1e99999999999999999999",
    "0.(",
    "\\frac",
    "\\frac{}{}",
    "\\sqrt",
    "\\sqrt[",
    "\\begin{pmatrix}",
    "\\begin{pmatrix}1&2\\\\3\\end{pmatrix}",
    "\\begin{pmatrix}\\end{pmatrix}",
    "\\end{pmatrix}",
    "\\left(\\left[\\left\\{",
    "\\text{",
    "\\text{\\text{\\text{",
    "x_{x_{x_{x",
    "||||||x||||||",
    "((((",
    "))))",
    "}{}{}{",
    "$$$$$$$",
    "\\\\\\\\\\\\",
    "\\",
    "\u{0}\u{1}\u{2}\u{7f}",
    "\u{202e}21\u{202c}",
    "٣٤",
    "x̂ + ÿ",
    "💥 = 💥",
    "±±±±3",
    "\\pm\\pm 3",
    "1,000,000,00",
    "(1,2",
    "[5,1]",
    "(\\infty,-\\infty)",
    "(-\\infty,\\infty)\\setminus\\{0,1,2,3,4,5,6,7,8,9,10,11,12\\}",
    "x<y<z<w<x",
    "x=x=x=x=x",
    "1=2",
    "=",
    "<",
    "x\\in\\emptyset",
    "x^{y^{z^{x^{y^{z^{x}}}}}}",
    "\\sum_{k=1}^{9999} k^k",
    "\\sum_{a=1}^{9999}\\sum_{b=1}^{9999}\\sum_{c=1}^{9999} abc",
    "\\prod_{k=1}^{9999} 2000!",
    "\\sum_{k=1}^{10^{100}} k",
    "\\sum_{k=-10^{18}}^{10^{18}} k",
    "\\sum_{k=1}^{9}\\sum_{k=1}^{9}\\sum_{k=1}^{9}\\sum_{k=1}^{9} \\sqrt{k x}",
    "\\int_0^1 (1+x)^{1000} dx",
    "\\int_0^{10^{1000}} x^{999} dx",
    "\\int_0^1 \\int_0^1 \\int_0^1 x dx dx dx",
    "\\int_0^1 d d d d x",
    "0:00:00:00",
    "99:99 p.m.",
    "C_{C_{C_1^1}^1}^{C_1^1}",
    "C_{10^9}^{5\\cdot 10^8}",
    "{}_{{}_{1}C_1}C_1",
    "|||x|<1|<1|<1",
    "|x|<|x|<|x|",
    "x<1,x<2,x<3:(1,2):(3,4)",
    "f(f(f(f(f(f(x))))))",
    "f(1)(2)(3)^{f(4)}",
    "P(P(P(A|B)|C)|D)=1=2=3",
    "1° 1' 1'' 1'''",
    "1^{\\prime\\prime\\prime}",
    "5 m m m m/s/s/s",
    "5 feet 6 inches 7 inches 8 inches",
    "9 (((apples)))",
    "x for all y for all z where w",
    "x (x>0) (x<0) (x=0)",
    "９９９^９９９",
    "¹²³₁₂₃⁴",
    "万亿百千元或和",
    "\\approx\\approx\\approx 3",
    "=====3",
];

fn nasty() -> Vec<String> {
    let nested = |open: &str, inner: &str, close: &str, times: usize| {
        format!("{}{inner}{}", open.repeat(times), close.repeat(times))
    };
    let mut all: Vec<String> = WRITTEN.iter().map(|text| (*text).to_owned()).collect();
    all.extend([
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
        format!("{}30^\\circ", "\\cos 30^".repeat(16)),
        format!("{}x", "30^".repeat(40)),
        format!("{}x", "\\tan ".repeat(40)),
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
        (0..250).map(|n| format!("(x_{{{n}}}+1)")).collect::<Vec<_>>().concat(),
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
        "₁".repeat(1_300),
        "元".repeat(1_300),
        "18元或".repeat(400),
        "f(".repeat(2_000),
        "\\approx ".repeat(500),
        "=".repeat(4_000),
        "\\text{ for }".repeat(340),
        "(x>0)".repeat(800),
        "5 m ".repeat(1_000),
        "1:23 ".repeat(800),
        "C_1^1".repeat(800),
        "^\\prime".repeat(580),
        nested("C_{", "1", "}^1", 60),
        nested("f(", "x", ")", 60),
        nested("|", "x", "|<1", 60),
        nested("\\sum_{k=1}^{2}(", "x", ")", 30),
        nested("\\int_0^1 (", "x", ") dx", 30),
    ]);
    all.push(all.iter().filter(|text| text.len() < 60).take(40).cloned().collect::<Vec<_>>().join(","));
    all
}

#[test]
fn hostile_answers_are_decided() {
    let golds = ["5", "\\sqrt{2}", "x^2+1", "(1,2)", "\\{1,2,3\\}", "x=3", "(-\\infty,0)", "\\sin x", "east"];
    for text in nasty() {
        ends(&text, || is_equivalent(&text, &text));
        for gold in golds {
            ends(&text, || (is_equivalent(gold, &text), is_equivalent(&text, gold)));
        }
    }
}

#[test]
fn hostile_pairs_are_decided() {
    let all = nasty();
    for (index, gold) in all.iter().enumerate() {
        for pred in all.iter().skip(index % 7).step_by(7) {
            ends(
                &format!(
                    "{} | {}",
                    gold.chars().take(30).collect::<String>(),
                    pred.chars().take(30).collect::<String>()
                ),
                || is_equivalent(gold, pred),
            );
        }
    }
}

#[test]
fn hostile_answers_are_grouped() {
    let all = nasty();
    // Each twice: what is written alike is the same answer, however hard it is to compare with the others.
    let texts: Vec<&str> = all.iter().chain(&all).map(String::as_str).collect();
    let grader = Grader::Math(VerifyConfig { profile: Profile::whole(), ..VerifyConfig::default() });
    let classes = group_answers(&texts, &grader);
    assert_eq!(classes[..all.len()], classes[all.len()..]);
    ends("group", || group_answers(&texts, &grader));
}

#[test]
fn near_misses_that_need_precision_are_decided() {
    for (gold, pred) in [
        ("e^{\\pi\\sqrt{163}}", "262537412640768744"),
        ("\\sqrt{1000001}+\\sqrt{1000025}+\\sqrt{1000031}", "\\sqrt{1000003}+\\sqrt{1000019}+\\sqrt{1000035}"),
        ("(1+\\sqrt2)^{300}", "(3+2\\sqrt2)^{150}"),
        ("\\sqrt{2}+\\sqrt{3}+\\sqrt{5}", "\\sqrt{10+2\\sqrt{6}+2\\sqrt{10}+2\\sqrt{15}}"),
        ("\\sin(\\sin(\\sin(\\sin(1))))+10^{-900}", "\\sin(\\sin(\\sin(\\sin(1))))"),
        ("4\\arctan\\frac15-\\arctan\\frac1{239}", "\\frac{\\pi}{4}"),
        ("\\sum x", "x"),
    ] {
        ends(gold, || is_equivalent(gold, pred));
    }
    assert!(is_equivalent("4\\arctan\\frac15-\\arctan\\frac1{239}", "\\frac{\\pi}{4}"));
    assert!(!is_equivalent("e^{\\pi\\sqrt{163}}", "262537412640768744"));
}

#[test]
fn a_megabyte_is_searched_to_its_end() {
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
        megabyte("\\boxed{1}, "),
        megabyte("$1$ and "),
        megabyte("$5 each "),
        megabyte("#### Title\n"),
        megabyte("<|"),
        megabyte("<|im_end|>"),
        megabyte("答案："),
        megabyte("# Answer\n"),
        megabyte("not A or "),
        megabyte("category is "),
        megabyte("```json\n{"),
        megabyte("[1,"),
        megabyte("{\"a\":"),
        megabyte("* "),
    ];
    let profiles = [
        "auto",
        "boxed",
        "answer-line",
        "hash",
        "answer-tag",
        "answer-is",
        "last-math",
        "choice",
        "last-number",
        "whole",
    ];
    for text in &texts {
        for name in profiles {
            let profile: Profile = name.parse().expect("a profile name");
            ends(&format!("{name}: {}", &text.chars().take(20).collect::<String>()), || extract_answer(text, &profile));
        }
        ends("verify", || verify("1", text, &VerifyConfig::default()));
        ends("verify gold", || verify(text, "1", &VerifyConfig::default()));
        let input = RewardInput::new("", text, "1").with_num_tokens(1);
        for grader in [Grader::Text(TextOptions::default()), Grader::Choice] {
            let accuracy = Accuracy { grader: grader.clone(), ..Accuracy::default() };
            ends("words", || accuracy.score(&input).expect("scored"));
            ends("words as gold", || accuracy.score(&RewardInput::new("", "1", text)).expect("scored"));
            ends("answer", || grader.answer(text));
            ends("classes", || group_answers(&[text], &grader));
        }
        ends("dapo", || dapo_grade(text, "1", DapoRule::AnswerLineOrBox));
        ends("format", || Format::default().score(&input).expect("scored"));
        ends("tags", || TagCount.score(&input).expect("scored"));
        Repetition::default().score(&input).expect("scored");
    }
}
