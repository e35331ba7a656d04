//! `/metrics`: the metrics in the OpenMetrics format.
//!
//! # Guarantees
//!
//! - No more than [`AT_ONCE`] scrapes are under way, [`AT_ONCE_OF_ONE`] of them for one address. With ten thousand certificates each holds
//!   megabytes until its reader has taken them, and a process that is killed for its memory loses what is in memory alone.
//! - A reader that has not taken all of it after [`LIMIT`] gets no more: it keeps no other from scraping.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use super::places::{Place, Places};
use crate::runtime::Metrics;
use axum::{
    Router,
    body::{Body, Bytes},
    extract::ConnectInfo,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use futures::{SinkExt, channel::mpsc};

/// How many may scrape at once: some Prometheus servers, and some who look.
const AT_ONCE: usize = 8;

/// How many of them may be for one address: who reads slowly keeps no other from scraping. Behind a mesh or a proxy all have one address.
const AT_ONCE_OF_ONE: usize = 4;

/// How long one scrape may take. Prometheus gives up after ten seconds by default.
const LIMIT: Duration = Duration::from_secs(30);

/// In pieces of so many bytes the text is handed out, each a copy. So a connection that stays open holds one of them, not the whole text.
const PIECE: usize = 16 * 1024;

/// `/metrics` alone.
pub(super) fn metrics_router(metrics: Arc<Metrics>) -> Router {
    let places = Places::new(AT_ONCE, AT_ONCE_OF_ONE);
    let scrape = async move |ConnectInfo(client): ConnectInfo<SocketAddr>| exposition(&metrics, &places, client.ip());
    Router::new().route("/metrics", get(scrape))
}

fn exposition(metrics: &Metrics, places: &Places, client: IpAddr) -> Response {
    let Some(place) = places.take(client) else {
        let message = "too many scrapes are under way: ask again later\n";
        return (StatusCode::SERVICE_UNAVAILABLE, message).into_response();
    };
    match metrics.encode() {
        Ok(text) => {
            let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, media_type)], body(text, place)).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// The text as its reader takes it. The place is free when all of it was taken, the reader is gone, or its time is over.
fn body(text: String, place: Place) -> Body {
    let (mut sender, pieces) = mpsc::channel::<Result<Bytes, Infallible>>(0);
    tokio::spawn(async move {
        let _place = place;
        let hand_out = async {
            for piece in text.as_bytes().chunks(PIECE) {
                if sender.send(Ok(Bytes::copy_from_slice(piece))).await.is_err() {
                    return;
                }
            }
        };
        // The text then lacks its end (`# EOF`), so that nobody takes it for whole.
        let _ = tokio::time::timeout(LIMIT, hand_out).await;
    });
    Body::from_stream(pieces)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    async fn text_of(answer: Response) -> String {
        assert_eq!(answer.status(), StatusCode::OK);
        String::from_utf8(axum::body::to_bytes(answer.into_body(), 10_000_000).await.unwrap().to_vec()).unwrap()
    }

    /// Metrics whose text is several pieces.
    fn long() -> (Metrics, Places) {
        let metrics = Metrics::default();
        assert!(metrics.encode().unwrap().len() > 2 * PIECE);
        (metrics, Places::new(AT_ONCE, AT_ONCE_OF_ONE))
    }

    /// A client that has the address with this end.
    fn client(last: usize) -> IpAddr {
        [10, 0, 0, u8::try_from(last).unwrap()].into()
    }

    #[tokio::test(start_paused = true)]
    async fn few_scrape_at_once_and_each_gets_all_of_it() {
        let (metrics, places) = long();
        let mut answers: Vec<_> = (0..AT_ONCE).map(|number| exposition(&metrics, &places, client(number))).collect();
        let refused = exposition(&metrics, &places, client(9));
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(text_of(answers.pop().unwrap()).await.ends_with("# EOF\n"));
        tokio::task::yield_now().await;
        assert!(text_of(exposition(&metrics, &places, client(9))).await.ends_with("# EOF\n"), "a place is free");
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_slowly_keeps_no_other_from_scraping() {
        let (metrics, places) = long();
        let slow: Vec<_> = (0..6).map(|_| exposition(&metrics, &places, client(1)).status().as_u16()).collect();
        assert_eq!(slow, [200, 200, 200, 200, 503, 503]);
        assert!(text_of(exposition(&metrics, &places, client(2))).await.ends_with("# EOF\n"));
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_or_goes_away_keeps_no_place() {
        let (metrics, places) = long();
        let mut idle: Vec<_> = (0..AT_ONCE).map(|number| exposition(&metrics, &places, client(number))).collect();
        drop(idle.pop());
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(places.count(), AT_ONCE - 1, "one is gone");
        tokio::time::sleep(LIMIT).await;
        assert_eq!(places.count(), 0);
        assert!(!text_of(idle.pop().unwrap()).await.contains("# EOF"));
    }
}
