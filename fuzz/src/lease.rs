//! The Lease by which one of several replicas leads; whoever may write it may have written anything.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use tokio::time::Instant;
use usercert_operator::operator::{LEASE_DURATION, LeaseSeen, Step};

use crate::{Outcome, START_OF_YEAR_0, now};

/// This process in the Lease; the corpus knows it.
const IDENTITY: &str = "usercert-operator-0_6bd1f3c2a98e7540";

/// After so many seconds the Lease is looked at again, and has not changed. The last is longer than any duration in a Lease.
const LOOKS: [u64; 5] = [0, 1, 14, 15, 1 << 32];

/// A Lease as JSON.
pub fn lease(data: &[u8]) -> Outcome {
    let Ok(lease) = serde_json::from_slice::<Lease>(data) else { return Outcome::Unread };
    let spec = lease.spec.clone().unwrap_or_default();
    let holder = spec.holder_identity.as_deref().unwrap_or_default();
    let is_free = holder.is_empty() || holder == IDENTITY;
    let duration = u64::try_from(spec.lease_duration_seconds.unwrap_or_default()).unwrap_or_default().max(1);
    for at in [now(), Timestamp::UNIX_EPOCH, Timestamp::MIN, Timestamp::MAX] {
        let (mut seen, start) = (LeaseSeen::default(), Instant::now());
        for seconds in LOOKS {
            match seen.step(Some(&lease), IDENTITY, start + Duration::from_secs(seconds), at) {
                Step::Replace(replaced) => {
                    assert!(is_free || seconds >= duration, "it was taken from {holder} after {seconds} s of {duration}");
                    assert_eq!(replaced.metadata, lease.metadata, "what is replaced is what was read");
                    assert_is_ours(replaced.spec.as_ref().expect("a lease that was written has a spec"), &spec, at);
                }
                Step::StandBy(other) => {
                    assert_eq!(other, holder);
                    assert!(!is_free && seconds < duration, "{holder} has not renewed for {seconds} s of {duration}");
                }
                Step::Create(spec) => unreachable!("there is a lease: {spec:?}"),
            }
        }
        // Whatever was seen before, a lease that is gone is made anew, and one that has changed is waited for.
        assert!(matches!(seen.step(None, IDENTITY, start, at), Step::Create(spec) if spec.lease_transitions == Some(0)));
        let again = seen.step(Some(&lease), IDENTITY, start, at);
        assert_eq!(matches!(again, Step::Replace(_)), is_free, "{again:?}");
    }
    Outcome::Read
}

/// A spec in our name that goes on from the old one.
fn assert_is_ours(spec: &LeaseSpec, old: &LeaseSpec, at: Timestamp) {
    assert_eq!(spec.holder_identity.as_deref(), Some(IDENTITY));
    assert_eq!(spec.lease_duration_seconds.map(i64::from), i64::try_from(LEASE_DURATION.as_secs()).ok());
    assert_eq!(spec.renew_time.as_ref().map(|time| time.0), Some(at));
    let (before, after) = (old.lease_transitions.unwrap_or_default(), spec.lease_transitions.unwrap_or_default());
    assert!(after >= before && after <= before.saturating_add(1), "{before} transitions became {after}");
    let is_renewed = old.holder_identity.as_deref() == Some(IDENTITY);
    if is_renewed && old.acquire_time.is_some() {
        assert_eq!(spec.acquire_time, old.acquire_time, "who renews has acquired it before");
        assert_eq!(after, before, "who renews hands nothing over");
    }
    let text = serde_json::to_string(spec).expect("a spec is written");
    // Kubernetes knows no times before the year 0; no clock tells one.
    if [&spec.acquire_time, &spec.renew_time].into_iter().flatten().all(|time| time.0.as_second() >= START_OF_YEAR_0) {
        let again: LeaseSpec = serde_json::from_str(&text).expect("what was written is read");
        assert_eq!(serde_json::to_string(&again).expect("a spec is written"), text);
    }
}
