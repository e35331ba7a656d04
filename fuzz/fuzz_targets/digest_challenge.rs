//! `cargo fuzz run --features libfuzzer digest_challenge`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = usercert_fuzz::digest_challenge(data);
});
