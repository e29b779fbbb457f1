#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dapo_fuzz::models::log_lines(data));
