#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dapo_fuzz::light::equivalence(data));
