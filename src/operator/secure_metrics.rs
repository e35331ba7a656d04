//! `/metrics` by HTTPS, for those alone whom the API server lets get it.
//!
//! # Guarantees
//!
//! - Nothing is told of the metrics before the API server has said who asks, and that whoever it is may do so ([`Reviewer`]).
//! - Only HTTP/1.1 is spoken, as controller-runtime does it: with HTTP/2 a few bytes of a client make much work.
//!
//! # Errors
//!
//! - A certificate that cannot be used at the start is an error. One that cannot be used later is logged, and the former one stays in use.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{ConnectInfo, Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
};
use tokio::net::TcpListener;
use tracing::{info, warn};

use super::{
    connections::{PATIENCE, server, with_address},
    review::{Answer, Reviewer},
};
use crate::controller::chain;

/// How often the files of the certificate are looked at.
const REREAD: Duration = Duration::from_secs(10);

/// Why HTTPS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum SecureMetricsError {
    /// A file cannot be read.
    #[error("could not read {file}: correct --metrics-cert-file and --metrics-key-file", file = .file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file holds no certificate or no key.
    #[error("could not read the PEM of --metrics-cert-file and --metrics-key-file")]
    Pem(#[source] rustls::pki_types::pem::Error),
    /// Certificate and key cannot be used.
    #[error("could not use the certificate of --metrics-cert-file with the key of --metrics-key-file")]
    Certificate(#[source] rustls::Error),
    /// No certificate could be made.
    #[error("could not make a certificate for metrics: give --metrics-cert-file and --metrics-key-file")]
    Make(#[source] rcgen::Error),
    /// The address cannot be listened on.
    #[error("could not serve metrics: choose another --metrics-secure-address")]
    Listen(#[source] io::Error),
}

/// The files of the certificate.
#[derive(Clone, Debug)]
pub(super) struct Files {
    /// The certificate, and those that lead to its root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What the files hold. Two are equal if nothing has changed.
#[derive(PartialEq)]
struct Content {
    certificate: Vec<u8>,
    key: zeroize::Zeroizing<Vec<u8>>,
}

impl Files {
    fn read(&self) -> Result<Content, SecureMetricsError> {
        let read =
            |file: &PathBuf| std::fs::read(file).map_err(|source| SecureMetricsError::File { file: file.clone(), source });
        Ok(Content { certificate: read(&self.certificate)?, key: read(&self.key)?.into() })
    }
}

impl Content {
    fn config(&self) -> Result<ServerConfig, SecureMetricsError> {
        let chain = CertificateDer::pem_slice_iter(&self.certificate).collect::<Result<_, _>>();
        let key = PrivateKeyDer::from_pem_slice(&self.key);
        server_config(chain.map_err(SecureMetricsError::Pem)?, key.map_err(SecureMetricsError::Pem)?)
    }
}

fn server_config(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<ServerConfig, SecureMetricsError> {
    let mut config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).map_err(SecureMetricsError::Certificate)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// A certificate that nobody can verify: what is sent is hidden from those who listen only.
fn self_signed() -> Result<ServerConfig, SecureMetricsError> {
    let names = ["usercert-operator".to_owned(), "localhost".to_owned()];
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(names).map_err(SecureMetricsError::Make)?;
    server_config(vec![cert.der().clone()], PrivatePkcs8KeyDer::from(signing_key.serialize_der()).into())
}

/// Serves `router` for ever to those whom `reviewer` lets in.
///
/// # Errors
/// There is no certificate, or the connection with the listener is lost.
pub(super) async fn serve_secure(
    listener: TcpListener,
    files: Option<Files>,
    router: Router,
    reviewer: Reviewer,
) -> Result<(), SecureMetricsError> {
    let content = files.as_ref().map(Files::read).transpose()?;
    let config = content.as_ref().map_or_else(self_signed, Content::config)?;
    let config = RustlsConfig::from_config(Arc::new(config));
    let router = router.layer(middleware::from_fn_with_state(Arc::new(reviewer), admit));
    let tls = RustlsAcceptor::new(config.clone()).handshake_timeout(PATIENCE);
    let server = server(listener).map_err(SecureMetricsError::Listen)?.map(|doorkeeper| tls.acceptor(doorkeeper));
    let serving = server.serve(with_address(router));
    tokio::select! {
        result = serving => result.map_err(SecureMetricsError::Listen),
        () = follow(files.zip(content), config) => Ok(()),
    }
}

/// Reads the files again and again, and takes what has changed into use.
async fn follow(files: Option<(Files, Content)>, config: RustlsConfig) {
    let Some((files, mut in_use)) = files else { return std::future::pending().await };
    loop {
        tokio::time::sleep(REREAD).await;
        let changed = files.read().map(|content| (content != in_use).then_some(content));
        let taken = changed.and_then(|content| content.map(|content| content.config().map(|new| (content, new))).transpose());
        match taken {
            Ok(None) => {}
            Ok(Some((content, new))) => {
                in_use = content;
                config.reload_from_config(Arc::new(new));
                info!("the certificate for metrics has changed, and the new one is used");
            }
            Err(error) => {
                warn!(error = chain(&error), "the certificate for metrics cannot be read again: the former one is used");
            }
        }
    }
}

/// Lets a request through if the API server says so.
async fn admit(
    State(reviewer): State<Arc<Reviewer>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let authorization = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let verb = request.method().as_str().to_lowercase();
    match reviewer.review(client.ip(), authorization, &verb, request.uri().path()).await {
        Answer::Admitted => next.run(request).await,
        Answer::Unauthenticated => {
            let challenge = [(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))];
            (StatusCode::UNAUTHORIZED, challenge, "a token of this cluster is needed\n").into_response()
        }
        Answer::Forbidden(user) => {
            (StatusCode::FORBIDDEN, format!("{user} has no right to {verb} {}\n", request.uri().path())).into_response()
        }
        Answer::TooMany => {
            (StatusCode::TOO_MANY_REQUESTS, "too many tokens were shown that are not known: ask again later\n").into_response()
        }
        Answer::Unknown => {
            (StatusCode::SERVICE_UNAVAILABLE, "it cannot be found out now who asks: see the operator's log\n").into_response()
        }
    }
}
