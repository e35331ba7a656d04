//! The HTTP endpoints of the process.
//!
//! | Path | Answer |
//! | --- | --- |
//! | `/livez` | 200 while the loops of this process move |
//! | `/readyz` | 200 while this process leads and its caches are filled, or stands by and knows who leads |
//! | `/metrics` | the metrics in the OpenMetrics format, unless they are served by HTTPS |
//!
//! Each of the first two names what it waits for. With `?verbose` it names all that it looks at, in the form of Kubernetes' own components. The
//! body of `/readyz` says who leads.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use axum::{
    Router,
    extract::{RawQuery, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;
use usercert_operator_core::text::count as count_of;

use super::{connections::serve_plain, exposition::metrics_router};
use crate::runtime::{Check, HELD_BACK, Leadership, Liveness, Metrics, Readiness, Verdict};

/// What health tells of.
#[derive(Clone)]
pub struct Health {
    /// Whether the loops move.
    pub liveness: Liveness,
    /// Whether the watches have listed.
    pub readiness: Readiness,
    /// Who leads.
    pub leadership: Leadership,
}

/// Serves for ever. `metrics` are served too if they are given.
///
/// # Errors
/// The address cannot be listened on.
pub async fn serve(address: SocketAddr, health: Health, metrics: Option<Arc<Metrics>>) -> std::io::Result<()> {
    let router = Router::new().route("/livez", get(livez)).route("/readyz", get(readyz)).with_state(health);
    let router = match metrics {
        Some(metrics) => router.merge(metrics_router(metrics)),
        None => router,
    };
    serve_plain(listen(address).await?, router).await
}

/// Listens on the address. If it means all addresses of IPv6 and the machine has no IPv6, listens on all addresses of IPv4.
pub(super) async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
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

/// Whether `?verbose` was asked for, with or without a value.
fn is_verbose(query: Option<&str>) -> bool {
    query.unwrap_or_default().split('&').any(|pair| pair.split('=').next() == Some("verbose"))
}

/// An answer with a line for each check if that is asked for, or if one has failed.
fn answer(title: &str, is_well: bool, sentence: &str, checks: &[Check], is_verbose: bool) -> Response {
    let (code, outcome) = if is_well { (StatusCode::OK, "passed") } else { (StatusCode::SERVICE_UNAVAILABLE, "failed") };
    let body = if is_verbose || !is_well {
        format!("{}{sentence}\n{title} check {outcome}\n", Check::lines(checks))
    } else {
        format!("{sentence}\n")
    };
    (code, body).into_response()
}

async fn livez(State(health): State<Health>, RawQuery(query): RawQuery) -> Response {
    let pulse = health.liveness.look();
    let (is_well, sentence) = match pulse.verdict {
        Verdict::Alive => (true, "ok".to_owned()),
        Verdict::Restart => (false, "a loop stands still: this process has to be started anew".to_owned()),
        Verdict::HeldBack(count) => (
            true,
            format!(
                "ok for {} minutes: a loop stands still, and a restart would lose {} which no Secret has yet",
                HELD_BACK.as_secs() / 60,
                count_of(count, "certificate")
            ),
        ),
    };
    let shows_all = is_verbose(query.as_deref()) || pulse.verdict != Verdict::Alive;
    answer("livez", is_well, &sentence, &pulse.checks, shows_all)
}

async fn readyz(State(health): State<Health>, RawQuery(query): RawQuery) -> Response {
    let lead = lead(&health.leadership);
    // A standby begins its watches when it leads.
    let mut checks = if health.leadership.leads() { health.readiness.checks() } else { Vec::new() };
    checks.push(lead.clone());
    let is_well = checks.iter().all(Check::is_passed);
    let sentence = match &lead.state {
        _ if is_well && lead.state.as_ref().is_ok_and(String::is_empty) => "ok".to_owned(),
        Ok(lead) if is_well => format!("ok: {lead}"),
        Ok(_) => "the caches are not filled yet: see the log for watches that fail".to_owned(),
        Err(why) => why.clone(),
    };
    answer("readyz", is_well, &sentence, &checks, is_verbose(query.as_deref()))
}

fn lead(leadership: &Leadership) -> Check {
    match (leadership.leads(), leadership.holder()) {
        (true, None) => Check::passed("lead", ""),
        (true, Some(holder)) => Check::passed("lead", format!("this process leads as {holder}")),
        (false, Some(holder)) => Check::passed("lead", format!("standing by, {holder} leads")),
        (false, None) => Check::failed("lead", "it is not known who leads: see the log for the Lease"),
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

    async fn read(answer: Response) -> (u16, String) {
        let code = answer.status().as_u16();
        let body = axum::body::to_bytes(answer.into_body(), 10_000).await.unwrap();
        (code, String::from_utf8(body.to_vec()).unwrap())
    }

    fn health(readiness: Readiness, leadership: Leadership) -> Health {
        Health { liveness: Liveness::default(), readiness, leadership }
    }

    #[tokio::test]
    async fn readiness_names_what_it_waits_for_and_with_verbose_all_that_it_looks_at() {
        let health = health(Readiness::awaiting(1), Leadership::alone(None));
        health.readiness.expect("watch/secrets");
        let ask = async |query: Option<&str>| read(readyz(State(health.clone()), RawQuery(query.map(Into::into))).await).await;
        let waiting = "[-]watch/secrets failed: its first list has not come\n[-]caches failed: not filled yet\n[+]lead ok\n\
                       the caches are not filled yet: see the log for watches that fail\nreadyz check failed\n";
        assert_eq!(ask(None).await, (503, waiting.to_owned()));
        health.readiness.listed("watch/secrets");
        health.readiness.set_ready();
        assert_eq!(ask(None).await, (200, "ok\n".to_owned()));
        let all = "[+]watch/secrets ok\n[+]caches ok\n[+]lead ok\nok\nreadyz check passed\n";
        for query in ["verbose", "verbose=true", "a=b&verbose"] {
            assert_eq!(ask(Some(query)).await, (200, all.to_owned()), "{query}");
        }
        assert_eq!(ask(Some("verbosely")).await, (200, "ok\n".to_owned()));
    }

    #[tokio::test]
    async fn a_standby_is_ready_once_it_knows_who_leads_and_waits_for_no_watch() {
        let (leadership, teller) = Leadership::standing_by();
        let health = health(Readiness::awaiting(1), leadership);
        let ask = async || read(readyz(State(health.clone()), RawQuery(None)).await).await;
        let unknown = "[-]lead failed: it is not known who leads: see the log for the Lease\n\
                       it is not known who leads: see the log for the Lease\nreadyz check failed\n";
        assert_eq!(ask().await, (503, unknown.to_owned()));
        teller.is_with("a");
        assert_eq!(ask().await, (200, "ok: standing by, a leads\n".to_owned()));
    }

    #[tokio::test]
    async fn liveness_names_the_loops() {
        let health = health(Readiness::awaiting(0), Leadership::alone(None));
        let _clock = health.liveness.expect("clock", crate::runtime::CLOCK_LIMIT);
        let ask = async |query: Option<&str>| read(livez(State(health.clone()), RawQuery(query.map(Into::into))).await).await;
        assert_eq!(ask(None).await, (200, "ok\n".to_owned()));
        let all = "[+]clock ok: it has not begun\nok\nlivez check passed\n";
        assert_eq!(ask(Some("verbose")).await, (200, all.to_owned()));
        // A loop that ended by a panic, first with a certificate in memory alone.
        let unsaved = Arc::new(std::sync::atomic::AtomicUsize::new(1));
        let count = Arc::clone(&unsaved);
        health.liveness.counts_unsaved(move || count.load(std::sync::atomic::Ordering::SeqCst));
        let broken = health.liveness.expect("watch/secrets", crate::runtime::CLOCK_LIMIT);
        let ended = std::thread::spawn(move || {
            let _broken = broken;
            panic!("as a test wants it");
        });
        assert!(ended.join().is_err());
        let lines = "[+]clock ok: it has not begun\n[-]watch/secrets failed: it ended by a panic: see the log\n";
        let (code, body) = ask(None).await;
        assert_eq!(code, 200, "{body}");
        assert!(body.starts_with(lines) && body.contains("a restart would lose 1 certificate which"), "{body}");
        unsaved.store(0, std::sync::atomic::Ordering::SeqCst);
        let expected = format!("{lines}a loop stands still: this process has to be started anew\nlivez check failed\n");
        assert_eq!(ask(None).await, (503, expected));
    }
}
