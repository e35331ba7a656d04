//! An admission webhook that denies every request with the code that its path ends in.

use std::{convert::Infallible, net::SocketAddr};

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
}

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
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    // An error here is a connection that the API server ended.
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(deny)).await;
                });
            }
        });
        Ok(Self { address, tls })
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

async fn deny(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let code: u16 = request.uri().path().trim_start_matches('/').parse().unwrap_or(403);
    let body = to_bytes(Body::new(request.into_body()), 1 << 22).await.unwrap_or_default();
    let review: Value = serde_json::from_slice(&body).unwrap_or_default();
    let answer = json!({
        "apiVersion": review["apiVersion"], "kind": review["kind"],
        "response": {
            "uid": review["request"]["uid"], "allowed": false, "status": { "code": code, "message": DENIAL },
        },
    });
    Ok(Response::builder().header("Content-Type", "application/json").body(Body::from(answer.to_string())).unwrap_or_default())
}
