//! TLS for the stand-in, with a CA of its own that no system trusts.

use std::sync::Arc;

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio_rustls::TlsAcceptor;

/// A CA and a certificate for `127.0.0.1` and `localhost` from it.
#[derive(Clone)]
pub struct TlsFiles(Arc<Files>);

struct Files {
    ca_pem: String,
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl TlsFiles {
    /// New ones.
    ///
    /// # Errors
    /// The keys cannot be made.
    pub fn new() -> Result<Self> {
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let ca_key = KeyPair::generate()?;
        let ca_pem = ca.self_signed(&ca_key)?.pem();
        let key = KeyPair::generate()?;
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned(), "atlas.test".to_owned()];
        let certificate = CertificateParams::new(names)?.signed_by(&key, &Issuer::from_params(&ca, &ca_key))?;
        Ok(Self(Arc::new(Files { ca_pem, certificate: certificate.der().clone(), key: key.serialize_der() })))
    }

    /// PEM of the CA.
    #[must_use]
    pub fn ca_certificate(&self) -> String {
        self.0.ca_pem.clone()
    }

    /// For a server that shows this certificate.
    ///
    /// # Errors
    /// The key cannot be used.
    pub fn acceptor(&self) -> Result<TlsAcceptor> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.0.key.clone()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![self.0.certificate.clone()], key)?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}
