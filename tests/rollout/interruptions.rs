//! The operator is killed, and answers get lost, at every request of a rollout: nobody is restarted twice.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use jiff::SignedDuration;
use serde_json::json;
use usercert_test_support::fault_proxy::{Fault, Moment};

use crate::stage::{LAG, Stage};

/// More requests than a rollout of two workloads takes.
const MOST_REQUESTS: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_or_a_lost_answer_at_any_request_restarts_nobody_twice() {
    let stage = Stage::open("kill").await;
    stage.certificate("orders", json!({ "auto": true })).await;
    for name in ["a", "b"] {
        stage.workload("Deployment", name, &["orders"], json!({})).await;
    }
    stage.until_complete("orders").await;
    for fault in [Fault::Kill(Moment::Before), Fault::Kill(Moment::After), Fault::Cut(Moment::After)] {
        let mut played = 0;
        for at in 0..MOST_REQUESTS {
            if !stage.rolls_out_with(&fault, at).await {
                break;
            }
            played += 1;
        }
        eprintln!("{fault:?}: at {played} requests");
        assert!((8..MOST_REQUESTS).contains(&played), "{fault:?} at {played} requests");
    }
}

impl Stage {
    /// A rollout with a fault at this request, to its end. Whether it had so many requests.
    async fn rolls_out_with(&self, fault: &Fault, at: usize) -> bool {
        // So that many certificates are no matter.
        self.operator.advance(SignedDuration::from_hours(1));
        let mut before = Vec::new();
        for name in ["a", "b"] {
            before.push(self.changes("Deployment", name).await);
        }
        let serial_number = self.renew("orders").await;
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        let (first, is_played) = (self.proxy.asked_count(), Arc::new(AtomicBool::new(false)));
        let (fault, played) = (fault.clone(), Arc::clone(&is_played));
        let is_kill = matches!(fault, Fault::Kill(_));
        self.proxy.plan(move |asked| {
            let is_it = asked.number >= first + at && !played.swap(true, Ordering::SeqCst);
            is_it.then(|| fault.clone())
        });
        self.operator.advance(LAG);
        let is_restarted = AtomicBool::new(false);
        let restart = async {
            while !is_played.load(Ordering::SeqCst) {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            if is_kill {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                self.operator.kill();
                self.start_operator().await;
                is_restarted.store(true, Ordering::SeqCst);
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = restart => {}
            () = self.until_complete("orders") => {}
        }
        self.proxy.clear();
        // A kill at a request after the last status, such as one for an Event, leaves a rollout that is complete, and no operator.
        if is_kill && is_played.load(Ordering::SeqCst) && !is_restarted.load(Ordering::SeqCst) {
            self.operator.kill();
            self.start_operator().await;
        }
        // What it would change once more, it changes now.
        self.look("orders").await;
        for (name, before) in ["a", "b"].into_iter().zip(before) {
            assert_eq!(self.changes("Deployment", name).await, before + 1, "{name}, request {at}");
            assert_eq!(self.serial_numbers("Deployment", name).await, format!("orders={serial_number}"), "request {at}");
        }
        is_played.load(Ordering::SeqCst)
    }
}
