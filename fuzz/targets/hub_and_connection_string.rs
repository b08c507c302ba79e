#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dps_operator::fuzz::hub_and_connection_string(data));
