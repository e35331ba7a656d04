//! `cargo fuzz run --features libfuzzer certificate_pair`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = usercert_fuzz::certificate_pair(data);
});
