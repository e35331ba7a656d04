//! Statements about reviews: of what is remembered, and with an API server that answers, refuses or is slow.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use futures::future::join_all;
use serde_json::{Value, json};

use super::*;

#[test]
fn only_a_bearer_token_counts() {
    for (authorization, token) in [
        ("Bearer abc", Some("abc")),
        ("bearer abc", Some("abc")),
        ("Bearer  abc ", Some("abc")),
        ("Bearer abc.d-e_f~g+h/==", Some("abc.d-e_f~g+h/==")),
        ("Bearer a b", None),
        ("Bearer a\"b", None),
        ("Bearer ==", None),
        ("Bearer ", None),
        ("Bearer", None),
        ("Basic YTpi", None),
        ("", None),
    ] {
        assert_eq!(bearer(authorization), token, "{authorization}");
    }
    let long = format!("Bearer {}", "a".repeat(LONGEST_TOKEN + 1));
    assert_eq!(bearer(&long), None);
}

#[test]
fn answers_count_shortly_and_refusals_shorter() {
    let (mut kept, now) = (HashMap::new(), Instant::now());
    let key = |token: &str| digest_of(&[token, "get", "/metrics"]);
    keep(&mut kept, key("a"), Answer::Admitted, now);
    keep(&mut kept, key("b"), Answer::Forbidden("b".to_owned()), now);
    let at = |token: &str, seconds| recall(&kept, &key(token), now + Duration::from_secs(seconds));
    assert_eq!((at("a", 59), at("a", 60)), (Recalled::Answer(Answer::Admitted), Recalled::Known));
    assert_eq!((at("a", 3599), at("a", 3600)), (Recalled::Known, Recalled::Stranger));
    assert_eq!((at("b", 9), at("b", 10)), (Recalled::Answer(Answer::Forbidden("b".to_owned())), Recalled::Stranger));
    assert_eq!(at("c", 0), Recalled::Stranger);
    assert_ne!(digest_of(&["ab", "c"]), digest_of(&["a", "bc"]));
    assert_ne!(key("a"), digest_of(&["a", "head", "/metrics"]), "another verb is another question");
}

#[test]
fn many_tokens_push_nobody_out_who_was_admitted() {
    let (mut kept, now) = (HashMap::new(), Instant::now());
    let key = |token: &str| digest_of(&[token]);
    keep(&mut kept, key("scraper"), Answer::Admitted, now);
    for number in 0..5 * MOST_KEPT {
        keep(&mut kept, key(&number.to_string()), Answer::Unauthenticated, now);
        assert!(kept.len() <= MOST_KEPT);
    }
    assert_eq!(recall(&kept, &key("scraper"), now), Recalled::Answer(Answer::Admitted));
}

fn address(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

#[test]
fn few_unknown_tokens_are_reviewed_and_fewer_of_one_address() {
    let (mut rate, now) = (Rate::default(), Instant::now());
    let taken = |rate: &mut Rate, last, at: Duration| (0..100).filter(|_| rate.take(address(last), now + at)).count();
    let of_each: Vec<_> = (1..=6).map(|last| taken(&mut rate, last, Duration::ZERO)).collect();
    assert_eq!(of_each, [10, 10, 10, 10, 0, 0]);
    let second = Duration::from_secs(1);
    assert_eq!([1, 5, 6].map(|last| taken(&mut rate, last, second)), [1, 9, 0], "ten in a second");
    assert_eq!((taken(&mut rate, 9, 60 * second), rate.by_address.len()), (10, 1), "nothing is kept of a time long past");
}

/// An API server that lets in whoever has the token `good`, and counts what it is asked.
#[derive(Clone, Default)]
struct Server(Arc<Asked>);

#[derive(Default)]
struct Asked {
    tokens: Mutex<Vec<String>>,
    refuses: Mutex<Option<StatusCode>>,
    is_slow: AtomicBool,
}

impl Server {
    fn reviewer(&self) -> Reviewer {
        Reviewer::new(Client::new(Router::new().fallback(answer).with_state(self.clone()), "n"))
    }
    fn count(&self, token: &str) -> usize {
        lock(&self.0.tokens).iter().filter(|asked| *asked == token).count()
    }
}

async fn answer(State(Server(asked)): State<Server>, Json(mut review): Json<Value>) -> Response {
    if asked.is_slow.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    if let Some(code) = *lock(&asked.refuses) {
        return (code, Json(json!({ "kind": "Status", "code": code.as_u16(), "message": "no" }))).into_response();
    }
    review["status"] = if let Some(token) = review["spec"]["token"].as_str() {
        lock(&asked.tokens).push(token.to_owned());
        json!({ "authenticated": token == "good", "user": { "username": "scraper" } })
    } else {
        json!({ "allowed": true })
    };
    (StatusCode::CREATED, Json(review)).into_response()
}

async fn shown(reviewer: &Reviewer, last: u8, token: &str) -> Answer {
    reviewer.review(address(last), Some(&format!("Bearer {token}")), "get", "/metrics").await
}

#[tokio::test(start_paused = true)]
async fn tokens_that_are_made_up_cost_few_reviews_and_keep_out_nobody_who_was_let_in() {
    let server = Server::default();
    let reviewer = server.reviewer();
    assert_eq!(shown(&reviewer, 1, "good").await, Answer::Admitted);
    let mut answers = HashMap::new();
    // Of forty addresses, for two minutes.
    for number in 0..12_000 {
        let answer = shown(&reviewer, 10 + u8::try_from(number % 40).unwrap(), &format!("made-up-{number}")).await;
        *answers.entry(format!("{answer:?}")).or_insert(0) += 1;
        if number % 100 == 99 {
            // No other is reviewed in this second.
            assert_eq!(shown(&reviewer, 1, "good").await, Answer::Admitted);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    let reviews = answers["Unauthenticated"];
    assert!((1000..1300).contains(&reviews) && answers["TooMany"] == 12_000 - reviews, "{answers:?}");
    assert_eq!(server.count("good"), 2, "it is reviewed again each minute");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(shown(&reviewer, 1, "bad").await, Answer::Unauthenticated, "a rest makes room for others");
}

#[tokio::test(start_paused = true)]
async fn few_tokens_are_reviewed_at_once() {
    let server = Server::default();
    let reviewer = server.reviewer();
    assert_eq!(shown(&reviewer, 1, "good").await, Answer::Admitted);
    tokio::time::sleep(ADMITTED_FOR).await;
    server.0.is_slow.store(true, Ordering::SeqCst);
    let tokens: Vec<_> = (0..20).map(|number| format!("made-up-{number}")).collect();
    let strangers = join_all(tokens.iter().zip(0..).map(|(token, number)| shown(&reviewer, 10 + number % 5, token)));
    let (strangers, scraper) = tokio::join!(strangers, shown(&reviewer, 1, "good"));
    assert_eq!(scraper, Answer::Admitted, "a place is kept for it");
    assert_eq!(strangers.iter().filter(|answer| **answer == Answer::Unauthenticated).count(), AT_ONCE);
    assert_eq!(strangers.iter().filter(|answer| **answer == Answer::TooMany).count(), 20 - AT_ONCE);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_let_in_while_the_api_server_does_not_say_so() {
    let server = Server::default();
    let reviewer = server.reviewer();
    assert_eq!(shown(&reviewer, 1, "good").await, Answer::Admitted);
    tokio::time::sleep(ADMITTED_FOR).await;
    for code in [StatusCode::FORBIDDEN, StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS] {
        *lock(&server.0.refuses) = Some(code);
        assert_eq!([shown(&reviewer, 1, "good").await, shown(&reviewer, 2, "new").await], [Answer::Unknown, Answer::Unknown]);
    }
    *lock(&server.0.refuses) = None;
    assert_eq!(shown(&reviewer, 1, "good").await, Answer::Admitted);
}
