//! What is ahead: a pure function of the objects and the time.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde::Serialize;
use usercert_operator_core::{
    api::{RENEWAL_FAILED, condition},
    rollout::Windows,
};

use super::{
    limits::{HeldUser, Limited, QueuedProject, held_users, limited, queued_projects},
    renewal::Renewal,
};
use crate::verbs::{
    leader::Leader,
    objects::Certificate,
    state::{State, issuer_of, told},
};

/// The most renewals of one certificate that are foreseen. Where there are more, it is told from when on they are missing.
pub(super) const FORESEEN: usize = 1000;

/// The renewals ahead.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Plan {
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
    pub(super) renewals: Vec<Renewal>,
    pub(super) storms: Vec<Storm>,
    /// Certificates whose renewals reach the operator's limit for one object.
    pub(super) limited: Vec<Limited>,
    /// Atlas projects that are asked for more certificates at once than the limit of their requests admits.
    pub(super) queued_projects: Vec<QueuedProject>,
    /// Database users of Atlas for whom a renewal waits.
    pub(super) held_users: Vec<HeldUser>,
    /// Certificates that expire in this time if nothing changes.
    pub(super) unrenewed: Vec<Unrenewed>,
    /// Objects of which no renewal is foreseen, because they have no certificate or no renewal time.
    pub(super) without_renewal: Vec<WithoutRenewal>,
    /// Certificates with more renewals than are foreseen.
    pub(super) cut_off: Vec<CutOff>,
    /// Who carries it out.
    pub(super) operator: Option<Leader>,
    /// A sentence for each clock that is wrong.
    pub(super) clocks: Vec<String>,
}

/// An hour in which one issuer is asked for many certificates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Storm {
    /// When it begins: with the first of these renewals.
    pub(super) hour: Timestamp,
    pub(super) issuer: String,
    pub(super) renewals: usize,
}

/// A certificate whose renewals are foreseen in part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CutOff {
    pub(super) namespace: String,
    pub(super) name: String,
    /// The last renewal that is foreseen.
    pub(super) after: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Unrenewed {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) not_after: Timestamp,
    pub(super) why: String,
}

/// An object of which no renewal is foreseen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WithoutRenewal {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) why: &'static str,
}

/// What is ahead within this time. `storm`: how many renewals of one issuer within an hour are one.
pub(super) fn foresee(objects: &[Certificate], now: Timestamp, length: SignedDuration, storm: usize) -> Plan {
    let until = now.saturating_add(length).unwrap_or(Timestamp::MAX);
    let each: Vec<Vec<Renewal>> = objects.iter().map(|object| renewals_of(object, now, until)).collect();
    let limited = each.iter().filter_map(|renewals| limited(renewals)).collect();
    let queued_projects = queued_projects(objects, &each);
    let held_users = held_users(objects, &each);
    let cut_off = each.iter().filter(|renewals| renewals.len() == FORESEEN).filter_map(|renewals| renewals.last());
    let cut_off = cut_off.map(|last| CutOff { namespace: last.namespace.clone(), name: last.name.clone(), after: last.time });
    let cut_off = cut_off.collect();
    let mut renewals: Vec<Renewal> = each.into_iter().flatten().collect();
    renewals.sort_by(|one, other| (one.time, &one.namespace, &one.name).cmp(&(other.time, &other.namespace, &other.name)));
    let mut unrenewed: Vec<Unrenewed> = objects.iter().filter_map(|object| unrenewed(object, until)).collect();
    unrenewed.sort_by_key(|found| found.not_after);
    let without_renewal = objects.iter().filter_map(|object| without_renewal(object, now, until)).collect();
    Plan {
        from: now,
        until,
        storms: storms(&renewals, storm),
        limited,
        queued_projects,
        held_users,
        renewals,
        unrenewed,
        without_renewal,
        cut_off,
        operator: None,
        clocks: Vec::new(),
    }
}

fn renewals_of(object: &Certificate, now: Timestamp, until: Timestamp) -> Vec<Renewal> {
    let status = object.status.clone().unwrap_or_default();
    let (Some(next), Some(begun)) = (status.renewal_time, status.not_before) else { return Vec::new() };
    if object.spec.suspend {
        return Vec::new();
    }
    let windows =
        object.spec.rollout.as_ref().and_then(|rollout| Windows::parse(rollout.windows.as_deref().unwrap_or_default()).ok());
    let interval = next.0.duration_since(begun.0).max(SignedDuration::from_mins(1));
    // One that is overdue is due now.
    let mut time = next.0.max(now);
    let mut renewals = Vec::new();
    while time <= until && renewals.len() < FORESEEN {
        renewals.push(Renewal {
            time,
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            issuer: issuer_of_object(object),
            is_estimate: !renewals.is_empty(),
            workloads_from: windows.as_ref().and_then(|windows| windows.next_opening(time)),
        });
        time = time.saturating_add(interval).unwrap_or(Timestamp::MAX);
    }
    renewals
}

/// Issuers of one namespace are told apart by it.
fn issuer_of_object(object: &Certificate) -> String {
    let issuer = issuer_of(object);
    if issuer.starts_with("ClusterCertificateIssuer/") {
        issuer
    } else {
        format!("{issuer} in {}", object.namespace().unwrap_or_default())
    }
}

fn unrenewed(object: &Certificate, until: Timestamp) -> Option<Unrenewed> {
    let status = object.status.as_ref()?;
    let own = status.not_after.as_ref()?.0;
    // Databases refuse it from the end of the chain on.
    let chain = status.verified.as_ref().and_then(|verified| verified.chain_not_after.as_ref()).map(|time| time.0);
    let why = if object.spec.suspend {
        "it is suspended: kubectl usercert resume".to_owned()
    } else if let Some(failed) = condition(&status.conditions, RENEWAL_FAILED).filter(|failed| failed.status == "True") {
        format!("its renewal fails, {}: {}", failed.reason, failed.message)
    } else if chain.is_some_and(|chain| chain <= own) && status.renewal_time.as_ref().is_some_and(|time| Some(time.0) >= chain)
    {
        "its CA expires before it is renewed: renew the CA".to_owned()
    } else {
        return None;
    };
    let not_after = chain.map_or(own, |chain| chain.min(own));
    (not_after <= until).then(|| Unrenewed {
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        not_after,
        why,
    })
}

/// Why no renewal of the object can be foreseen; `None` if one can, if its first certificate is on its way, or if it is told with its expiry.
fn without_renewal(object: &Certificate, now: Timestamp, until: Timestamp) -> Option<WithoutRenewal> {
    let status = object.status.clone().unwrap_or_default();
    let has_certificate = status.not_before.is_some() && status.not_after.is_some();
    let is_foreseen = has_certificate && (object.spec.suspend || status.renewal_time.is_some());
    if is_foreseen || told(object, now).state == State::Pending || unrenewed(object, until).is_some() {
        return None;
    }
    let why = if has_certificate { "its renewal time is not known" } else { "it has no certificate" };
    Some(WithoutRenewal { namespace: object.namespace().unwrap_or_default(), name: object.name_any(), why })
}

/// The hours with at least so many renewals of one issuer. Each begins with a renewal, and none overlaps another of its issuer.
fn storms(renewals: &[Renewal], least: usize) -> Vec<Storm> {
    let mut times: BTreeMap<&str, Vec<Timestamp>> = BTreeMap::new();
    for renewal in renewals {
        times.entry(&renewal.issuer).or_default().push(renewal.time);
    }
    let mut storms = Vec::new();
    for (issuer, times) in times {
        let mut rest = times.as_slice();
        while let Some(first) = rest.first() {
            let is_within = |time: &Timestamp| time.duration_since(*first) < SignedDuration::from_hours(1);
            let within = rest.partition_point(is_within);
            let is_storm = within >= least;
            if is_storm {
                storms.push(Storm { hour: *first, issuer: issuer.to_owned(), renewals: within });
            }
            rest = &rest[if is_storm { within } else { 1 }..];
        }
    }
    storms.sort_by(|one, other| (one.hour, &one.issuer).cmp(&(other.hour, &other.issuer)));
    storms
}
