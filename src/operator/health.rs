//! HTTP: `/livez` says that the process runs, `/readyz` that its caches are filled or that it stands by, and who leads; `/metrics` counts.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::net::TcpListener;

use super::{Leadership, Metrics};

/// Whether every set of controllers has its caches filled.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<AtomicUsize>);

impl Readiness {
    /// Not ready until [`Readiness::set_ready`] was called this many times.
    #[must_use]
    pub fn awaiting(scopes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(scopes)))
    }

    /// One more set of controllers is ready.
    pub fn set_ready(&self) {
        // A failed update means that nothing is awaited any more.
        let _ = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |awaited| awaited.checked_sub(1));
    }

    /// Whether all are.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::SeqCst) == 0
    }
}

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
        .with_state((readiness, leadership.clone()))
        .route("/metrics", get(move || async move { exposition(&metrics, &leadership) }));
    axum::serve(TcpListener::bind(address).await?, router).with_graceful_shutdown(stop).await
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

fn exposition(metrics: &Metrics, leadership: &Leadership) -> impl IntoResponse + use<> {
    metrics.leadership(leadership);
    match metrics.encode() {
        Ok(text) => {
            let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            (StatusCode::OK, [(header::CONTENT_TYPE, media_type)], text)
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "text/plain")], error.to_string()),
    }
}
