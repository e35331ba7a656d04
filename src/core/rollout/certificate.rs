//! What a rollout has to know of a certificate.

use jiff::{SignedDuration, Timestamp};

use crate::{
    api::{BegunWorkload, DatabaseUserCertificate, DatabaseUserCertificateStatus, READY, Reason, Rollout, condition},
    compromised::Compromised,
    rollout::Workload,
};

/// After this time a pod that starts can be trusted to get the new content of a Secret. The kubelet reads Secrets from a watch
/// (`configMapAndSecretChangeDetectionStrategy: Watch`, the default). If it is interrupted, it begins anew after less than 60 s
/// (the backoff of client-go's reflector). With the strategies `Get` and `Cache` a new pod has the Secret read anew.
pub const KUBELET_LAG: SignedDuration = SignedDuration::from_secs(60);

/// So soon after the write of the Secret its time is noted.
const NOTED_WITHIN: SignedDuration = SignedDuration::from_secs(5);

/// A certificate whose object has `spec.rollout`, as it is in its Secret.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own, and any of them may hold together")]
pub struct RolledCertificate {
    /// The name of its object.
    pub name: String,
    /// The name of its Secret.
    pub secret_name: String,
    /// Which workloads follow it.
    pub rollout: Rollout,
    /// Its serial number.
    pub serial_number: String,
    /// When the operator recorded it, right after the Secret was written; later if the Secret was completed later.
    pub written: Timestamp,
    /// Why it was issued.
    pub cause: Option<Reason>,
    /// When the certificate before it expires.
    pub previous_not_after: Option<Timestamp>,
    /// When the first of those before it expires that were in date when it was written.
    pub first_not_after: Option<Timestamp>,
    /// When the last of those before it expires that are compromised.
    pub compromised_not_after: Option<Timestamp>,
    /// Whether it is compromised itself: nobody is moved to it.
    pub is_compromised: bool,
    /// Whether it works: nobody is moved to one that does not, for the one before it may.
    pub is_ready: bool,
    /// Whether the Secret holds all that the spec asks for. A keystore that could not be written has the certificate before.
    pub is_complete: bool,
    /// Whether its object is suspended: then no workload is begun.
    pub is_suspended: bool,
    /// Whether no other was before it, because there was no Secret.
    pub is_first: bool,
    /// The serial numbers of it and of those before it, as far as the status has them.
    pub known: Vec<String>,
    /// The workloads that were begun for it.
    pub begun: Vec<BegunWorkload>,
}

impl RolledCertificate {
    /// Of this object; `None` if it has no `spec.rollout`, or its status names no certificate.
    #[must_use]
    pub fn of(object: &DatabaseUserCertificate) -> Option<Self> {
        let rollout = object.spec.rollout.clone()?;
        let status = object.status.as_ref()?;
        let newest = status.history.first()?;
        if status.serial_number.as_deref() != Some(newest.serial_number.as_str()) {
            return None;
        }
        let compromised = Compromised::of(object);
        Some(Self {
            name: object.metadata.name.clone()?,
            secret_name: object.secret_name(),
            rollout,
            serial_number: newest.serial_number.clone(),
            written: complete_since(status).map_or(newest.recorded_at.0, |since| since.max(newest.recorded_at.0)),
            cause: Reason::from_name(&newest.reason),
            previous_not_after: status.history.get(1).map(|previous| previous.not_after.0),
            first_not_after: {
                let older = status.history.iter().skip(1).map(|issued| issued.not_after.0);
                older.filter(|not_after| *not_after > newest.recorded_at.0).min()
            },
            compromised_not_after: {
                let older = status.history.iter().skip(1).filter(|issued| compromised.has(&issued.serial_number));
                older.map(|issued| issued.not_after.0).max()
            },
            is_compromised: compromised.has(&newest.serial_number),
            is_ready: condition(&status.conditions, READY).is_some_and(|ready| ready.status == "True"),
            is_complete: status.verified.is_some(),
            is_suspended: object.spec.suspend,
            is_first: status.history.len() == 1 && newest.reason == Reason::NoCertificate.as_str(),
            known: status.history.iter().map(|issued| issued.serial_number.clone()).collect(),
            begun: status.rollout.as_ref().map(|rollout| rollout.begun.clone()).unwrap_or_default(),
        })
    }

    /// The same, with a Secret that was completed at this time.
    #[must_use]
    pub(super) fn completed(&self, since: Option<Timestamp>) -> Self {
        Self { written: since.map_or(self.written, |since| since.max(self.written)), ..self.clone() }
    }

    /// From when on a pod that starts has it. A time that is far ahead comes from a clock that was set back since: it says nothing.
    #[must_use]
    pub fn usable_from(&self, now: Timestamp) -> Timestamp {
        let usable_from = self.written.saturating_add(KUBELET_LAG).unwrap_or(self.written);
        if usable_from.duration_since(now) > KUBELET_LAG * 2 { now } else { usable_from }
    }

    /// Since when a container that needs the Secret cannot have run without this certificate, if no other was before it. The time of the
    /// write was noted a moment after it.
    #[must_use]
    pub(super) fn first_seen(&self) -> Option<Timestamp> {
        self.is_first.then(|| self.written.saturating_sub(NOTED_WITHIN).unwrap_or(self.written))
    }

    /// Whether the certificate before it is of no use any more: pods that started before may be refused already, with that one or with the
    /// Secret as it was, or its key is known to others.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        self.cause.is_some_and(|cause| cause == Reason::PairUnusable || cause.is_against_former_certificate())
    }

    /// Whether workloads may run with a compromised certificate, if they may run with those that expire at this time or later.
    #[must_use]
    pub(super) fn is_after_compromised(&self, first_not_after: Option<Timestamp>) -> bool {
        self.compromised_not_after.zip(first_not_after).is_some_and(|(compromised, first)| compromised >= first)
    }

    /// Whether the workload follows this certificate. With `auto` that is each workload that uses the Secret. It is also each that names it to
    /// Reloader, because with `auto` [Reloader restarts nobody](crate::layout::take_over_from_reloader).
    #[must_use]
    pub fn covers(&self, workload: &Workload) -> bool {
        let Rollout { workloads, selector, auto, .. } = &self.rollout;
        let is_named = workloads.iter().flatten().any(|reference| *reference == workload.reference);
        let is_selected = selector.as_ref().is_some_and(|selector| workload.has_labels_of(selector));
        let uses_it = || workload.uses(&self.secret_name).any() || workload.named_to_reloader.contains(&self.secret_name);
        is_named || is_selected || *auto == Some(true) && uses_it()
    }
}

/// When the Secret with the present certificate was seen complete again, if it once was not.
fn complete_since(status: &DatabaseUserCertificateStatus) -> Option<Timestamp> {
    let rollout = status.rollout.as_ref().filter(|rollout| Some(&rollout.serial_number) == status.serial_number.as_ref())?;
    rollout.secret_complete_since.as_ref().map(|since| since.0)
}
