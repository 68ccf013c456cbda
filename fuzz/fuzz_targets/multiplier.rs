#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| align_check_tests::differential::multiplier(bytes));
