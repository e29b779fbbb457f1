//! Checks a second of the verifier on one core, CPU only: `cargo bench --bench grading`. Completions of about 600
//! characters, 62 % integer answers, the rest short expressions; four in five predictions are right.
//!
//! Before the Criterion groups, one pass over the mix prints checks a second and the time per check at the median, the
//! 99th percentile and the maximum.

use std::hint::black_box;
use std::time::{Duration, Instant};

use dapo::kernels::allocator::MiMalloc;
use dapo_reward::{DapoRule, Gold, Profile, Verdict, VerifyConfig, dapo_grade, extract_answer, verify};

#[path = "support/summary.rs"]
mod summary;
#[path = "support/time.rs"]
mod time;

use summary::Summary;
use time::best;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Gold answer, the same re-written, and a wrong one.
const EXPRESSIONS: &[[&str; 3]] = &[
    ["\\frac{3}{4}", "0.75", "\\frac{4}{3}"],
    ["\\frac{35}{64}", "\\dfrac{35}{64}", "\\frac{35}{63}"],
    ["2\\sqrt{13}", "\\sqrt{52}", "2\\sqrt{11}"],
    ["12\\pi", "12 \\pi", "12"],
    ["\\frac{\\sqrt{3}}{3}", "\\frac{1}{\\sqrt{3}}", "\\sqrt{3}"],
    ["(3, \\frac{\\pi}{2})", "\\left(3,\\frac{\\pi}{2}\\right)", "(3,\\pi)"],
    ["x^2 + 3x - 4", "(x-1)(x+4)", "x^2 - 3x - 4"],
    ["[-2, 7)", "-2 \\le x < 7", "[-2, 7]"],
    ["1, -2", "-2, 1", "1, 2"],
    ["6 - 5i", "-5i + 6", "6 + 5i"],
    ["45^\\circ", "45", "54"],
    ["\\$32.50", "32.50", "32.05"],
    [
        "\\begin{pmatrix} -1 \\\\ 5 \\end{pmatrix}",
        "\\begin{bmatrix}-1\\\\5\\end{bmatrix}",
        "\\begin{pmatrix}1\\\\5\\end{pmatrix}",
    ],
    ["y = 2x + 3", "2x - y + 3 = 0", "y = 3x + 2"],
    ["\\text{east}", "East", "west"],
    ["\\text{(C)}", "C", "D"],
    ["1 \\pm \\sqrt{19}", "1+\\sqrt{19}, 1-\\sqrt{19}", "1 \\pm \\sqrt{17}"],
    ["58,500", "58500", "5,850"],
    ["\\frac{11+9a}{20}", "\\frac{9a}{20}+0.55", "\\frac{11+9a}{21}"],
];

struct Case {
    gold: String,
    completion: String,
    right: bool,
}

/// 1,000 cases, always the same.
fn cases() -> Vec<Case> {
    (0..1_000_u64)
        .map(|index| {
            let draw = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            let right = draw % 5 != 0;
            let (gold, pred) = if index % 50 < 31 {
                let answer = draw % 1_000;
                (answer.to_string(), (answer + u64::from(!right)).to_string())
            } else {
                let [gold, same, other] = EXPRESSIONS[(draw / 7) as usize % EXPRESSIONS.len()];
                (gold.to_owned(), (if right { same } else { other }).to_owned())
            };
            Case { completion: completion(&pred), gold, right }
        })
        .collect()
}

fn completion(answer: &str) -> String {
    let steps = "First we collect what is given: let $a = 3$ and $b = 4$, so that $a^2 + b^2 = 25$. ".repeat(6);
    format!("{steps}Adding up both sides we find that the quantity asked for is\n\\[\\boxed{{{answer}}}.\\]\n")
}

/// Checks every case, and prints how long single checks take.
fn report(cases: &[Case]) {
    let config = VerifyConfig::default();
    let check = |case: &Case| verify(&case.gold, &case.completion, &config).verdict == Verdict::Correct;
    for case in cases {
        assert_eq!(check(case), case.right, "{} in {}", case.gold, &case.completion[400..]);
    }
    let mut times: Vec<Duration> = Vec::new();
    let start = Instant::now();
    for _ in 0..50 {
        for case in cases {
            let one = Instant::now();
            black_box(check(case));
            times.push(one.elapsed());
        }
    }
    let rate = times.len() as f64 / start.elapsed().as_secs_f64();
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    let characters = cases.iter().map(|case| case.completion.len()).sum::<usize>() / cases.len();
    println!("verify: {rate:.0} checks/s on one core, {characters} characters a completion");
    println!("verify: median {:?}, p99 {:?}, max {:?}", at(0.5), at(0.99), at(1.0));
}

type Work<'a> = (&'static str, Box<dyn FnMut() -> usize + 'a>);

/// Passes over all cases; each says how many it judged correct.
fn works(cases: &[Case]) -> [Work<'_>; 4] {
    let config = VerifyConfig::default();
    let profile = Profile::auto();
    let golds: Vec<Gold> = cases.iter().map(|case| Gold::new(&case.gold, &config)).collect();
    let is_correct = move |case: &&Case| verify(&case.gold, &case.completion, &config).verdict == Verdict::Correct;
    let by_rule = |case: &&Case| {
        dapo_grade(&case.completion, &case.gold, DapoRule::AnswerLineOrBox) == dapo_reward::DapoGrade::Correct
    };
    [
        ("mix", Box::new(move || cases.iter().filter(&is_correct).count())),
        (
            "mix, gold parsed before",
            Box::new(move || {
                let judged = golds.iter().zip(cases).map(|(gold, case)| gold.verify(&case.completion).verdict);
                judged.filter(|verdict| *verdict == Verdict::Correct).count()
            }),
        ),
        (
            "extraction alone",
            Box::new(move || cases.iter().filter(|case| extract_answer(&case.completion, &profile).is_some()).count()),
        ),
        ("dapo rule", Box::new(move || cases.iter().filter(by_rule).count())),
    ]
}

fn main() -> std::io::Result<()> {
    let cases = cases();
    let mut works = works(&cases);
    // `cargo test --benches` runs this too: once each will do.
    if !std::env::args().any(|argument| argument == "--bench") {
        for (_, work) in &mut works {
            black_box(work());
        }
        return Ok(());
    }
    report(&cases);
    let mut summary = Summary::of("grading");
    for (name, work) in &mut works {
        let time = best(Duration::from_millis(500), || {
            black_box(work());
        });
        let rate = format!("{:.0} completions/s on one core", cases.len() as f64 / time.as_secs_f64());
        summary.add(&format!("{name}, {} completions", cases.len()), time, &rate);
    }
    summary.leave()
}
