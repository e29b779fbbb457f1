//! Parsing: any text is read or refused, and an answer that is read is judged against itself.
#![no_main]

use dapo_reward::{Gold, Profile, VerifyConfig};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let config = VerifyConfig { profile: Profile::whole(), ..VerifyConfig::default() };
    let gold = Gold::new(text, &config);
    if gold.is_parsable() {
        gold.verify(gold.text());
    }
});
