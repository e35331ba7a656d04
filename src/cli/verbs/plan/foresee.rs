//! What is ahead: a pure function of the objects and the time.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde::Serialize;
use usercert_operator_core::{
    api::{RENEWAL_FAILED, condition},
    decide::ISSUES_IN_AN_HOUR,
    rollout::Windows,
};

use crate::verbs::{leader::Leader, objects::Certificate, state::issuer_of};

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
    /// Certificates that expire in this time if nothing changes.
    pub(super) unrenewed: Vec<Unrenewed>,
    /// Certificates with more renewals than are foreseen.
    pub(super) cut_off: Vec<CutOff>,
    /// Who carries it out.
    pub(super) operator: Option<Leader>,
}

/// One renewal: the next one of a certificate at the time that the operator has set, later ones where they will be if lifetimes stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Renewal {
    pub(super) time: Timestamp,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) issuer: String,
    /// Whether it is estimated: the time depends on a certificate that is not there yet.
    pub(super) is_estimate: bool,
    /// When the workloads follow, if a rollout window has to be waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) workloads_from: Option<Timestamp>,
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

/// A certificate that is to be renewed more often than the operator does it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Limited {
    pub(super) namespace: String,
    pub(super) name: String,
    /// The first renewal that waits.
    pub(super) from: Timestamp,
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

/// What is ahead within this time. `storm`: how many renewals of one issuer within an hour are one.
pub(super) fn foresee(objects: &[Certificate], now: Timestamp, length: SignedDuration, storm: usize) -> Plan {
    let until = now.saturating_add(length).unwrap_or(Timestamp::MAX);
    let each: Vec<Vec<Renewal>> = objects.iter().map(|object| renewals_of(object, now, until)).collect();
    let limited = each.iter().filter_map(|renewals| limited(renewals)).collect();
    let cut_off = each.iter().filter(|renewals| renewals.len() == FORESEEN).filter_map(|renewals| renewals.last());
    let cut_off = cut_off.map(|last| CutOff { namespace: last.namespace.clone(), name: last.name.clone(), after: last.time });
    let cut_off = cut_off.collect();
    let mut renewals: Vec<Renewal> = each.into_iter().flatten().collect();
    renewals.sort_by(|one, other| (one.time, &one.namespace, &one.name).cmp(&(other.time, &other.namespace, &other.name)));
    let mut unrenewed: Vec<Unrenewed> = objects.iter().filter_map(|object| unrenewed(object, until)).collect();
    unrenewed.sort_by_key(|found| found.not_after);
    Plan { from: now, until, storms: storms(&renewals, storm), limited, renewals, unrenewed, cut_off, operator: None }
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

/// The first renewal of one certificate that has to wait, because there were as many as an hour may have.
fn limited(renewals: &[Renewal]) -> Option<Limited> {
    let is_too_many = |found: &&[Renewal]| {
        let first_and_last = found.first().zip(found.last());
        first_and_last.is_some_and(|(first, last)| last.time.duration_since(first.time) < SignedDuration::from_hours(1))
    };
    let waits = renewals.windows(ISSUES_IN_AN_HOUR + 1).find(is_too_many)?.last()?;
    Some(Limited { namespace: waits.namespace.clone(), name: waits.name.clone(), from: waits.time })
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
