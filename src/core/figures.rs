//! What metrics tell of one object. All of it is in the object, so it costs no request, and no memory of its own.

use jiff::Timestamp;

use crate::{
    api::{DatabaseUserCertificate, IssuerKey, IssuerStatus, ObjectKey, READY, condition},
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
    /// How far its rollout is, if it has one that was looked at.
    pub rollout: Option<Figures>,
    /// How many pods do not have the certificate, if somebody has looked. The object does not say.
    pub pods_behind: Option<i64>,
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
            rollout: RolledCertificate::of(object).and_then(|certificate| Figures::of(object, &certificate)),
            pods_behind: None,
        }
    }
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
    /// When the first certificate of the CA's chain expires. The status does not say.
    pub ca_not_after: Option<Timestamp>,
    /// When the credentials expire at the latest. The status does not say.
    pub credentials_not_after: Option<Timestamp>,
}

impl IssuerFigures {
    /// Of an issuer with this status.
    #[must_use]
    pub fn of(issuer: IssuerKey, status: Option<&IssuerStatus>) -> Self {
        let ready = Readiness::of(status.map_or(&[], |status| &status.conditions));
        Self { issuer, ready, ca_not_after: None, credentials_not_after: None }
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
            rollout: None,
            pods_behind: None,
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
        });
        let spec =
            json!({ "username": "orders", "suspend": true, "issuerRef": { "kind": "ClusterCertificateIssuer", "name": "ca" } });
        let found = figures(&spec, &status);
        let at = |hour: u8| Some(time(hour).parse().unwrap());
        assert_eq!(found.issuer, "ClusterCertificateIssuer/ca");
        assert_eq!((found.ready, found.not_after, found.renewal_time), (Readiness::True, at(3), at(1)));
        assert_eq!((found.consecutive_failures, found.is_suspended), (4, true));
        assert_eq!((found.unaccounted, found.unaccounted_latest_expiry), (2, at(5)));
        assert_eq!(figures(&spec, &json!({ "conditions": ready("False") })).ready, Readiness::False);
    }
}
