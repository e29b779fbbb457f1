//! Nanoseconds a verdict takes on common completions.

use std::time::Instant;

use dapo_reward::{Gold, VerifyConfig};

fn main() {
    let reasoning =
        "First we compute the number of eggs, which is 16 - 3 - 4 = 9. Then $9 \\cdot 2 = 18$ follows.\n".repeat(40);
    let cases = [
        ("box, short", "18", "So she earns \\boxed{18} dollars.".to_owned()),
        ("box, long", "18", format!("{reasoning}So she earns \\boxed{{18}} dollars.")),
        ("box, long, fraction", "0.5", format!("{reasoning}So she earns $\\boxed{{\\frac{{1}}{{2}}}}$.")),
        ("hash", "18", format!("{reasoning}#### 18")),
        ("answer is", "18", format!("{reasoning}The answer is 18.")),
        ("answer line", "18", format!("{reasoning}**Answer:** 18")),
        ("last formula", "\\frac{1}{2}", format!("{reasoning}Thus we get $x = \\frac12$.")),
        ("wrong box", "x^2-1", format!("{reasoning}So \\boxed{{(x-1)(x+2)}}.")),
        ("nothing", "18", reasoning.clone()),
    ];
    for (name, gold, completion) in &cases {
        let gold = Gold::new(gold, &VerifyConfig::default());
        let mut best = f64::INFINITY;
        let mut correct = 0_usize;
        for _ in 0..60 {
            let start = Instant::now();
            for _ in 0..300 {
                let found = gold.verify(std::hint::black_box(completion));
                correct += usize::from(found.verdict == dapo_reward::Verdict::Correct);
            }
            best = best.min(start.elapsed().as_secs_f64() / 300.0 * 1e9);
        }
        println!("{name:22} {best:9.0} ns  {}", correct > 0);
    }
}
