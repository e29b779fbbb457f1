//! Mutates the corpora under `testdata/answers/`, and answers and completions made from templates, and judges what
//! comes out: no input may panic, hang or be judged differently twice.
//!
//! `cargo run --release -p dapo-reward --example stress -- INPUTS [SEED]` prints how many inputs were judged, the
//! verdicts, and every input that took more than 50 ms. Stops with a panic at the first finding of the other kinds.

use std::time::{Duration, Instant};
use std::{env, fs, path::Path};

use dapo_reward::{
    DapoRule, ExtractRule, Gold, Profile, Rule, Verdict, VerifyConfig, dapo_grade, extract_answer, verify,
};

const SLOW: Duration = Duration::from_millis(50);

/// Pieces that mutations insert.
const TOKENS: &[&str] = &[
    "\\frac",
    "\\frac{",
    "\\sum_{k=1}^{9}",
    "\\int_0^1 ",
    " dx",
    " p.m.",
    "3:30",
    "元",
    "₁",
    "⁻²",
    "７",
    " for all ",
    "C_5^2",
    "f(",
    "\\approx ",
    " m/s",
    "\\sqrt{",
    "\\sqrt[",
    "^{",
    "_{",
    "}",
    "{",
    "(",
    ")",
    "[",
    "]",
    "\\{",
    "\\}",
    "|",
    "\\left",
    "\\right",
    "\\text{",
    "\\boxed{",
    "$",
    "\\(",
    "\\]",
    "\\\\",
    "&",
    "\\begin{pmatrix}",
    "\\end{pmatrix}",
    "\\pm",
    "\\cup",
    "\\cap",
    "\\setminus",
    "\\in",
    "\\le",
    "<",
    ">",
    "=",
    "\\ne",
    "\\approx",
    "\\pi",
    "e",
    "i",
    "x",
    "\\infty",
    "\\sin",
    "\\cos",
    "\\tan",
    "\\ln",
    "\\log_",
    "\\arcsin",
    "\\exp",
    "!",
    "!!",
    "\\binom",
    "\\lfloor",
    "\\rfloor",
    "\\gcd",
    "\\bmod",
    "%",
    "^\\circ",
    "0",
    "1",
    "9",
    "999999999",
    "0.",
    ".5",
    ",",
    "1,000",
    "e10",
    "10^{100}",
    "-",
    "+",
    "*",
    "/",
    "\\overline{3}",
    "...",
    "and",
    "or",
    "answer is ",
    "Answer:",
    "####",
    "</think>",
    "<answer>",
    "\n",
    " ",
    "\u{0}",
    "é",
    "∞",
    "²",
    "½",
    "°",
    "∪",
    "−",
    "\\",
    "such that",
    "\\mid",
    ":",
    ";",
    "cm",
    "\\text{ or }",
    "mathbb{R}",
    "\\mathbb{R}",
    "\\emptyset",
    "degrees",
    "\\%",
    "\\$",
    "'",
    "~",
    "\\,",
    "\\!",
    "{,}",
    "The answer is ",
    "Final Answer: The final answer is $",
    "$. I hope it is correct.",
    "</answer>",
    "## Answer\n",
    "<|im_end|>",
    "答案：",
    "答案是",
    "。",
    "元",
    "平方厘米",
    "１２",
    "．",
    "₁",
    "⁻",
    "①",
    "p.m.",
    ":00",
    ":30",
    "km/h",
    "hours",
    "\\mathrm{m}",
    "USD ",
    "Rs. ",
    "^{\\prime}",
    "\\sum_{k=1}^{",
    "\\prod_{k=1}^",
    "\\int_0^1 ",
    " dx",
    "\\lim_{x\\to 0}",
    "C_{10}^{3}",
    "{}_",
    "\\pmod{",
    "\\equiv",
    "\\forall",
    "not ",
    "**",
    "th",
];

/// Answers: a number for each `§`.
const ANSWERS: &[&str] = &[
    "§:§",
    "§:0§",
    "§:§ p.m.",
    "§\\text{ AM}",
    "§ cm",
    "§\\pi cm^2",
    "§\\text{ km/h}",
    "§\\ \\mathrm{m\\,s^{-1}}",
    "§ \\mathrm{~N}\\cdot\\mathrm{m}",
    "§ hours § minutes",
    "§\\text{ feet }§\\text{ inches}",
    "§ (apples)",
    "§^{\\circ} §^{\\prime}",
    "§°§'",
    "USD §",
    "\\text{Rs. }§",
    "§¢",
    "\\pounds §",
    "§元",
    "§平方厘米",
    "§小时§分",
    "１§．５",
    "x₁=§, x₂=-§",
    "x_1=§, x_2=-§",
    "x = § \\text{ or } x = §",
    "10⁻§",
    "①③④",
    "\\sum_{k=§}^{§} k^§",
    "\\sum_{k=1}^{§} \\frac{§}{k+§}",
    "\\sum_{i=§}^{§}\\sum_{j=§}^{i} ij",
    "\\prod_{k=1}^{§} (k+§)",
    "\\int_{§}^{§} (§x^§+§) \\, dx",
    "\\int_0^{\\pi} \\sin(§x) dx",
    "\\lim_{x\\to §} f(x) = §",
    "P(A|B) = \\frac{§}{§}",
    "f(§)<f(§)",
    "f(x+§)=f(x)+§",
    "|x| \\le §",
    "x<§:(-\\infty,§)",
    "x \\ge -§, x \\ne §",
    "§_{§}",
    "C_{§}^{§}",
    "\\mathrm{A}_{§}^{§}",
    "{}_{§}P_{§}",
    "x \\equiv § \\pmod{§}",
    "§ \\ (\\text{mod } §)",
    "(n-§) §^{n+§}+§",
    "\\approx §.§",
    "\\frac{§}{§} \\approx §.§",
    "§ \\cdot § = §",
    "§./§",
    "§th",
    "§e§",
    "y^{\\prime}=§y+§",
    "§n+§ \\text{ for } n \\ge §",
    "y=\\frac{§}{x} (x>§)",
    "\\{x \\mid x = §k\\pi, k \\in \\mathbb{Z}\\}",
    "A, C, D",
    "b",
    "(0.§, 0.§)",
    "\\frac{§}{§}",
    "§,§00",
];

/// Completions: an answer for each `¶`, a number for each `§`.
const COMPLETIONS: &[&str] = &[
    "\\boxed{¶}",
    "The answer is ¶.",
    "The answer is $¶$!",
    "The answer is ¶ in total.",
    "The answer is not ¶.",
    "Final Answer: The final answer is $¶$. I hope it is correct.",
    "#### ¶",
    "<answer>¶</answer>",
    "<answer>The answer is $¶$.</answer>",
    "\\boxed{\\text{The answer is } ¶}",
    "**Answer:** ¶",
    "***ANSWER***: ***¶***",
    "## Final Answer\n\n$¶$",
    "### Answer\n¶",
    "答案：¶",
    "所以答案是 ¶。",
    "\\boxed{¶} and \\boxed{¶}",
    "The solutions are $¶$, $¶$ and $¶$.",
    "Either $¶$ or $¶$.",
    "\\boxed{¶}\n\nAnswer: ¶<|im_end|>",
    "<|begin_of_box|>¶<|end_of_box|>",
    "So she has $§ - $§ = $§ left.",
    "The correct option is b.",
    "Therefore \\boxed §.",
];

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// A number for a template: mostly small, at times a minute, at times too large to count to.
fn number(random: &mut Random) -> usize {
    let bound = [10, 10, 13, 60, 100, 2_000, 1_000_000, 2_000_000_000][random.below(8)];
    random.below(bound)
}

fn fill(template: &str, random: &mut Random) -> String {
    let mut text = String::new();
    for c in template.chars() {
        match c {
            '§' => text.push_str(&number(random).to_string()),
            '¶' => text.push_str(&fill(ANSWERS[random.below(ANSWERS.len())], random)),
            other => text.push(other),
        }
    }
    text
}

fn corpus() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/answers");
    let mut texts = Vec::new();
    for name in ["public.jsonl", "own.jsonl", "reported.jsonl"] {
        let path = folder.join(name);
        let lines = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for line in lines.lines() {
            let row: serde_json::Value = serde_json::from_str(line).expect("a JSON object a line");
            texts.extend(["gold", "pred"].iter().filter_map(|key| row[*key].as_str().map(str::to_owned)));
        }
    }
    texts
}

/// A place between characters.
fn boundary(text: &str, random: &mut Random) -> usize {
    let mut at = random.below(text.len() + 1);
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn mutate(text: &str, texts: &[String], random: &mut Random) -> String {
    let mut text = text.to_owned();
    let times = [1, 1, 1, 1, 2, 2, 3, 5][random.below(8)];
    for _ in 0..times {
        let (a, b) = (boundary(&text, random), boundary(&text, random));
        let (from, to) = (a.min(b), a.max(b));
        match random.below(11) {
            0 => text.replace_range(from..to, ""),
            1 | 2 => text.insert_str(from, TOKENS[random.below(TOKENS.len())]),
            3 => text.replace_range(from..to, TOKENS[random.below(TOKENS.len())]),
            4 => {
                let copied = text[from..to].to_owned();
                let at = boundary(&text, random);
                text.insert_str(at, &copied);
            }
            8 | 9 => {
                // One character for another of its kind.
                let places: Vec<usize> = text
                    .bytes()
                    .enumerate()
                    .filter(|(_, byte)| byte.is_ascii_alphanumeric())
                    .map(|(at, _)| at)
                    .collect();
                if let Some(&at) = places.get(random.below(places.len())) {
                    let kinds = ["0123456789", "xyznabe", "+-*/^"];
                    let kind = kinds[random.below(3)];
                    let new = random.below(kind.len());
                    text.replace_range(at..=at, &kind[new..=new]);
                }
            }
            10 => {
                let wide: String = text[from..to]
                    .chars()
                    .map(|c| if c.is_ascii_graphic() { char::from_u32(c as u32 + 0xfee0).unwrap_or(c) } else { c })
                    .collect();
                text.replace_range(from..to, &wide);
            }
            5 => {
                let other = &texts[random.below(texts.len())];
                let at = boundary(other, random);
                text = format!("{}{}", &text[..from], &other[at..]);
            }
            6 => {
                let repeated = text[from..to].repeat(1 + random.below(6));
                text.replace_range(from..to, &repeated);
            }
            _ => {
                let open = ["(", "{", "\\sqrt{", "\\frac{1}{", "e^{", "[", "|", "\\{", "-", "\\sin("][random.below(10)];
                let close = [")", "}", "}", "}", "}", "]", "|", "\\}", "", ")"][random.below(10)];
                text = format!("{open}{text}{close}");
            }
        }
        if text.len() > 600 {
            let end = (400..=text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(0);
            text.truncate(end);
        }
    }
    text
}

fn main() {
    let mut arguments = env::args().skip(1);
    let inputs: u64 = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(100_000);
    let seed: u64 = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(1);
    let texts = corpus();
    let mut random = Random(seed);
    let rules = [ExtractRule::Choice, ExtractRule::LastNumber, ExtractRule::LastMath, ExtractRule::AnswerIs];
    let mut counts = [0_u64; 4];
    let mut slowest = Duration::ZERO;
    let start = Instant::now();
    for index in 0..inputs {
        let original = match random.below(4) {
            0 => fill(ANSWERS[random.below(ANSWERS.len())], &mut random),
            1 => fill(COMPLETIONS[random.below(COMPLETIONS.len())], &mut random),
            _ => texts[random.below(texts.len())].clone(),
        };
        let changed = mutate(&original, &texts, &mut random);
        let (gold, pred) = match index % 4 {
            0 => (original, changed),
            1 => (changed, original),
            2 => (changed.clone(), changed),
            _ => (mutate(&original, &texts, &mut random), changed),
        };
        let profile = match index % 5 {
            0 | 2 => Profile::auto(),
            1 => Profile::only(rules[random.below(rules.len())]),
            _ => Profile::whole(),
        };
        let config = VerifyConfig { profile, ..VerifyConfig::default() };
        let one = Instant::now();
        let found = verify(&gold, &pred, &config);
        let took = one.elapsed();
        if took <= SLOW {
            slowest = slowest.max(took);
        } else {
            // Once more: other work on the machine is not the verifier's.
            let again = Instant::now();
            verify(&gold, &pred, &config);
            slowest = slowest.max(again.elapsed());
            if again.elapsed() > SLOW {
                println!("slow: {took:?}, then {:?}: {gold:?} | {pred:?}", again.elapsed());
            }
        }
        counts[match found.verdict {
            Verdict::Correct => 0,
            Verdict::Incorrect => 1,
            Verdict::Unparsable(_) => 2,
            Verdict::OutOfFuel => 3,
        }] += 1;
        // An answer is itself, unless it has no value or denies itself.
        let excused = matches!(found.rule, Rule::Undefined | Rule::Contradiction | Rule::Undecided);
        let is_bare = || Gold::new(&gold, &config).text() == gold.trim();
        if index % 4 == 2
            && config.profile == Profile::whole()
            && found.verdict == Verdict::Incorrect
            && !excused
            && is_bare()
        {
            println!("not itself: {gold:?} ({})", found.rule);
        }
        if index % 16 == 0 {
            assert_eq!(found, verify(&gold, &pred, &config), "judged differently twice: {gold:?} | {pred:?}");
            dapo_grade(&pred, &gold, DapoRule::AnswerLineOrBox);
            extract_answer(&pred, &Profile { window: Some(40), after_think: index % 32 == 0, ..Profile::auto() });
        }
    }
    let [correct, wrong, unparsable, out_of_fuel] = counts;
    println!(
        "{inputs} inputs, seed {seed}, {:?}: {correct} correct, {wrong} wrong, {unparsable} unparsable, {out_of_fuel} out of fuel; slowest {slowest:?}",
        start.elapsed()
    );
}
