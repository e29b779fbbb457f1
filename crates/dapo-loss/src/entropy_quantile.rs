//! The entropy from which on a token is among those with the highest.

/// Ranks this close to an integer are that integer: 1 − ρ is rounded.
const ROUNDING: f64 = 1e-6;

/// The entropy from which on a token belongs to the share ρ of a batch with the highest entropy.
///
/// ```text
/// τ = quantile(H, 1 − ρ), interpolated linearly between ranks;   a token is chosen where H ≥ τ
/// ```
///
/// # Shapes
/// `share` is ρ, from 0 (the highest entropy alone) to 1 (all). `entropies` are those of the tokens in the loss, in
/// nats, of a whole optimiser step where the step is split. Returns τ in nats; `None` without a token. Entropies that
/// are not finite are left to the loss, which names them.
///
/// ```
/// use dapo_loss::top_entropy_threshold;
/// let entropies = [0.5, 3.0, 1.0, 2.0, 0.0];
/// assert_eq!(top_entropy_threshold(0.5, entropies.to_vec()), Some(1.0));
/// assert_eq!(top_entropy_threshold(0.0, entropies.to_vec()), Some(3.0));
/// assert_eq!(top_entropy_threshold(1.0, entropies.to_vec()), Some(0.0));
/// // Rank 3.2 of 4: 2 + 0.2·(3 − 2).
/// assert!((top_entropy_threshold(0.2, entropies.to_vec()).unwrap() - 2.2).abs() < 1e-6);
/// ```
///
/// Source: "Beyond the 80/20 Rule" (arXiv 2506.01939); TRL's `top_entropy_quantile`.
pub fn top_entropy_threshold(share: f64, mut entropies: Vec<f32>) -> Option<f32> {
    let last = entropies.len().checked_sub(1)?;
    let rank = (1.0 - share).clamp(0.0, 1.0) * last as f64;
    let rank = if (rank - rank.round()).abs() < ROUNDING { rank.round() } else { rank };
    let (_, below, above) = entropies.select_nth_unstable_by(rank as usize, f32::total_cmp);
    let below = f64::from(*below);
    let above = above.iter().copied().min_by(f32::total_cmp).map_or(below, f64::from);
    let threshold = below + rank.fract() * (above - below);
    // H ≥ τ in f32 must be H ≥ τ in f64.
    let rounded = threshold as f32;
    Some(if f64::from(rounded) < threshold { rounded.next_up() } else { rounded })
}
