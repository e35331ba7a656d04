//! `cargo fuzz run --features libfuzzer issuer`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| usercert_fuzz::issuer(data));
