//! `cargo fuzz run --features libfuzzer duration`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = usercert_fuzz::duration(data);
});
