//! `cargo fuzz run --features libfuzzer lease`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = usercert_fuzz::lease(data);
});
