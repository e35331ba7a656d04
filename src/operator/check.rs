//! Asks a running operator whether it is well: the one thing that its image can do in a Pod of `helm test`, for it has no shell.

use std::time::Duration;

use clap::Args;
use tokio::time::{Instant, sleep};
use url::Url;

use super::arguments::Endpoint;

/// Between two requests.
const PAUSE: Duration = Duration::from_secs(1);
/// Time limit of one request.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);

/// What to ask, and for how long.
#[derive(Clone, Debug, Args)]
pub struct CheckArguments {
    /// The URL that has to answer with status 200, such as `http://usercert-operator.usercert-system.svc:8080/readyz`.
    #[arg(value_parser = Endpoint, value_name = "URL")]
    pub url: Url,
    /// For how many seconds to ask again while it does not.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600), value_name = "SECONDS")]
    pub timeout: u64,
}

/// Why the check has failed.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The HTTP client cannot be made.
    #[error("could not make the HTTP client")]
    Client(#[source] reqwest::Error),
    /// Nothing has answered, at the last try.
    #[error("no answer within {0} s: see that the operator's Pods are ready, and that a NetworkPolicy lets this one ask")]
    Unanswered(u64, #[source] reqwest::Error),
    /// The answer is another than 200, at the last try.
    #[error("the answer is {status} after {seconds} s: {line}")]
    Unwell {
        /// The HTTP status.
        status: reqwest::StatusCode,
        /// For how long was asked.
        seconds: u64,
        /// The first line of the answer.
        line: String,
    },
}

/// Asks until the answer is 200, and returns its first line. Redirections are not followed and proxies not used: what is asked is in the
/// cluster.
///
/// # Errors
/// [`CheckError`] is about the last try within the time limit.
pub async fn check(arguments: &CheckArguments) -> Result<String, CheckError> {
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).timeout(REQUEST_LIMIT);
    let client = client.build().map_err(CheckError::Client)?;
    let end = Instant::now() + Duration::from_secs(arguments.timeout);
    loop {
        let error = match ask(&client, &arguments.url).await {
            Ok((reqwest::StatusCode::OK, line)) => return Ok(line),
            Ok((status, line)) => CheckError::Unwell { status, seconds: arguments.timeout, line },
            Err(error) => CheckError::Unanswered(arguments.timeout, error),
        };
        if Instant::now() + PAUSE >= end {
            return Err(error);
        }
        sleep(PAUSE).await;
    }
}

/// The status of the answer and its first line. Of a long answer, such as `/metrics`, only the beginning is read.
async fn ask(client: &reqwest::Client, url: &Url) -> Result<(reqwest::StatusCode, String), reqwest::Error> {
    let mut response = client.get(url.clone()).send().await?;
    let beginning = response.chunk().await?.unwrap_or_default();
    let line = String::from_utf8_lossy(&beginning).lines().next().unwrap_or_default().to_owned();
    Ok((response.status(), line))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use axum::{Router, http::StatusCode, routing::get};
    use tokio::net::TcpListener;

    use super::*;

    /// Serves what an operator would that becomes ready with the second request.
    async fn start() -> Url {
        static ASKED: AtomicU32 = AtomicU32::new(0);
        let becoming = || async {
            let ready = ASKED.fetch_add(1, Ordering::SeqCst) > 0;
            (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, "ok: this process leads\nmore\n")
        };
        let never = || async { (StatusCode::SERVICE_UNAVAILABLE, "the caches are not filled yet\n") };
        let router = Router::new().route("/becoming", get(becoming)).route("/never", get(never));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    #[tokio::test]
    async fn it_asks_again_until_the_operator_is_well() {
        let url = start().await;
        let ask = |path: &str, timeout| CheckArguments { url: url.join(path).unwrap(), timeout };
        assert_eq!(check(&ask("becoming", 30)).await.unwrap(), "ok: this process leads");
        let unwell = check(&ask("never", 1)).await.unwrap_err().to_string();
        assert_eq!(unwell, "the answer is 503 Service Unavailable after 1 s: the caches are not filled yet");
    }

    #[tokio::test]
    async fn it_fails_where_nothing_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/readyz", listener.local_addr().unwrap()).parse().unwrap();
        drop(listener);
        let error = check(&CheckArguments { url, timeout: 1 }).await.unwrap_err();
        assert!(matches!(error, CheckError::Unanswered(1, _)), "{error}");
    }
}
