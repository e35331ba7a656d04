//! `cargo fuzz run --features libfuzzer subject`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = usercert_fuzz::subject(data);
});
