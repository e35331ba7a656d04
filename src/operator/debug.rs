//! What an administrator may change while the process runs: the level of its log lines.
//!
//! It is served on a loopback address alone, so whoever changes it has the right to forward ports to the Pod, or is in it. A container without
//! a shell needs no more. The Lease names the Pod that leads, and the others log little:
//!
//! ```sh
//! leader=$(kubectl --namespace usercert-system get lease usercert-operator --output jsonpath={.spec.holderIdentity} | cut -d_ -f1)
//! kubectl --namespace usercert-system port-forward "pod/$leader" 8081
//! curl --request PUT --data debug http://localhost:8081/debug/log-level
//! curl --request DELETE http://localhost:8081/debug/log-level   # as RUST_LOG has it
//! ```
//!
//! What was set ends with the process.

use std::net::SocketAddr;

use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    http::StatusCode,
    routing::get,
};
use tracing::{Level, warn};

use super::{connections::serve_plain, logging::LogLevel};

/// Longer than any level.
const MOST_BYTES: usize = 64;

/// Serves for ever. If the address is taken, as on a Pod with the node's network it may be, the operator works without it.
pub(super) async fn serve_debug(address: SocketAddr, level: LogLevel) {
    let served = async { serve_plain(tokio::net::TcpListener::bind(address).await?, router(level)).await };
    if let Err(error) = served.await {
        warn!(%address, %error, "the log level cannot be changed while this process runs: choose another --debug-address");
    }
}

fn router(level: LogLevel) -> Router {
    Router::new()
        .route("/debug/log-level", get(tell).put(change).delete(reset))
        .layer(DefaultBodyLimit::max(MOST_BYTES))
        .with_state(level)
}

async fn tell(State(level): State<LogLevel>) -> String {
    format!("{}\n", level.label())
}

async fn change(State(level): State<LogLevel>, wanted: String) -> (StatusCode, String) {
    match wanted.trim().parse::<Level>() {
        Ok(wanted) => set(&level, Some(wanted)),
        Err(_) => (StatusCode::BAD_REQUEST, "give error, warn, info, debug or trace\n".to_owned()),
    }
}

async fn reset(State(level): State<LogLevel>) -> (StatusCode, String) {
    set(&level, None)
}

fn set(level: &LogLevel, wanted: Option<Level>) -> (StatusCode, String) {
    match level.set(wanted) {
        Ok(()) => (StatusCode::OK, format!("{}\n", level.label())),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}
