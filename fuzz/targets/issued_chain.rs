#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dps_operator::fuzz::issued_chain(data));
