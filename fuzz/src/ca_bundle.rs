//! The file with CA certificates to trust for Atlas.

use std::time::Duration;

use usercert_operator::{controller::chain, issuer::atlas::AtlasClient};

use crate::{
    Outcome,
    oracle::{assert_keeps_secret, assert_readable},
};

/// The content of the file. By mistake it may be one with a private key.
pub fn ca_bundle(data: &[u8]) -> Outcome {
    match AtlasClient::new(Duration::from_secs(5), Some(data)) {
        Ok(client) => assert_keeps_secret(&format!("{client:?}"), data),
        Err(error) => {
            let said = chain(&error);
            assert_readable(&said);
            let said = format!("{said} {error:?}");
            assert!(!said.contains("-----BEGIN"), "{said}");
            assert_keeps_secret(&said, data);
        }
    }
    Outcome::Read
}
