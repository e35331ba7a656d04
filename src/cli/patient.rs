//! Requests that the API server puts off: it has too many, and says when to come again.

use std::time::Duration;

use http::{HeaderMap, Request, Response, StatusCode, header::RETRY_AFTER};
use kube::{Client, client::Body};
use tokio::time::Instant;
use tower::service_fn;

/// How often one request is put off at most, as for kubectl.
const MOST: u32 = 10;

/// A client that sends a request again when the API server says that it has too many (429 with `Retry-After`, as priority and fairness have
/// it). Nothing of such a request was done. `limit`: how long one request may take with all that it waits.
pub(crate) fn patient(client: Client, limit: Duration) -> Client {
    let namespace = client.default_namespace().to_owned();
    Client::new(service_fn(move |request| send(client.clone(), request, limit)), namespace)
}

async fn send(client: Client, mut request: Request<Body>, limit: Duration) -> Result<Response<Body>, kube::Error> {
    let (began, mut waits) = (Instant::now(), 0);
    loop {
        let again = copy(&request);
        let response = client.send(request).await?;
        let left = limit.saturating_sub(began.elapsed());
        let pause = pause(response.status(), response.headers(), left).filter(|_| waits < MOST);
        let Some((again, pause)) = again.zip(pause) else { return Ok(response) };
        tokio::time::sleep(pause).await;
        request = again;
        waits += 1;
    }
}

/// How long to wait before the request is sent again; `None` if the answer stands. A wait that is longer than the time that is left makes the
/// answer stand, for it says that nothing was done, and the end of the time would not.
fn pause(status: StatusCode, headers: &HeaderMap, left: Duration) -> Option<Duration> {
    let seconds = || headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok();
    let pause = if status == StatusCode::TOO_MANY_REQUESTS { seconds().map(Duration::from_secs) } else { None };
    pause.filter(|pause| *pause < left)
}

/// The same request once more; `None` if its body is a stream.
fn copy(request: &Request<Body>) -> Option<Request<Body>> {
    let mut copy = Request::new(request.body().try_clone()?);
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    copy.headers_mut().clone_from(request.headers());
    copy.extensions_mut().clone_from(request.extensions());
    Some(copy)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_request_that_is_put_off_waits_within_its_time() {
        let of = |status, after: Option<&'static str>, left| {
            let headers = after.map(|after| (RETRY_AFTER, HeaderValue::from_static(after))).into_iter().collect();
            pause(status, &headers, Duration::from_secs(left))
        };
        assert_eq!(of(StatusCode::TOO_MANY_REQUESTS, Some("2"), 20), Some(Duration::from_secs(2)));
        for (status, after, left) in [
            (StatusCode::TOO_MANY_REQUESTS, Some("20"), 20),
            (StatusCode::TOO_MANY_REQUESTS, Some("soon"), 20),
            (StatusCode::TOO_MANY_REQUESTS, None, 20),
            // Something may have been done.
            (StatusCode::SERVICE_UNAVAILABLE, Some("2"), 20),
            (StatusCode::OK, Some("2"), 20),
        ] {
            assert_eq!(of(status, after, left), None, "{status} {after:?}");
        }
    }
}
