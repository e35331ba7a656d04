//! The HTTP endpoints of the process.
//!
//! | Path | Answer |
//! | --- | --- |
//! | `/livez` | 200 while the process runs |
//! | `/readyz` | 200 while this process leads and its caches are filled, or stands by and knows who leads |
//! | `/metrics` | the metrics in the OpenMetrics format |
//!
//! The body of `/readyz` says who leads.

use std::{
    future::Future,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::net::TcpListener;

use crate::runtime::{Leadership, Metrics, Readiness};

/// Serves until `stop` is ready.
///
/// # Errors
/// The address cannot be listened on.
pub async fn serve(
    address: SocketAddr,
    readiness: Readiness,
    leadership: Leadership,
    metrics: Arc<Metrics>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(readyz))
        .with_state((readiness, leadership))
        .route("/metrics", get(move || async move { exposition(&metrics) }));
    axum::serve(listen(address).await?, router).with_graceful_shutdown(stop).await
}

/// Listens on the address. If it means all addresses of IPv6 and the machine has no IPv6, listens on all addresses of IPv4.
async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    match (TcpListener::bind(address).await, without_ipv6(address)) {
        (Err(error), Some(of_ipv4)) if is_without_ipv6(&error) => TcpListener::bind(of_ipv4).await,
        (result, _) => result,
    }
}

/// All addresses of IPv4, if `address` means all of IPv6. On Linux those of IPv6 include those of IPv4 (`IPV6_V6ONLY` in
/// ipv6(7)).
fn without_ipv6(address: SocketAddr) -> Option<SocketAddr> {
    (address.ip() == Ipv6Addr::UNSPECIFIED).then(|| (Ipv4Addr::UNSPECIFIED, address.port()).into())
}

/// Whether the kernel has no IPv6 (`EAFNOSUPPORT`), or IPv6 is switched off (`EADDRNOTAVAIL`).
fn is_without_ipv6(error: &std::io::Error) -> bool {
    const NO_SUCH_FAMILY: i32 = 97;
    error.kind() == std::io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(NO_SUCH_FAMILY)
}

async fn readyz(State((readiness, leadership)): State<(Readiness, Leadership)>) -> (StatusCode, String) {
    match (leadership.leads(), leadership.holder()) {
        (true, _) if !readiness.is_ready() => {
            (StatusCode::SERVICE_UNAVAILABLE, "the caches are not filled yet: see the log for watches that fail\n".to_owned())
        }
        (true, holder) => {
            (StatusCode::OK, holder.map_or("ok\n".to_owned(), |holder| format!("ok: this process leads as {holder}\n")))
        }
        (false, Some(holder)) => (StatusCode::OK, format!("ok: standing by, {holder} leads\n")),
        (false, None) => (StatusCode::SERVICE_UNAVAILABLE, "it is not known who leads: see the log for the Lease\n".to_owned()),
    }
}

fn exposition(metrics: &Metrics) -> impl IntoResponse + use<> {
    match metrics.encode() {
        Ok(text) => {
            let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            (StatusCode::OK, [(header::CONTENT_TYPE, media_type)], text)
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "text/plain")], error.to_string()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_of_ipv4_stand_in_for_those_of_ipv6_and_no_other_address_does() {
        let of = |address: &str| without_ipv6(address.parse().unwrap()).map(|address| address.to_string());
        assert_eq!(of("[::]:8080").as_deref(), Some("0.0.0.0:8080"));
        for fixed in ["[::1]:8080", "0.0.0.0:8080", "127.0.0.1:8080"] {
            assert_eq!(of(fixed), None, "{fixed}");
        }
        assert!(
            is_without_ipv6(&std::io::Error::from_raw_os_error(97)) && is_without_ipv6(&std::io::Error::from_raw_os_error(99))
        );
        assert!(!is_without_ipv6(&std::io::Error::from_raw_os_error(98)), "the port is taken");
    }

    #[tokio::test]
    async fn whoever_asks_by_ipv4_is_answered_too() {
        let listener = listen("[::]:0".parse().unwrap()).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    }
}
