//! `cargo fuzz run --features libfuzzer atlas_answer`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = usercert_fuzz::atlas_answer(data);
});
