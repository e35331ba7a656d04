//! `cargo fuzz run --features libfuzzer arguments`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = usercert_fuzz::arguments(data);
});
