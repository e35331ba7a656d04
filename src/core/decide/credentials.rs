//! What Atlas answered to certificates about the credentials of their issuer. The status of the issuer tells it; no decision
//! depends on it.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Desired, Inputs, IssuerFacts};
use crate::api::{CertificateFailure, DatabaseUserCertificate, IssuedCertificate, Reason};

/// Why Atlas refuses the credentials of an issuer, according to the certificates that use it.
///
/// This is the last refusal, unless a certificate was issued since, or the issuer or its Secret has changed. It is read from the
/// statuses of the certificates, so a new process knows it too. A suspended certificate is not tried, so its refusal would stand for as long as
/// it is suspended.
#[must_use]
pub fn refused_credentials<'a>(
    issuer: &IssuerFacts,
    users: impl IntoIterator<Item = &'a DatabaseUserCertificate>,
) -> Option<Reason> {
    let (mut refused, mut succeeded) = (None, None);
    for user in users {
        refused = refused.max(refusal(issuer, user).map(|(failure, reason)| (order(user, &failure.last_time), reason)));
        succeeded = succeeded.max(newest(issuer, user).map(|newest| order(user, &newest.recorded_at)));
    }
    let (when, reason) = refused?;
    // A certificate that is issued after its own refusal loses the record of the refusal.
    (succeeded <= Some(when)).then_some(reason)
}

/// The order of reports. Times have whole seconds. Within a second, the later write has the higher resourceVersion, if versions
/// are numbers.
fn order(user: &DatabaseUserCertificate, time: &Time) -> (Timestamp, u64) {
    let version = user.metadata.resource_version.as_deref().and_then(|version| version.parse().ok());
    (time.0, version.unwrap_or_default())
}

/// The failure of a certificate that is tried again, if it is about the credentials of its issuer as they are now.
fn refusal<'a>(issuer: &IssuerFacts, user: &'a DatabaseUserCertificate) -> Option<(&'a CertificateFailure, Reason)> {
    let failure = user.status.as_ref().filter(|_| !user.spec.suspend)?.failure.as_ref()?;
    let reason = Reason::from_name(&failure.reason).filter(|reason| reason.is_about_credentials())?;
    let desired = Desired::new(user, issuer).ok()?;
    (Inputs::of(failure)? == Inputs::new(&desired, issuer)).then_some((failure, reason))
}

fn newest<'a>(issuer: &IssuerFacts, user: &'a DatabaseUserCertificate) -> Option<&'a IssuedCertificate> {
    let newest = user.status.as_ref()?.history.first()?;
    (newest.issuer.as_deref() == Some(issuer.identity.as_str())).then_some(newest)
}
