//! Statements about whose turn it is to ask Atlas.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

use futures::{FutureExt, StreamExt};

use super::*;
use crate::triggers::Triggered;

fn name(name: &str) -> ObjectKey {
    ObjectKey::new("shop", name)
}

fn account() -> Account {
    Account { endpoint: "http://localhost".into(), project_id: "p".into(), credentials_uid: "uid-1".into() }
}

/// The queues for so many workers, without anybody in them.
fn queues(workers: u16) -> (AtlasClient, Turns, Arc<Triggers>, Triggered) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let atlas = AtlasClient::new(Duration::from_secs(1), None).unwrap();
    let (triggers, woken) = Triggers::new();
    (atlas.clone(), Turns::new(atlas, workers, Liveness::default()), Arc::new(triggers), woken)
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

#[tokio::test]
async fn turns_go_by_expiry_and_so_many_at_once() {
    let (atlas, turns, triggers, mut woken) = queues(20);
    let account = account();
    let _held = atlas.limits().hold(account.clone());
    let key = atlas.limits().key(&account);
    let ask = |who: &str, expiry| turns.ask(&account, &name(who), at(expiry), 2, &triggers);

    let first = ask("first", 9).unwrap();
    assert!(ask("second", 8).is_none(), "the first answer is awaited");
    assert!(ask("third", 3).is_none() && ask("fourth", 7).is_none() && ask("fifth", 1).is_none() && ask("gone", 0).is_none());
    atlas.limits().answered(&key, &reqwest::header::HeaderMap::new(), Instant::now());
    assert_eq!(turns.waiting_of(&triggers), 5);
    assert_eq!(turns.waiting_of(&Arc::new(Triggers::new().0)), 0, "they are those of another scope");
    turns.forget(&name("gone"));
    for expected in ["fifth", "third", "fourth"] {
        assert_eq!(woken.certificates.next().await.unwrap().name, expected);
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(woken.certificates.next().now_or_never().is_none(), "four are at it: the second waits");
    let fifth = ask("fifth", 1).unwrap();
    drop(first);
    assert_eq!(woken.certificates.next().await.unwrap().name, "second");
    drop(fifth);
    assert!(ask("sixth", 5).is_some(), "nobody waits, and one has finished");
}

#[tokio::test]
async fn who_waited_for_credentials_to_be_accepted_goes_on_in_the_queue_of_the_project() {
    let (atlas, turns, triggers, mut woken) = queues(20);
    let account = account();
    let _held = atlas.limits().hold(account.clone());
    let ask = |who: &str, expiry| turns.ask(&account, &name(who), at(expiry), 1, &triggers);

    let first = ask("first", 9).unwrap();
    for (who, expiry) in [("second", 8), ("third", 7), ("fourth", 6), ("fifth", 5), ("sixth", 4)] {
        assert!(ask(who, expiry).is_none(), "the first answer is awaited");
    }
    atlas.limits().met(&account, reqwest::StatusCode::OK, false);
    atlas.limits().answered(&atlas.limits().key(&account), &reqwest::header::HeaderMap::new(), Instant::now());
    let mut next = async || woken.certificates.next().await.unwrap().name.clone();
    assert_eq!([next().await, next().await, next().await], ["sixth", "fifth", "fourth"]);
    // The last to be woken is the first to ask. The others go on in the order of the project.
    let latest = ask("latest", 99);
    assert_eq!([next().await, next().await], ["third", "second"], "those who waited before go first");
    assert!(latest.is_some(), "and there is room for one more");
    drop(first);
    let sixth = ask("sixth", 4).unwrap();
    assert!(turns.0.lock().by_key.keys().all(|key| matches!(key, LimitKey::Project { .. })));
    drop(sixth);
}

#[tokio::test]
async fn a_namespace_with_many_projects_leaves_turns_to_others() {
    let (_, turns, triggers, mut woken) = queues(16);
    let ask = |namespace: &str, project: usize| {
        let account = Account { project_id: format!("{namespace}-{project}"), ..account() };
        turns.ask(&account, &ObjectKey::new(namespace, format!("{project}")), at(9), 2, &triggers)
    };
    let mut greedy: Vec<_> = (0..40).map(|project| ask("greedy", project)).collect();
    assert_eq!(greedy.iter().flatten().count(), 4, "half of the turns, which are half of the workers");
    let others: Vec<_> = ["a", "b", "c"].into_iter().filter_map(|namespace| ask(namespace, 0)).collect();
    assert_eq!(others.len(), 3);
    greedy.retain(Option::is_none);
    drop(others);
    let next = woken.certificates.next().await.unwrap();
    assert_eq!(next.namespace.as_deref(), Some("greedy"), "those who wait get what is free");
    for project in 0..40 {
        turns.forget(&ObjectKey::new("greedy", format!("{project}")));
    }
    let queues = turns.0.lock();
    assert!(queues.by_key.is_empty() && queues.places.is_empty(), "nothing is left of queues that nobody uses");
    assert!(queues.shares.have_room_for("new") && queues.shares.held_by("greedy") == 0);
}

#[tokio::test]
async fn who_gives_a_turn_back_does_not_get_it_again_before_those_who_wait() {
    let (_, turns, triggers, mut woken) = queues(4);
    let ask = |namespace: &str, expiry| {
        let account = Account { project_id: namespace.to_owned(), ..account() };
        turns.ask(&account, &ObjectKey::new(namespace, "orders"), at(expiry), 2, &triggers)
    };
    let (first, _second) = (ask("slow-1", 1).unwrap(), ask("slow-2", 1).unwrap());
    assert!(ask("neighbour", 9).is_none(), "a renewal, which expires last");
    drop(first);
    assert!(ask("slow-1", 1).is_none(), "though it expires first");
    assert_eq!(woken.certificates.next().await.unwrap().namespace.as_deref(), Some("neighbour"));
    assert!(ask("neighbour", 9).is_some());
}

#[tokio::test]
async fn in_one_project_whoever_may_not_have_a_turn_holds_up_nobody_else() {
    let (atlas, turns, triggers, mut woken) = queues(4);
    let account = account();
    let _held = atlas.limits().hold(account.clone());
    atlas.limits().answered(&atlas.limits().key(&account), &reqwest::header::HeaderMap::new(), Instant::now());
    let ask =
        |namespace: &str, name: &str, expiry| turns.ask(&account, &ObjectKey::new(namespace, name), at(expiry), 1, &triggers);
    let first = ask("greedy", "first", 1).unwrap();
    assert!(ask("greedy", "second", 2).is_none(), "one of two turns is all that the namespace may have");
    let neighbour = ask("neighbour", "third", 3).unwrap();
    drop((first, neighbour));
    assert_eq!(woken.certificates.next().await.unwrap().name, "second");
}
