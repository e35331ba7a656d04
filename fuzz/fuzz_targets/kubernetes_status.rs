//! `cargo fuzz run --features libfuzzer kubernetes_status`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = usercert_fuzz::kubernetes_status(data);
});
