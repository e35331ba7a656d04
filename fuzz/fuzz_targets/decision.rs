//! `cargo fuzz run --features libfuzzer decision`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = usercert_fuzz::decision(data);
});
