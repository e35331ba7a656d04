//! When a certificate is renewed: a pure function of the certificate, the spec and the UID of the object.
//!
//! | `spec` | Renewed this long before expiry, at the latest |
//! | --- | --- |
//! | nothing | a third of the lifetime; at least 35 days, if the lifetime is 89 days or more |
//! | `renewBefore` | that time; a third of the lifetime, if the time is not shorter than the lifetime |
//! | `renewBeforePercentage` | that share of the lifetime |

use aws_lc_rs::digest;
use jiff::{SignedDuration, Timestamp};

use super::{RenewBefore, desired};
use crate::{
    api::{DatabaseUserCertificate, truncated_to_second},
    certificate::CertificateFacts,
};

/// The shortest default for long lifetimes. mongod and Atlas warn when a client certificate has under 30 days left
/// (`tlsX509ExpirationWarningThresholdDays`).
const QUIET_RENEW_BEFORE: SignedDuration = SignedDuration::from_hours(35 * 24);

/// The lifetime from which on the default stays clear of those warnings: three calendar months are at least 89 days.
const QUIET_LIFETIME: SignedDuration = SignedDuration::from_hours(89 * 24);

/// How long before expiry a certificate of this lifetime is renewed, at the latest.
///
/// A fixed time that is not shorter than the lifetime falls back to one third of the lifetime. A CA near its end shortens
/// lifetimes, so this happens.
#[must_use]
pub fn renew_before(wanted: RenewBefore, lifetime: SignedDuration) -> SignedDuration {
    let third = lifetime / 3;
    match wanted {
        RenewBefore::Time(time) if time < lifetime => time,
        RenewBefore::Percentage(percentage) => {
            SignedDuration::from_secs(lifetime.as_secs() / 100 * i64::from(percentage.clamp(1, 90)))
        }
        RenewBefore::Default if lifetime >= QUIET_LIFETIME => third.max(QUIET_RENEW_BEFORE),
        RenewBefore::Default | RenewBefore::Time(_) => third,
    }
}

/// When to renew: [`renew_before`] ahead of expiry, and up to a tenth of that earlier. How much earlier depends on the UID of the
/// object, so that certificates that were issued together are not renewed together.
///
/// It is never in the first tenth of the lifetime: a renewal that is due at once would be due again at once.
#[must_use]
pub fn renewal_time(certificate: &CertificateFacts, wanted: RenewBefore, uid: &str) -> Timestamp {
    within([certificate.not_before, certificate.not_after], wanted, uid)
}

/// When the certificate in the Secret of this object is or was to be renewed, as its status and spec tell: for an object that is suspended, whose
/// status has no renewal time. `None` if the object has no certificate, or its spec cannot be read.
#[must_use]
pub fn renewal_time_without_suspension(object: &DatabaseUserCertificate) -> Option<Timestamp> {
    let status = object.status.as_ref()?;
    let validity = [status.not_before.as_ref()?.0, status.not_after.as_ref()?.0];
    let wanted = desired::renew_before(object).ok()?;
    Some(within(validity, wanted, object.metadata.uid.as_deref().unwrap_or_default()))
}

fn within([not_before, not_after]: [Timestamp; 2], wanted: RenewBefore, uid: &str) -> Timestamp {
    let lifetime = not_after.duration_since(not_before);
    let before = renew_before(wanted, lifetime);
    let jitter = SignedDuration::from_secs_f64(before.as_secs_f64() / 10.0 * share(uid));
    let due = not_after.saturating_sub(before + jitter).unwrap_or(not_after);
    let earliest = not_before.saturating_add(lifetime / 10).unwrap_or(not_after);
    truncated_to_second(due.max(earliest))
}

/// A sentence about a fixed time that the lifetime of the certificate leaves no room for. `None` if there is room.
pub(super) fn unheeded_renew_before(certificate: &CertificateFacts, wanted: RenewBefore) -> Option<String> {
    let lifetime = certificate.not_after.duration_since(certificate.not_before);
    let RenewBefore::Time(time) = wanted else { return None };
    if time >= lifetime {
        return Some(format!(
            "spec.renewBefore ({time:#}) is no shorter than the certificate's lifetime ({lifetime:#}), so a third of that is taken"
        ));
    }
    (time > lifetime - lifetime / 10).then(|| {
        format!("spec.renewBefore ({time:#}) is cut to nine tenths of the certificate's lifetime ({lifetime:#}), for a renewal that is due at once would be due again at once")
    })
}

/// A number from 0 up to but not including 1, which depends on the text alone.
pub(crate) fn share(text: &str) -> f64 {
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    let bits = digest.as_ref().iter().take(4).fold(0_u32, |bits, byte| (bits << 8) | u32::from(*byte));
    f64::from(bits) / (f64::from(u32::MAX) + 1.0)
}
