#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidemark_broker::fuzzing::smf(input));
