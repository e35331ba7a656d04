//! What is ahead: a pure function of the objects and the time.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde::Serialize;
use usercert_operator_core::{
    api::{DatabaseUserCertificateStatus, RENEWAL_FAILED, condition, truncated_to_second},
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

/// The most renewals of all certificates that are foreseen: they take some tens of megabytes.
pub(super) const FORESEEN_IN_ALL: usize = 100_000;

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
    /// Until when renewals are foreseen, if there are too many of them to foresee all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) foreseen_until: Option<Timestamp>,
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
    let foreseen_until = foreseen_until(objects, now, until);
    let horizon = foreseen_until.unwrap_or(until);
    let each: Vec<Vec<Renewal>> = objects.iter().map(|object| renewals_of(object, now, horizon)).collect();
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
        foreseen_until,
        operator: None,
        clocks: Vec::new(),
    }
}

/// When one certificate is renewed, if lifetimes stay: again and again until its CA ends.
struct Series {
    first: Timestamp,
    interval: SignedDuration,
    /// No certificate outlasts it.
    end: Timestamp,
}

impl Series {
    /// `None` if no renewal can be foreseen.
    fn of(object: &Certificate, now: Timestamp) -> Option<Self> {
        let status = object.status.as_ref().filter(|_| !object.spec.suspend)?;
        let (next, begun) = (status.renewal_time.as_ref()?.0, status.not_before.as_ref()?.0);
        let interval = next.duration_since(begun).max(SignedDuration::from_mins(1));
        // One that is overdue is due now.
        Some(Self { first: next.max(now), interval, end: end_of_ca(status).unwrap_or(Timestamp::MAX) })
    }

    /// The renewals until this time, [`FORESEEN`] at most.
    fn until(&self, until: Timestamp) -> impl Iterator<Item = Timestamp> {
        let next = |time: &Timestamp| time.saturating_add(self.interval).ok();
        let all = std::iter::successors(Some(self.first), next);
        all.take_while(move |time| *time <= until && *time < self.end).take(FORESEEN)
    }

    /// How many these are, about.
    fn count(&self, until: Timestamp) -> usize {
        let length = until.min(self.end).duration_since(self.first);
        let whole = length.as_secs().div_euclid(self.interval.as_secs()) + 1;
        usize::try_from(whole).unwrap_or_default().min(FORESEEN)
    }
}

/// When the first of the certificates above this one expires. Databases refuse it from then on.
fn end_of_ca(status: &DatabaseUserCertificateStatus) -> Option<Timestamp> {
    Some(status.verified.as_ref()?.chain_not_after.as_ref()?.0)
}

/// The time until which there are about [`FORESEEN_IN_ALL`] renewals; `None` if there are no more than that.
fn foreseen_until(objects: &[Certificate], now: Timestamp, until: Timestamp) -> Option<Timestamp> {
    let all: Vec<Series> = objects.iter().filter_map(|object| Series::of(object, now)).collect();
    let is_too_many = |until: Timestamp| all.iter().map(|series| series.count(until)).sum::<usize>() > FORESEEN_IN_ALL;
    if !is_too_many(until) {
        return None;
    }
    let (mut few, mut many) = (now, until);
    while many.duration_since(few) > SignedDuration::from_secs(1) {
        let middle = few.saturating_add(many.duration_since(few) / 2).unwrap_or(many);
        if is_too_many(middle) { many = middle } else { few = middle }
    }
    Some(truncated_to_second(few).max(now))
}

fn renewals_of(object: &Certificate, now: Timestamp, until: Timestamp) -> Vec<Renewal> {
    let Some(series) = Series::of(object, now) else { return Vec::new() };
    let windows =
        object.spec.rollout.as_ref().and_then(|rollout| Windows::parse(rollout.windows.as_deref().unwrap_or_default()).ok());
    let renewal = |(number, time): (usize, Timestamp)| Renewal {
        time,
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        issuer: issuer_of_object(object),
        is_estimate: number > 0,
        workloads_from: windows.as_ref().and_then(|windows| windows.next_opening(time)),
    };
    series.until(until).enumerate().map(renewal).collect()
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
    let ca = end_of_ca(status);
    let earliest = ca.map_or(own, |ca| ca.min(own));
    let (not_after, why) = if object.spec.suspend {
        (earliest, "it is suspended: kubectl usercert resume".to_owned())
    } else if let Some(failed) = condition(&status.conditions, RENEWAL_FAILED).filter(|failed| failed.status == "True") {
        (earliest, format!("its renewal fails, {}: {}", failed.reason, failed.message))
    } else {
        // Without a renewal ahead that is told.
        let (ca, renewal) = (ca?, status.renewal_time.as_ref()?.0);
        let why = if renewal >= ca {
            "its CA expires before it is renewed: renew the CA"
        } else {
            "its CA ends then, and no certificate of it lasts longer: renew the CA"
        };
        (ca, why.to_owned())
    };
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
