//! The proxy does what it says: what was carried out, what the client saw, and what was noted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::State as Extracted,
    http::Uri,
    routing::{get, post},
};
use rstest::rstest;
use tokio::{net::TcpListener, time::timeout};

use super::{Fault, FaultProxy, Moment, WatchFault};

/// A server that counts what it carried out, says which list it was asked for, and has one watch of three events.
async fn server() -> (String, Arc<AtomicUsize>) {
    let effects = Arc::<AtomicUsize>::default();
    let carry_out = |Extracted(effects): Extracted<Arc<AtomicUsize>>| async move {
        effects.fetch_add(1, Ordering::SeqCst);
        "done"
    };
    let look = |uri: Uri| async move {
        let query = uri.query().unwrap_or_default().to_owned();
        if !query.contains("watch=true") {
            return Body::from(query);
        }
        let events: String = (1..=3).map(event).collect();
        Body::from(events)
    };
    let router = Router::new().route("/effects", post(carry_out)).route("/secrets", get(look)).with_state(Arc::clone(&effects));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, effects)
}

fn event(version: usize) -> String {
    format!(
        "{{\"type\":\"MODIFIED\",\"object\":{{\"kind\":\"Secret\",\"metadata\":{{\"name\":\"orders\",\"resourceVersion\":\"{version}\"}}}}}}\n"
    )
}

/// The second of three requests meets the fault: what it was answered (0: nothing), and how many were carried out.
#[rstest]
#[case::cut_before(Fault::Cut(Moment::Before), 0, 2)]
#[case::cut_after(Fault::Cut(Moment::After), 0, 3)]
#[case::kill_before(Fault::Kill(Moment::Before), 0, 2)]
#[case::kill_after(Fault::Kill(Moment::After), 0, 3)]
#[case::refused(Fault::Refuse(Moment::Before, 409), 409, 2)]
#[case::refused_after_its_effect(Fault::Refuse(Moment::After, 504), 504, 3)]
#[case::late(Fault::Delay(Moment::After, Duration::from_millis(20)), 200, 3)]
#[case::hanging(Fault::Hang, 0, 2)]
#[case::cut_short(Fault::Halve, 200, 3)]
#[tokio::test]
async fn one_request_goes_wrong_and_no_other(#[case] fault: Fault, #[case] answer: u16, #[case] carried_out: usize) {
    let (url, effects) = server().await;
    let proxy = FaultProxy::start(&url, None).await.unwrap();
    let killed = Arc::<AtomicBool>::default();
    let (kills, played) = (Arc::clone(&killed), fault.clone());
    proxy.on_kill(move || kills.store(true, Ordering::SeqCst));
    proxy.plan(move |asked| (asked.number == 1).then(|| played.clone()));
    // Only where no answer comes is it waited for to no avail.
    let limit = if matches!(fault, Fault::Hang) { Duration::from_secs(2) } else { Duration::from_secs(10) };
    let mut answers = Vec::new();
    for _ in 0..3 {
        let client = reqwest::Client::builder().no_proxy().timeout(limit).build().unwrap();
        let response = client.post(format!("{}/effects", proxy.url())).send().await;
        answers.push(response.map_or(0, |response| response.status().as_u16()));
    }
    assert_eq!(answers, [200, answer, 200]);
    assert_eq!(effects.load(Ordering::SeqCst), carried_out);
    assert_eq!((proxy.asked_count(), proxy.played().values().sum::<usize>()), (3, 1), "all are noted");
    assert_eq!(killed.load(Ordering::SeqCst), matches!(fault, Fault::Kill(_)));
}

#[rstest]
#[case::dropped(WatchFault::Drop, &["1", "3"], false)]
#[case::repeated(WatchFault::Repeat, &["1", "2", "2", "3"], false)]
#[case::gone(WatchFault::Gone, &["1"], true)]
#[tokio::test]
async fn one_event_of_a_watch_goes_wrong(#[case] fault: WatchFault, #[case] versions: &[&str], #[case] is_gone: bool) {
    let (url, _) = server().await;
    let proxy = FaultProxy::start(&url, None).await.unwrap();
    proxy.plan_watches(move |happened| (happened.number == 1).then_some(fault));
    let body = reqwest::get(format!("{}/secrets?watch=true", proxy.url())).await.unwrap().text().await.unwrap();
    let seen: Vec<&str> = body.split("resourceVersion\":\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert_eq!(seen, versions);
    assert_eq!(body.contains("\"code\":410"), is_gone);
    let watches = proxy.watches();
    assert_eq!(watches.iter().map(|watch| watch.target.as_str()).collect::<Vec<_>>(), ["/secrets?watch=true"]);
}

#[tokio::test]
async fn a_list_is_asked_for_as_it_was_and_events_are_held_back() {
    let (url, _) = server().await;
    let proxy = FaultProxy::start(&url, None).await.unwrap();
    proxy.plan(|asked| asked.is_list().then(|| Fault::StaleList("7".to_owned())));
    let list = reqwest::get(format!("{}/secrets?limit=500", proxy.url())).await.unwrap().text().await.unwrap();
    assert_eq!(list, "limit=500&resourceVersion=7&resourceVersionMatch=Exact");

    proxy.lag(2);
    let mut watch = reqwest::get(format!("{}/secrets?watch=true", proxy.url())).await.unwrap();
    let first = watch.chunk().await.unwrap().unwrap();
    assert_eq!(first, event(1).as_bytes());
    // The server's end of a watch is an end for the client too; until then what is held stays held.
    let rest = timeout(Duration::from_millis(200), watch.chunk()).await;
    assert!(rest.is_err() || matches!(rest, Ok(Ok(None))), "{rest:?}");
}
