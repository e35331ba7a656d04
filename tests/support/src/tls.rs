//! TLS for the servers of the tests, with a CA of its own that no system trusts.

use std::sync::Arc;

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::{NoClientAuth, danger::ClientCertVerifier},
    time_provider::{DefaultTimeProvider, TimeProvider},
};
use tokio_rustls::TlsAcceptor;

/// A CA and a server's certificate from it.
#[derive(Clone)]
pub struct TlsFiles(Arc<Files>);

struct Files {
    ca_pem: String,
    certificate_pem: String,
    certificate: CertificateDer<'static>,
    key_pem: String,
    key: Vec<u8>,
}

impl TlsFiles {
    /// New ones for `127.0.0.1` and `localhost`.
    ///
    /// # Errors
    /// The keys cannot be made.
    pub fn new() -> Result<Self> {
        Self::for_names(["127.0.0.1", "localhost", "atlas.test"].map(ToOwned::to_owned).to_vec())
    }

    /// New ones for these names and addresses.
    ///
    /// # Errors
    /// A name cannot be in a certificate, or the keys cannot be made.
    pub fn for_names(names: Vec<String>) -> Result<Self> {
        let mut ca = CertificateParams::default();
        ca.distinguished_name.push(DnType::CommonName, "CA of the test's server");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let ca_key = KeyPair::generate()?;
        let ca_pem = ca.self_signed(&ca_key)?.pem();
        let key = KeyPair::generate()?;
        let mut server = CertificateParams::new(names)?;
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        server.use_authority_key_identifier_extension = true;
        let certificate = server.signed_by(&key, &Issuer::from_params(&ca, &ca_key))?;
        Ok(Self(Arc::new(Files {
            ca_pem,
            certificate_pem: certificate.pem(),
            certificate: certificate.der().clone(),
            key_pem: key.serialize_pem(),
            key: key.serialize_der(),
        })))
    }

    /// PEM of the CA.
    #[must_use]
    pub fn ca_certificate(&self) -> String {
        self.0.ca_pem.clone()
    }

    /// PEM of the server's certificate.
    #[must_use]
    pub fn certificate(&self) -> String {
        self.0.certificate_pem.clone()
    }

    /// PEM of the server's key, PKCS#8.
    #[must_use]
    pub fn key(&self) -> String {
        self.0.key_pem.clone()
    }

    /// For a server that shows this certificate and asks for none.
    ///
    /// # Errors
    /// The key cannot be used.
    pub fn acceptor(&self) -> Result<TlsAcceptor> {
        self.acceptor_for(Arc::new(NoClientAuth), Arc::new(DefaultTimeProvider))
    }

    /// For a server that has the clients' certificates verified, by the time that is given.
    ///
    /// # Errors
    /// The key cannot be used.
    pub fn acceptor_for(&self, verifier: Arc<dyn ClientCertVerifier>, clock: Arc<dyn TimeProvider>) -> Result<TlsAcceptor> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.0.key.clone()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_details(provider, clock)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![self.0.certificate.clone()], key)?;
        // Without resumption each connection shows the certificate that its client has now.
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}
