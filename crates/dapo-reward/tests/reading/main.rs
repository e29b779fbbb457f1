//! What is read and what is not, kind by kind: pairs (gold, prediction) that are equal, and near misses that are not.

mod names;
mod numbers;
mod quantities;
mod siblings;
mod structures;
mod units;

use dapo_reward::is_equivalent;

fn equal(pairs: &[(&str, &str)]) {
    for (gold, prediction) in pairs {
        assert!(is_equivalent(gold, prediction), "{gold}  ==  {prediction}");
    }
}

fn different(pairs: &[(&str, &str)]) {
    for (gold, prediction) in pairs {
        assert!(!is_equivalent(gold, prediction), "{gold}  !=  {prediction}");
    }
}
