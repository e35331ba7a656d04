//! What metrics tell of one object. All of it is in the object, so it costs no request, and no memory of its own.

use jiff::{SignedDuration, Timestamp};

use crate::{
    api::{DatabaseUserCertificate, IssuerKey, IssuerStatus, ObjectKey, READY, Reason, condition},
    rollout::{Figures, RolledCertificate},
};

/// The status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Readiness {
    /// True.
    True,
    /// False.
    False,
    /// There is none yet, or it says so itself.
    Unknown,
}

impl Readiness {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::True, Self::False, Self::Unknown];

    /// As conditions have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }

    fn of(conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition]) -> Self {
        match condition(conditions, READY).map(|ready| ready.status.as_str()) {
            Some("True") => Self::True,
            Some("False") => Self::False,
            _ => Self::Unknown,
        }
    }
}

/// The figures of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFigures {
    /// Which one.
    pub object: ObjectKey,
    /// `KIND/NAME` of its issuer, or `userRef`.
    pub issuer: String,
    /// The condition Ready.
    pub ready: Readiness,
    /// When the certificate in the Secret expires.
    pub not_after: Option<Timestamp>,
    /// When it is renewed.
    pub renewal_time: Option<Timestamp>,
    /// How often in a row no certificate could be issued.
    pub consecutive_failures: i64,
    /// How many certificates of its database user no Secret holds or has held.
    pub unaccounted: i64,
    /// When the last of those expires that Atlas lists.
    pub unaccounted_latest_expiry: Option<Timestamp>,
    /// Whether it is suspended.
    pub is_suspended: bool,
    /// Whether it has ever had a certificate.
    pub had_certificate: bool,
    /// How far its rollout is, if it has one that was looked at.
    pub rollout: Option<Figures>,
    /// How many pods do not have the certificate, if somebody has looked. The object does not say.
    pub pods_behind: Option<i64>,
    /// Whether the issuer that the spec names is there. The object does not say.
    pub issuer_exists: bool,
    /// Why Atlas refused the credentials at the last attempt, if the object names no issuer. One that names an issuer has the issuer tell it.
    pub credentials_refused: Option<Reason>,
}

impl CertificateFigures {
    /// Of an object.
    #[must_use]
    pub fn of(object: &DatabaseUserCertificate) -> Self {
        let status = object.status.as_ref();
        let unaccounted = status.and_then(|status| status.unaccounted_certificates.as_ref());
        Self {
            object: ObjectKey::of(object),
            issuer: issuer(object),
            ready: Readiness::of(status.map_or(&[], |status| &status.conditions)),
            not_after: status.and_then(|status| status.not_after.as_ref()).map(|time| time.0),
            renewal_time: status.and_then(|status| status.renewal_time.as_ref()).map(|time| time.0),
            consecutive_failures: status.and_then(|status| status.failure.as_ref()).map_or(0, |failure| failure.count),
            unaccounted: unaccounted.map_or(0, |found| found.count),
            unaccounted_latest_expiry: unaccounted.and_then(|found| found.latest_expiry.as_ref()).map(|time| time.0),
            is_suspended: object.spec.suspend,
            had_certificate: status.is_some_and(|status| !status.history.is_empty()),
            rollout: RolledCertificate::of(object).and_then(|certificate| Figures::of(object, &certificate)),
            pods_behind: None,
            issuer_exists: true,
            credentials_refused: credentials_refused(object),
        }
    }

    /// Whether the Secret should hold a working certificate: not where the object was suspended before it had one.
    #[must_use]
    pub const fn is_expected(&self) -> bool {
        self.had_certificate || !self.is_suspended
    }

    /// Whether the certificate in the Secret has expired.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.not_after.is_some_and(|not_after| not_after <= now)
    }

    /// Whether the certificate works and should have been renewed. Nobody wants a suspended one renewed.
    #[must_use]
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        !self.is_suspended && !self.is_expired(now) && self.renewal_time.is_some_and(|renewal| renewal <= now)
    }

    /// When the certificate expires, if its renewal has been due for an hour, or for half of the time until then. The alert has the same numbers
    /// for series of each certificate.
    #[must_use]
    pub fn late_not_after(&self, now: Timestamp) -> Option<Timestamp> {
        let (not_after, renewal) = self.not_after.zip(self.renewal_time).filter(|_| self.is_overdue(now))?;
        let (left, overdue) = (not_after.duration_since(now), now.duration_since(renewal));
        (overdue > left.min(LATE)).then_some(not_after)
    }

    /// Whether workloads may use the old certificate still, with less than a twentieth of the time left that the new one has. What is late for a
    /// certificate of months is not so for one of hours, so this is no number of days.
    #[must_use]
    pub fn is_rollout_late(&self, now: Timestamp) -> bool {
        let old = self.rollout.as_ref().filter(|rollout| !rollout.is_complete).and_then(|rollout| rollout.old_not_after);
        let left = |not_after: Timestamp| not_after.as_second() - now.as_second();
        old.zip(self.not_after).is_some_and(|(old, new)| left(old).saturating_mul(LATE_FRACTION) < left(new))
    }
}

/// A renewal is late when it has been due for so long.
const LATE: SignedDuration = SignedDuration::from_hours(1);

/// A rollout is late when the old certificate has less than this part of the time left that the new one has: one twentieth. The alert has the same
/// number for series of each certificate.
const LATE_FRACTION: i64 = 20;

fn credentials_refused(object: &DatabaseUserCertificate) -> Option<Reason> {
    let failure = object.status.as_ref()?.failure.as_ref()?;
    let is_told_here = object.spec.issuer_ref.is_none() && !object.spec.suspend;
    Reason::from_name(&failure.reason).filter(|reason| is_told_here && reason.is_about_credentials())
}

/// The issuer of an object, as metrics name it.
fn issuer(object: &DatabaseUserCertificate) -> String {
    match &object.spec.issuer_ref {
        Some(issuer) => format!("{}/{}", issuer.kind.as_str(), issuer.name),
        None => "userRef".to_owned(),
    }
}

/// The figures of an issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerFigures {
    /// Which one.
    pub issuer: IssuerKey,
    /// The condition Ready.
    pub ready: Readiness,
    /// Why Atlas refuses its credentials, if it does.
    pub credentials_refused: Option<Reason>,
    /// When the first certificate of the CA's chain expires. The status does not say.
    pub ca_not_after: Option<Timestamp>,
    /// When the credentials expire at the latest. The status does not say.
    pub credentials_not_after: Option<Timestamp>,
}

impl IssuerFigures {
    /// Of an issuer with this status.
    #[must_use]
    pub fn of(issuer: IssuerKey, status: Option<&IssuerStatus>) -> Self {
        let conditions = status.map_or(&[][..], |status| &status.conditions);
        let reason = condition(conditions, READY).and_then(|ready| Reason::from_name(&ready.reason));
        Self {
            issuer,
            ready: Readiness::of(conditions),
            credentials_refused: reason.filter(|reason| reason.is_about_credentials()),
            ca_not_after: None,
            credentials_not_after: None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn figures(spec: &Value, status: &Value) -> CertificateFigures {
        let object = json!({
            "apiVersion": "usercert.dev/v1alpha1", "kind": "DatabaseUserCertificate",
            "metadata": { "name": "orders", "namespace": "shop" }, "spec": spec, "status": status,
        });
        CertificateFigures::of(&serde_json::from_value(object).unwrap())
    }

    #[test]
    fn an_object_that_nobody_has_looked_at_is_not_known_to_be_ready_and_has_not_failed() {
        let expected = CertificateFigures {
            object: ObjectKey::new("shop", "orders"),
            issuer: "userRef".to_owned(),
            ready: Readiness::Unknown,
            not_after: None,
            renewal_time: None,
            consecutive_failures: 0,
            unaccounted: 0,
            unaccounted_latest_expiry: None,
            is_suspended: false,
            had_certificate: false,
            rollout: None,
            pods_behind: None,
            issuer_exists: true,
            credentials_refused: None,
        };
        assert_eq!(figures(&json!({ "userRef": { "name": "orders" } }), &json!({ "observedGeneration": -1 })), expected);
    }

    #[test]
    fn the_figures_are_those_of_the_status() {
        let time = |hour: u8| format!("2026-12-01T{hour:02}:00:00Z");
        let ready = |status: &str| json!([{ "type": "Ready", "status": status, "reason": "Issued", "message": "", "lastTransitionTime": time(0) }]);
        let status = json!({
            "notAfter": time(3), "renewalTime": time(1), "conditions": ready("True"),
            "failure": { "count": 4, "reason": "AtlasUnavailable", "message": "", "lastTime": time(0), "nextAttempt": time(2), "inputs": "" },
            "unaccountedCertificates": { "count": 2, "latestExpiry": time(5) },
            "history": [{ "serialNumber": "4AF3", "reason": "NoCertificate", "recordedAt": time(0), "notAfter": time(3) }],
        });
        let spec =
            json!({ "username": "orders", "suspend": true, "issuerRef": { "kind": "ClusterCertificateIssuer", "name": "ca" } });
        let found = figures(&spec, &status);
        let at = |hour: u8| Some(time(hour).parse().unwrap());
        assert_eq!(found.issuer, "ClusterCertificateIssuer/ca");
        assert_eq!((found.ready, found.not_after, found.renewal_time), (Readiness::True, at(3), at(1)));
        assert_eq!((found.consecutive_failures, found.is_suspended, found.had_certificate), (4, true, true));
        assert_eq!((found.unaccounted, found.unaccounted_latest_expiry), (2, at(5)));
        assert_eq!(figures(&spec, &json!({ "conditions": ready("False") })).ready, Readiness::False);
    }

    #[test]
    fn refused_credentials_are_told_of_the_issuer_if_there_is_one_and_else_of_the_certificate() {
        let failed = |reason: &str| json!({ "failure": { "count": 1, "reason": reason, "message": "", "lastTime": "2026-12-01T00:00:00Z", "nextAttempt": "2026-12-01T00:00:00Z", "inputs": "" } });
        let refused = failed("AtlasClientSecretRefused");
        let user = json!({ "userRef": { "name": "orders" } });
        assert_eq!(figures(&user, &refused).credentials_refused, Some(Reason::AtlasClientSecretRefused));
        assert_eq!(figures(&user, &failed("AtlasConflict")).credentials_refused, None, "that is not about credentials");
        let suspended = json!({ "userRef": { "name": "orders" }, "suspend": true });
        assert_eq!(figures(&suspended, &refused).credentials_refused, None, "nothing is tried");
        let of_an_issuer = json!({ "username": "orders", "issuerRef": { "kind": "CertificateIssuer", "name": "atlas" } });
        assert_eq!(figures(&of_an_issuer, &refused).credentials_refused, None, "the issuer tells it");

        let issuer = |reason: &str| {
            let status: IssuerStatus = serde_json::from_value(json!({ "conditions": [{
                "type": "Ready", "status": "False", "reason": reason, "message": "", "lastTransitionTime": "2026-12-01T00:00:00Z",
            }] }))
            .unwrap();
            let key = IssuerKey {
                kind: crate::api::IssuerKind::CertificateIssuer,
                namespace: "shop".to_owned(),
                name: "a".to_owned(),
            };
            IssuerFigures::of(key, Some(&status)).credentials_refused
        };
        assert_eq!(issuer("AtlasUnauthorized"), Some(Reason::AtlasUnauthorized));
        assert_eq!(issuer("CredentialsNotFound"), None, "Atlas has refused nothing");
    }

    #[test]
    fn overdue_is_what_works_still_and_should_have_been_renewed_by_an_operator_that_may() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let of = |not_after: i64, renewal: Option<i64>, is_suspended: bool| CertificateFigures {
            not_after: Some(at(not_after)),
            renewal_time: renewal.map(at),
            is_suspended,
            ..figures(&json!({ "userRef": { "name": "orders" } }), &json!({}))
        };
        let seen = |figures: &CertificateFigures| (figures.is_expired(at(100)), figures.is_overdue(at(100)));
        assert_eq!(seen(&of(200, Some(150), false)), (false, false));
        assert_eq!(seen(&of(200, Some(100), false)), (false, true));
        assert_eq!(seen(&of(200, Some(100), true)), (false, false), "suspended");
        assert_eq!(seen(&of(200, None, false)), (false, false));
        assert_eq!(seen(&of(100, Some(50), false)), (true, false), "expired");
    }

    #[test]
    fn a_renewal_is_late_after_an_hour_or_half_of_the_time_that_is_left_for_it() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let is_late = |not_after: i64, renewal: i64, now: i64, is_suspended: bool| {
            let certificate = CertificateFigures {
                not_after: Some(at(not_after)),
                renewal_time: Some(at(renewal)),
                is_suspended,
                ..figures(&json!({ "userRef": { "name": "orders" } }), &json!({}))
            };
            certificate.late_not_after(at(now)).is_some()
        };
        let (minute, hour, day) = (60, 3600, 86_400);
        assert!(
            !is_late(90 * day, 60 * day, 60 * day + hour, false) && is_late(90 * day, 60 * day, 60 * day + hour + 1, false)
        );
        assert!(!is_late(hour, 40 * minute, 50 * minute, false) && is_late(hour, 40 * minute, 50 * minute + 1, false));
        assert!(!is_late(hour, 40 * minute, 39 * minute, false), "its renewal is to come");
        assert!(!is_late(hour, 40 * minute, 55 * minute, true), "suspended");
        assert!(!is_late(hour, 40 * minute, hour, false), "expired");
    }

    #[test]
    fn who_was_suspended_before_the_first_certificate_is_not_expected_to_have_one() {
        let of = |is_suspended: bool, had_certificate: bool| CertificateFigures {
            is_suspended,
            had_certificate,
            ..figures(&json!({ "userRef": { "name": "orders" } }), &json!({}))
        };
        let expected = |is_suspended, had_certificate| of(is_suspended, had_certificate).is_expected();
        assert!(expected(false, false) && expected(true, true) && !expected(true, false));
    }

    #[test]
    fn a_rollout_is_late_by_the_life_of_its_certificates() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let of = |old: i64, new: i64| CertificateFigures {
            not_after: Some(at(new)),
            rollout: Some(Figures {
                serial_number: "4AF3".to_owned(),
                workloads: 1,
                moved: 0,
                is_complete: false,
                old_not_after: Some(at(old)),
                regardless_of_windows_after: None,
            }),
            ..figures(&json!({ "userRef": { "name": "orders" } }), &json!({}))
        };
        let (hour, day) = (3600, 86_400);
        assert!(!of(8 * hour, day).is_rollout_late(at(0)), "renewed just now, with a third of a day left");
        assert!(of(hour, day).is_rollout_late(at(0)));
        assert!(!of(30 * day, 90 * day).is_rollout_late(at(0)));
        assert!(of(3 * day, 63 * day).is_rollout_late(at(0)));
        assert!(of(-day, 60 * day).is_rollout_late(at(0)) && of(-2 * day, -day).is_rollout_late(at(0)), "expired");
        let mut complete = of(hour, day);
        complete.rollout.as_mut().unwrap().is_complete = true;
        assert!(!complete.is_rollout_late(at(0)));
    }
}
