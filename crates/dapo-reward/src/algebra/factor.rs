//! Prime factors of small numbers and what is left of large ones.

use dashu_base::{BitTest, SquareRoot};
use dashu_int::UBig;

use super::Stop;
use crate::fuel::Fuel;

/// Divisors are tried up to here.
const LIMIT: u64 = 1_000;

/// Factors with their multiplicities. All are primes, save perhaps the last, which has no divisor up to 1,000.
pub(crate) fn factors(value: &UBig, fuel: &Fuel) -> Result<Vec<(UBig, i64)>, Stop> {
    let mut found = Vec::new();
    if let Ok(mut small) = u64::try_from(value) {
        for divisor in divisors() {
            if divisor * divisor > small {
                break;
            }
            let mut times = 0;
            while small.is_multiple_of(divisor) {
                small /= divisor;
                times += 1;
            }
            if times > 0 {
                found.push((UBig::from(divisor), times));
            }
        }
        fuel.spend(500)?;
        if small > 1 {
            found.push(perfect_power(UBig::from(small)));
        }
        return Ok(found);
    }
    let mut rest = value.clone();
    let bits = rest.bit_len() as u64;
    fuel.spend(500 * (20 + bits / 32))?;
    for divisor in divisors() {
        if let Some(times) = rest.remove(&UBig::from(divisor)).filter(|times| *times > 0) {
            found.push((UBig::from(divisor), times as i64));
        }
    }
    if !rest.is_one() {
        found.push(perfect_power(rest));
    }
    Ok(found)
}

/// Whether a factor given by [`factors`] is certainly prime.
pub(crate) fn is_surely_prime(factor: &UBig) -> bool {
    *factor < UBig::from(LIMIT * LIMIT)
}

fn divisors() -> impl Iterator<Item = u64> {
    [2, 3, 5].into_iter().chain((7..LIMIT).step_by(2).filter(|n| !n.is_multiple_of(3) && !n.is_multiple_of(5)))
}

fn perfect_power(value: UBig) -> (UBig, i64) {
    let root = value.sqrt();
    if root.sqr() == value {
        return (root, 2);
    }
    let root = value.nth_root(3);
    if root.pow(3) == value { (root, 3) } else { (value, 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_multiply_back() {
        let fuel = Fuel::new(u64::MAX);
        for value in
            [1_u128, 2, 12, 360, 997 * 991, 1_000_003, 1_000_003 * 1_000_003, 2_u128.pow(100) * 3, 1_018_081, u128::MAX]
        {
            let value = UBig::from(value);
            let product = factors(&value, &fuel)
                .unwrap()
                .iter()
                .fold(UBig::ONE, |product, (factor, times)| product * factor.pow(*times as usize));
            assert_eq!(product, value);
        }
    }
}
