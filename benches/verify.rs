//! Checks a second of the verifier on one core, CPU only: completions of about 600 characters, 62 % integer answers, the
//! rest short expressions; four in five predictions are right.
//!
//! Before the Criterion groups, one pass over the mix prints checks a second and the time per check at the median, the
//! 99th percentile and the maximum.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dapo_reward::{DapoRule, Gold, Profile, Verdict, VerifyConfig, dapo_grade, extract_answer, verify};

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

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

fn benches(criterion: &mut Criterion) {
    let cases = cases();
    report(&cases);
    let config = VerifyConfig::default();
    let mut group = criterion.benchmark_group("verify");
    group.sample_size(20).throughput(Throughput::Elements(cases.len() as u64));
    group.bench_function("mix", |bencher| {
        bencher.iter(|| {
            cases
                .iter()
                .filter(|case| verify(&case.gold, &case.completion, &config).verdict == Verdict::Correct)
                .count()
        });
    });
    let golds: Vec<Gold> = cases.iter().map(|case| Gold::new(&case.gold, &config)).collect();
    group.bench_function("mix, gold parsed before", |bencher| {
        bencher.iter(|| {
            golds
                .iter()
                .zip(&cases)
                .filter(|(gold, case)| gold.verify(&case.completion).verdict == Verdict::Correct)
                .count()
        });
    });
    let profile = Profile::auto();
    group.bench_function("extraction alone", |bencher| {
        bencher.iter(|| cases.iter().filter(|case| extract_answer(&case.completion, &profile).is_some()).count());
    });
    group.bench_function("dapo rule", |bencher| {
        bencher.iter(|| {
            cases
                .iter()
                .map(|case| dapo_grade(&case.completion, &case.gold, DapoRule::AnswerLineOrBox))
                .filter(|grade| *grade == dapo_reward::DapoGrade::Correct)
                .count()
        });
    });
    group.finish();
}

criterion_group!(verifier, benches);
criterion_main!(verifier);
