//! Lesson 1: DAPO's advantages and policy loss on plain slices, without a model and without tensors.
//!
//! `cargo run --release --example 01_loss`
//!
//! Equations are those of the DAPO paper, arXiv 2503.14476; docs/algorithm.md lists them with functions and settings.

use anyhow::Result;
use dapo::loss::{AdvantageNorm, Advantages, Aggregation, LossBatch, LossConfig, PolicyLoss};
use dapo::loss::{group_advantages, policy_loss_single};

fn main() -> Result<()> {
    advantages()?;
    clip()?;
    aggregation()
}

/// Eq. 9: A = (R − mean) / std. The other completions of the same prompt are the baseline; there is no value network.
fn advantages() -> Result<()> {
    println!("Eq. 9: advantages of a group of four completions");
    for rewards in [[1.0, 1.0, -1.0, -1.0], [1.0, -1.0, -1.0, -1.0], [-1.0, -1.0, -1.0, -1.0]] {
        let advantages = group_advantages(&rewards, &AdvantageNorm::default())?;
        println!("  rewards {rewards:4.1?}  advantages {:5.2?}", advantages.values());
    }
    Ok(())
}

/// Eq. 8, clip-higher. With the importance ratio ρ = π(token) / π_old(token), a token's loss is
/// max(−A·ρ, −A·clip(ρ, 1 − ε_low, 1 + ε_high)). Beyond a bound its gradient is 0, so ρ cannot move much further in one
/// step. PPO has ε_low = ε_high = 0.2. DAPO raises ε_high to 0.28: at the same ρ, a rare token gains little probability
/// and a frequent one much, so a low upper bound keeps rare tokens rare.
fn clip() -> Result<()> {
    let ratios = [0.70_f32, 0.85, 1.00, 1.15, 1.25, 1.35];
    println!("\nEq. 8: gradient of a token's loss, by its importance ratio {ratios:.2?}");
    for (name, policy_loss) in [("PPO ", PolicyLoss::ppo()), ("DAPO", PolicyLoss::dapo())] {
        for advantage in [[1.0], [-1.0]] {
            let gradients = ratios.map(|ratio| {
                // One completion of one token, with an old log-prob of −1 nat: the new one is −1 + ln ρ.
                let batch = LossBatch::new(&[0, 1], Advantages::PerSequence(&advantage), &[-1.0]);
                policy_loss_single(&LossConfig::of(policy_loss), batch, &[ratio.ln() - 1.0])
                    .map(|output| output.gradient[0])
            });
            let gradients = gradients.into_iter().collect::<Result<Vec<f32>, _>>()?;
            println!("  {name}  A = {:4.1}  {gradients:5.2?}", advantage[0]);
        }
    }
    Ok(())
}

/// Eq. 8, token-level loss: the sum over all tokens of the batch is divided by their number, Σ_i |o_i|. GRPO averages
/// within each completion first, so a token of a long completion counts less than one of a short completion.
fn aggregation() -> Result<()> {
    println!("\nEq. 8: weight of each token of two completions, of two and of six tokens");
    let (offsets, old_logprobs) = ([0, 2, 8], [-1.0; 8]);
    let batch = LossBatch::new(&offsets, Advantages::PerSequence(&[1.0, 1.0]), &old_logprobs);
    for (name, aggregation) in [("GRPO", Aggregation::SeqMeanTokenMean), ("DAPO", Aggregation::TokenMean)] {
        let config = LossConfig { aggregation, ..LossConfig::default() };
        // The policy has not changed yet: every ratio is 1, and a token's gradient is −A times its weight.
        let weights: Vec<f32> =
            policy_loss_single(&config, batch, &old_logprobs)?.gradient.iter().map(|g| -g).collect();
        println!("  {name}  {weights:.3?}");
    }
    Ok(())
}
