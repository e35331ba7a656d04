//! `cargo fuzz run --features libfuzzer atlas_exchange`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = usercert_fuzz::atlas_exchange(data);
});
