//! Statements about the lease: without an API server, and with one that fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    extract::{Request, State},
    http::Method,
    response::Response,
};
use rstest::rstest;

use super::*;
use crate::runtime::Leadership;

fn lease(holder: &str, version: &str) -> Lease {
    let spec = LeaseSpec {
        holder_identity: Some(holder.to_owned()),
        lease_duration_seconds: Some(15),
        lease_transitions: Some(3),
        acquire_time: Some(MicroTime(Timestamp::UNIX_EPOCH)),
        // Far in the past: the time in the lease must not count.
        renew_time: Some(MicroTime(Timestamp::UNIX_EPOCH)),
        ..LeaseSpec::default()
    };
    let metadata = ObjectMeta { resource_version: Some(version.to_owned()), ..ObjectMeta::default() };
    Lease { metadata, spec: Some(spec) }
}

fn replaced(step: Step) -> LeaseSpec {
    let Step::Replace(lease) = step else { panic!("{step:?}") };
    lease.spec.unwrap()
}

#[test]
fn a_lease_is_taken_over_when_it_has_not_changed_for_its_duration_by_our_own_clock() {
    let (mut seen, start, at) = (LeaseSeen::default(), Instant::now(), Timestamp::now());
    let seconds = |seconds| start + Duration::from_secs(seconds);
    assert_eq!(seen.step(Some(&lease("b", "1")), "a", start, at), Step::StandBy("b".to_owned()));
    assert_eq!(seen.step(Some(&lease("b", "2")), "a", seconds(14), at), Step::StandBy("b".to_owned()), "it was renewed");
    assert_eq!(seen.step(Some(&lease("b", "2")), "a", seconds(28), at), Step::StandBy("b".to_owned()));
    let spec = replaced(seen.step(Some(&lease("b", "2")), "a", seconds(29), at));
    assert_eq!((spec.holder_identity.as_deref(), spec.lease_transitions), (Some("a"), Some(4)));
    assert_eq!(spec.acquire_time, Some(MicroTime(at)));
}

#[test]
fn ours_is_renewed_and_a_free_one_taken_at_once() {
    let (mut seen, now, at) = (LeaseSeen::default(), Instant::now(), Timestamp::now());
    let spec = replaced(seen.step(Some(&lease("a", "1")), "a", now, at));
    assert_eq!((spec.lease_transitions, spec.acquire_time), (Some(3), Some(MicroTime(Timestamp::UNIX_EPOCH))));
    let spec = replaced(seen.step(Some(&lease("", "2")), "a", now, at));
    assert_eq!((spec.holder_identity.as_deref(), spec.lease_transitions), (Some("a"), Some(4)));
    let Step::Create(spec) = seen.step(None, "a", now, at) else { panic!() };
    assert_eq!((spec.holder_identity.as_deref(), spec.lease_transitions), (Some("a"), Some(0)));
}

/// What goes wrong with a request about the lease.
#[derive(Clone, Copy, Debug)]
enum Wrong {
    /// No answer, and nothing is done.
    Silence,
    /// This status, and nothing is done.
    Refused(u16),
    /// It is done, and not answered.
    AnswerLost,
}

/// Which requests something goes wrong with.
type Plan = Option<(Method, Wrong)>;

/// An API server that has one lease.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<(Option<Lease>, u64, Plan)>>);

impl Server {
    fn election(&self, identity: &str) -> (Election, Leadership) {
        let router = Router::new().fallback(answer).with_state(self.clone());
        let (leadership, teller) = Leadership::standing_by();
        let candidate = Candidate { namespace: "n".to_owned(), name: "l".to_owned(), identity: identity.to_owned() };
        (Election::new(Client::new(router, "n"), candidate, teller), leadership)
    }

    /// From now on; `None` ends it. A read is a part of each attempt.
    fn goes_wrong(&self, plan: Plan) {
        self.0.lock().unwrap().2 = plan;
    }

    fn put(&self, lease: Option<Lease>) {
        let mut state = self.0.lock().unwrap();
        state.1 += 1;
        let version = Some(state.1.to_string());
        state.0 = lease.map(|lease| Lease { metadata: ObjectMeta { resource_version: version, ..lease.metadata }, ..lease });
    }

    fn holder(&self) -> Option<String> {
        self.0.lock().unwrap().0.as_ref()?.spec.as_ref()?.holder_identity.clone()
    }

    fn carry_out(&self, method: &Method, body: &[u8]) -> (u16, String) {
        let now = self.0.lock().unwrap().0.clone();
        let sent = || serde_json::from_slice::<Lease>(body).unwrap();
        let refused = |code: u16| (code, status(code));
        match (method, now) {
            (&Method::GET, None) => return refused(404),
            (&Method::GET, Some(_)) => {}
            (&Method::POST, None) => self.put(Some(sent())),
            (&Method::POST, Some(_)) => return refused(409),
            (_, Some(now)) if now.metadata.resource_version == sent().metadata.resource_version => self.put(Some(sent())),
            _ => return refused(409),
        }
        (200, serde_json::to_string(&self.0.lock().unwrap().0).unwrap())
    }
}

fn status(code: u16) -> String {
    let reason = if code == 404 { "NotFound" } else { "" };
    serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": "no", "reason": reason,
    })
    .to_string()
}

async fn answer(State(server): State<Server>, request: Request) -> Response {
    let (method, body) = (request.method().clone(), request.into_body());
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let wrong = server.0.lock().unwrap().2.clone().filter(|(of, _)| *of == method).map(|(_, wrong)| wrong);
    let (code, text) = match wrong {
        Some(Wrong::Silence) => std::future::pending().await,
        Some(Wrong::Refused(code)) => (code, status(code)),
        Some(Wrong::AnswerLost) => {
            server.carry_out(&method, &body);
            std::future::pending().await
        }
        None => server.carry_out(&method, &body),
    };
    Response::builder().status(code).header("Content-Type", "application/json").body(text.into()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn whoever_leads_later_knows_which_process_gave_up_the_lease() {
    let server = Server::default();
    let (mut election, leadership) = server.election("a");
    lead(&mut election).await;
    assert_eq!((leadership.process().as_deref(), leadership.released_by()), (Some("a"), None));
    election.release().await;
    let (mut second, leadership) = server.election("b");
    lead(&mut second).await;
    assert_eq!((leadership.process().as_deref(), leadership.released_by().as_deref()), (Some("b"), Some("a")));
    // It is killed: what was written before it stays true.
    let (mut third, leadership) = server.election("c");
    lead(&mut third).await;
    assert_eq!(leadership.released_by().as_deref(), Some("a"));
    third.release().await;
    let (mut fourth, leadership) = server.election("d");
    lead(&mut fourth).await;
    assert_eq!(leadership.released_by().as_deref(), Some("c"), "b has given nothing up");
}

#[test]
fn a_process_knows_that_another_has_ended_only_if_it_knows_its_pod() {
    let [first, second] = [(); 2].map(|()| process_name(Some("pod-1"), "node"));
    assert!(first.starts_with("pod-1_") && first != second);
    assert!(crate::decide::ended(&first, Some(&second), None));
    assert!(!crate::decide::ended(&first, Some(&process_name(Some("pod-2"), "node")), None));
    let [first, second] = [(); 2].map(|()| process_name(None, "my_node"));
    assert!(first.starts_with("my-node-") && first != second);
    assert!(!crate::decide::ended(&first, Some(&second), None), "both may run on the host");
}

/// Loops are bounded also where time stands still but for timers.
async fn lead(election: &mut Election) {
    timeout(MINUTE, election.acquire()).await.unwrap();
}

/// The leader, after it has met this for so long.
async fn after(server: &Server, plan: (Method, Wrong), time: Duration) -> (Election, Leadership, Option<LeaseError>) {
    let (mut election, leadership) = server.election("a");
    lead(&mut election).await;
    assert!(leadership.may_act());
    server.goes_wrong(Some(plan));
    let ended = timeout(time, election.hold()).await.ok();
    (election, leadership, ended)
}

const MINUTE: Duration = Duration::from_mins(1);

#[tokio::test(start_paused = true)]
async fn a_lease_that_cannot_be_renewed_for_a_minute_ends_nothing_and_is_renewed_then() {
    let wrongs = [401, 403, 404, 409, 429, 500, 503].map(Wrong::Refused).into_iter().chain([Wrong::Silence, Wrong::AnswerLost]);
    for (method, wrong) in wrongs.flat_map(|wrong| [(Method::GET, wrong), (Method::PUT, wrong)]) {
        // Without its answer a read is no more than silence, and a lease that is gone is another matter.
        if matches!((&method, wrong), (&Method::GET, Wrong::AnswerLost | Wrong::Refused(404))) {
            continue;
        }
        let server = Server::default();
        let (mut election, leadership, ended) = after(&server, (method.clone(), wrong), MINUTE).await;
        assert!(ended.is_none(), "{method} {wrong:?}: {ended:?}");
        assert_eq!(leadership.holder(), None, "{method} {wrong:?}: it does not say that it leads");
        server.goes_wrong(None);
        assert!(timeout(Duration::from_secs(10), election.hold()).await.is_err(), "{method} {wrong:?}");
        assert_eq!((leadership.holder().as_deref(), leadership.may_act()), (Some("a"), true), "{method} {wrong:?}");
        assert_eq!(election.renewed.elapsed().as_secs() / 3, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_silence_of_seven_seconds_is_not_even_noticed_by_who_leads() {
    let server = Server::default();
    let (mut election, leadership, ended) = after(&server, (Method::GET, Wrong::Silence), Duration::from_secs(7)).await;
    assert!(ended.is_none() && leadership.holder().is_some());
    server.goes_wrong(None);
    assert!(timeout(Duration::from_secs(3), election.hold()).await.is_err());
    assert!(election.renewed.elapsed() < RENEW_DEADLINE && leadership.holder().is_some());
}

/// What the lease says after a silence, and whether the process ends.
#[rstest]
#[case::another_leads(Some("b"), "b has taken the lease")]
#[case::another_has_led_and_released_it(Some(""), "another process may have led")]
#[case::somebody_has_deleted_it(None, "another process may have led")]
#[tokio::test(start_paused = true)]
async fn whoever_may_have_been_replaced_during_a_silence_ends(#[case] holder: Option<&str>, #[case] why: &str) {
    let server = Server::default();
    let (mut election, leadership, ended) = after(&server, (Method::GET, Wrong::Silence), MINUTE).await;
    assert!(ended.is_none());
    server.put(holder.map(|holder| lease(holder, "")));
    server.goes_wrong(None);
    let ended = timeout(Duration::from_secs(10), election.hold()).await.unwrap();
    assert!(ended.to_string().contains(why), "{ended}");
    assert!(!leadership.may_act());
}

#[tokio::test(start_paused = true)]
async fn a_standby_names_no_leader_that_it_has_not_seen_renew_for_the_lease_s_duration() {
    let server = Server::default();
    server.put(Some(lease("b", "")));
    let (mut election, leadership) = server.election("a");
    let _ = timeout(Duration::from_secs(5), election.acquire()).await;
    assert_eq!(leadership.holder().as_deref(), Some("b"));
    // It may neither be read nor, where it has expired, be written.
    server.goes_wrong(Some((Method::GET, Wrong::Silence)));
    let _ = timeout(Duration::from_secs(30), election.acquire()).await;
    assert_eq!(leadership.holder(), None);
    server.goes_wrong(Some((Method::PUT, Wrong::Refused(403))));
    let _ = timeout(Duration::from_secs(30), election.acquire()).await;
    assert_eq!(leadership.holder(), None);
    server.goes_wrong(None);
    timeout(Duration::from_secs(10), election.acquire()).await.unwrap();
    assert!(leadership.may_act());
}

#[tokio::test(start_paused = true)]
async fn a_release_that_fails_is_tried_again_until_the_lease_has_ended() {
    for wrong in [Wrong::Silence, Wrong::Refused(500), Wrong::Refused(409), Wrong::AnswerLost] {
        let server = Server::default();
        let (mut election, leadership) = server.election("a");
        lead(&mut election).await;
        server.goes_wrong(Some((Method::PUT, wrong)));
        let (mended, begun) = (server.clone(), Instant::now());
        let mend = async move {
            sleep(Duration::from_secs(4)).await;
            mended.goes_wrong(None);
        };
        tokio::join!(mend, election.release());
        assert_eq!(server.holder().as_deref(), Some(""), "{wrong:?}");
        assert!(!leadership.may_act() && begun.elapsed() < LEASE_DURATION, "{wrong:?}");
    }
    let server = Server::default();
    let (mut election, _) = server.election("a");
    lead(&mut election).await;
    server.goes_wrong(Some((Method::GET, Wrong::Silence)));
    let begun = Instant::now();
    election.release().await;
    assert!(begun.elapsed() <= LEASE_DURATION + ATTEMPT_LIMIT, "a process that stops waits no longer than that");
}
