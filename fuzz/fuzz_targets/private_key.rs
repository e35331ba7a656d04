//! `cargo fuzz run --features libfuzzer private_key`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = usercert_fuzz::private_key(data);
});
