#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hostport_hook::fuzzing::list(data));
