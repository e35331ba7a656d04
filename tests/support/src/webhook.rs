//! An admission webhook that denies every request with the code that its path ends in.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;
use axum::{
    body::{Body, to_bytes},
    http::{Request, Response},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::tls::TlsFiles;

/// What a denial says.
pub const DENIAL: &str = "not on my watch";

/// A webhook on loopback, until the runtime ends.
pub struct DenyingWebhook {
    address: SocketAddr,
    tls: TlsFiles,
    asked: Asked,
}

/// Namespace and name of each object that it was asked about.
type Asked = Arc<Mutex<Vec<(String, String)>>>;

impl DenyingWebhook {
    /// Starts one.
    ///
    /// # Errors
    /// There is no free port, or no key can be made.
    pub async fn start() -> Result<Self> {
        let tls = TlsFiles::new()?;
        let acceptor = tls.acceptor()?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let asked = Asked::default();
        let noted = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, noted) = (acceptor.clone(), Arc::clone(&noted));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    // An error here is a connection that the API server ended.
                    let _ = http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service_fn(|request| deny(request, Arc::clone(&noted))))
                        .await;
                });
            }
        });
        Ok(Self { address, tls, asked })
    }

    /// How often it was asked about this object.
    #[must_use]
    pub fn asked(&self, namespace: &str, name: &str) -> usize {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().filter(|(of, about)| of == namespace && about == name).count()
    }

    /// The URL under which requests are denied with this code.
    #[must_use]
    pub fn url(&self, code: u16) -> String {
        format!("https://{}/{code}", self.address)
    }

    /// PEM of the CA that vouches for it.
    #[must_use]
    pub fn ca_certificate(&self) -> String {
        self.tls.ca_certificate()
    }
}

async fn deny(request: Request<Incoming>, asked: Asked) -> Result<Response<Body>, Infallible> {
    let code: u16 = request.uri().path().trim_start_matches('/').parse().unwrap_or(403);
    let body = to_bytes(Body::new(request.into_body()), 1 << 22).await.unwrap_or_default();
    let review: Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = |field: &str| review["request"][field].as_str().unwrap_or_default().to_owned();
    asked.lock().unwrap_or_else(PoisonError::into_inner).push((text("namespace"), text("name")));
    let answer = json!({
        "apiVersion": review["apiVersion"], "kind": review["kind"],
        "response": {
            "uid": review["request"]["uid"], "allowed": false, "status": { "code": code, "message": DENIAL },
        },
    });
    Ok(Response::builder().header("Content-Type", "application/json").body(Body::from(answer.to_string())).unwrap_or_default())
}
