//! `cargo fuzz run --features libfuzzer digest_challenge`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| usercert_fuzz::digest_challenge(data));
