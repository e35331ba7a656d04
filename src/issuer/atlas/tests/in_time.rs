//! What Atlas is asked for ends in time, and what mints is not begun if it might not.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use rstest::rstest;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use usercert_test_support::atlas::{Fault, StandIn, StandInConfig, X509Type};

use super::{credentials, settings};
use crate::{
    Deadline, MintPermit, Minted,
    api::Reason,
    atlas::{AtlasApiVersion, AtlasClient, AtlasIssuer, MintRequest},
    certificate::Subject,
};

const REQUEST_LIMIT: Duration = Duration::from_secs(4);
const PROJECT: &str = "5efda6aea3f2ed2e7dd6ce05";

fn issuer(endpoint: &str, key: &[(&str, &str)]) -> AtlasIssuer {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client = AtlasClient::new(REQUEST_LIMIT, None).unwrap();
    AtlasIssuer::new(client, settings(endpoint, AtlasApiVersion::V2), credentials(key).unwrap())
}

fn request() -> MintRequest {
    MintRequest {
        username: "orders".to_owned(),
        subject: Subject::common_name("orders").unwrap(),
        months_until_expiration: 3,
        now: Timestamp::now(),
    }
}

/// The challenge takes its time. After a stale nonce it is the second one.
#[rstest]
#[case::time_enough(&[], Duration::from_secs(20), true)]
#[case::so_little_that_the_answer_might_come_too_late(&[], Duration::from_secs(5), false)]
#[case::time_enough_after_a_stale_nonce(&[Fault::StaleNonce], Duration::from_secs(20), true)]
#[case::no_time_for_the_second_request_after_a_stale_nonce(&[Fault::StaleNonce], Duration::from_secs(5), false)]
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_mints_is_sent_only_if_it_ends_in_time(
    #[case] before: &[Fault],
    #[case] time: Duration,
    #[case] is_sent: bool,
) {
    let atlas = StandIn::start(StandInConfig::default()).await.unwrap();
    atlas.add_project(PROJECT, "public", "private");
    atlas.add_user(PROJECT, "orders", X509Type::Managed);
    for fault in before {
        atlas.fault_once("orders", fault.clone());
    }
    atlas.fault_once("orders", Fault::DelayChallenge(Duration::from_secs(2)));
    let issuer = issuer(&atlas.url(), &[("publicApiKey", "public"), ("privateApiKey", "private")]);
    let issued = issuer.issue(&request(), &MintPermit::new(|| true, Deadline::after(time))).await;
    assert_eq!(atlas.mints().len(), usize::from(is_sent));
    match issued {
        Ok(_) => assert!(is_sent),
        Err(error) => {
            assert_eq!((is_sent, error.reason, error.minted), (false, Reason::AtlasUnavailable, Minted::No));
            assert!(error.message.contains("no time was left"), "{}", error.message);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_takes_long_leaves_no_time_for_a_request_that_mints() {
    let atlas = StandIn::start(StandInConfig::default()).await.unwrap();
    atlas.add_service_account(PROJECT, "mdb_sa_id", "secret");
    atlas.add_user(PROJECT, "orders", X509Type::Managed);
    let issuer = issuer(&atlas.url(), &[("clientId", "mdb_sa_id"), ("clientSecret", "secret")]);
    let error = issuer.issue(&request(), &MintPermit::new(|| true, Deadline::after(REQUEST_LIMIT / 2))).await.unwrap_err();
    assert_eq!((error.reason, error.minted, atlas.mints().len()), (Reason::AtlasUnavailable, Minted::No, 0));
    let in_time = issuer.issue(&request(), &MintPermit::new(|| true, Deadline::after(REQUEST_LIMIT * 2))).await;
    assert!(in_time.is_ok() && atlas.mints().len() == 1);
}

/// The token was revoked, and by the time there is a new one, so much time has passed that nothing more is sent.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_revoked_token_the_request_is_sent_again_only_if_it_ends_in_time() {
    let atlas = StandIn::start(StandInConfig::default()).await.unwrap();
    atlas.add_service_account(PROJECT, "mdb_sa_id", "secret");
    atlas.add_user(PROJECT, "orders", X509Type::Managed);
    let issuer = issuer(&atlas.url(), &[("clientId", "mdb_sa_id"), ("clientSecret", "secret")]);
    issuer.check_user("orders", Timestamp::now(), Deadline::after(REQUEST_LIMIT * 2)).await.unwrap();
    atlas.revoke_tokens();
    // The permit is asked right before each of the two requests.
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let is_first = move || counted.fetch_add(1, Ordering::SeqCst) == 0;
    let error = issuer.issue(&request(), &MintPermit::new(is_first, Deadline::after(REQUEST_LIMIT * 2))).await.unwrap_err();
    assert_eq!((asked.load(Ordering::SeqCst), error.minted, atlas.mints().len()), (2, Minted::No, 0));
    assert_eq!(atlas.tokens().len(), 2, "a new one was made");
    assert!(issuer.issue(&request(), &MintPermit::new(|| true, Deadline::after(REQUEST_LIMIT * 2))).await.is_ok());
}

/// Lists pages of 500, of which none is the last, each after this time.
async fn endless(page_time: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let entries: Vec<String> = (0..500)
        .map(|number| format!(r#"{{"_id":{number},"createdAt":"2026-08-10T02:06:35Z","notAfter":"2026-11-10T03:06:35Z"}}"#))
        .collect();
    let body = format!(r#"{{"results":[{}]}}"#, entries.join(","));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let read = stream.read(&mut request).await.unwrap();
            let is_authorized = String::from_utf8_lossy(&request[..read]).to_ascii_lowercase().contains("authorization:");
            let answer = if is_authorized {
                tokio::time::sleep(page_time).await;
                format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
            } else {
                "HTTP/1.1 401 X\r\nWWW-Authenticate: Digest realm=\"r\", nonce=\"n\", qop=\"auth\"\r\nContent-Length: 0\r\n\r\n"
                    .to_owned()
            };
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    url
}

#[rstest]
// A slow machine may add to it, but not so much that another limit would have ended it.
#[case::the_pages_are_slow(Duration::from_secs(3), Duration::from_mins(1), REQUEST_LIMIT * 2, Duration::from_secs(30))]
#[case::the_pass_has_little_time_left(
    Duration::from_millis(1_500),
    Duration::from_secs(1),
    Duration::from_secs(1),
    REQUEST_LIMIT * 2
)]
#[case::the_list_never_ends(Duration::ZERO, Duration::from_mins(1), Duration::ZERO, Duration::from_secs(30))]
#[tokio::test]
async fn all_pages_of_a_list_share_one_deadline(
    #[case] page: Duration,
    #[case] left: Duration,
    #[case] takes: Duration,
    #[case] at_most: Duration,
) {
    let issuer = issuer(&endless(page).await, &[("publicApiKey", "public"), ("privateApiKey", "private")]);
    let started = Instant::now();
    let error = issuer.list("orders", Timestamp::now(), Deadline::after(left)).await.unwrap_err();
    assert_eq!((error.reason, error.minted), (Reason::AtlasUnavailable, Minted::No));
    let took = started.elapsed();
    assert!(took >= takes && took < at_most, "{took:?}");
}
