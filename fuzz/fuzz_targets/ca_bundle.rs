//! `cargo fuzz run --features libfuzzer ca_bundle`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = usercert_fuzz::ca_bundle(data);
});
