//! `cargo fuzz run --features libfuzzer secret`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = usercert_fuzz::secret(data);
});
