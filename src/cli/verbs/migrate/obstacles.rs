//! What is in the way of a takeover, and what somebody may accept. What the operator would decide is in the way, if the certificate would not stay.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use usercert_operator_controller::secret::{NamedPassword, read};
use usercert_operator_core::{
    api::{DatabaseUserCertificate, IssuerStatus, READY, Reason, condition},
    certificate::CertificateFacts,
    decide::{Decision, Observed, RenewBefore, SecretState, decide, renew_before},
    layout::{FormerPair, former_pair},
};

use crate::{arguments::Acceptance, verbs::objects::Certificate};

/// A renewal that is due within this time counts as due: it may come before anybody has looked at what the takeover has brought.
const SOON: SignedDuration = SignedDuration::from_hours(1);

/// What somebody may accept, with a flag for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Consent {
    /// A new certificate follows at once.
    NewCertificate,
    /// Nothing shows that the certificate is from the issuer.
    UnknownIssuer,
    /// Something goes that programs may rely on.
    Loss,
    /// A tool has written the Secret, and has let go of it.
    FormerWriter,
}

impl Consent {
    /// All of them, in the order in which they are told.
    pub(super) const ALL: [Self; 4] = [Self::FormerWriter, Self::Loss, Self::NewCertificate, Self::UnknownIssuer];

    /// The flag that gives it.
    pub(super) const fn flag(self) -> &'static str {
        match self {
            Self::NewCertificate => "--accept-new-certificate",
            Self::UnknownIssuer => "--accept-unknown-issuer",
            Self::Loss => "--accept-loss",
            Self::FormerWriter => "--accept-former-writer",
        }
    }

    /// Whether it is given.
    pub(super) const fn is_given(self, by: Acceptance) -> bool {
        match self {
            Self::NewCertificate => by.new_certificate,
            Self::UnknownIssuer => by.unknown_issuer,
            Self::Loss => by.loss,
            Self::FormerWriter => by.former_writer,
        }
    }
}

/// What is in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Obstacle {
    /// What it is, and what to change.
    pub(super) message: String,
    /// What has to be accepted to do it all the same; `None` if it has to be changed before.
    pub(super) consent: Option<Consent>,
}

impl Obstacle {
    /// One that has to be changed before.
    pub(super) fn change(message: impl Into<String>) -> Self {
        Self { message: message.into(), consent: None }
    }

    /// One that may be accepted.
    pub(super) fn unless(consent: Consent, message: impl Into<String>) -> Self {
        Self { message: message.into(), consent: Some(consent) }
    }

    /// Whether it was accepted.
    pub(super) fn is_accepted(&self, acceptance: Acceptance) -> bool {
        self.consent.is_some_and(|consent| consent.is_given(acceptance))
    }
}

/// What the operator would decide about the object once the Secret is its own; `None` if it would leave the certificate as it is.
pub(super) fn of_decision(object: &Certificate, secret: &Secret, mut observed: Observed, now: Timestamp) -> Option<Obstacle> {
    let mut view = read(object, secret, &NamedPassword::default()).view;
    // The takeover itself carries it out.
    view.deletion_policy = Some(object.spec.deletion_policy);
    let certificate = view.certificate.clone().ok();
    observed.secret = SecretState::Ours(Box::new(view));
    let change = |sentence: String| Some(Obstacle::change(sentence));
    match decide(object, &observed, now) {
        Decision::Keep { .. } | Decision::Repair { .. } => certificate.and_then(|certificate| due_soon(&certificate, now)),
        Decision::Await => change(
            "the operator has not looked at the present spec of the issuer: see that it runs and serves this namespace (kubectl usercert check)"
                .to_owned(),
        ),
        Decision::Wait { reason, message, .. } | Decision::Block { reason, message } => {
            change(format!("the certificate would not be renewed, {reason}: {message}"))
        }
        decision => match decision.cause() {
            Some(cause) if certificate.is_some_and(|replaced| keeps_former_pair(object, cause, &replaced, now)) => Some(Obstacle::unless(
                Consent::NewCertificate,
                format!("the operator would issue a new certificate at once, for {cause}"),
            )),
            Some(cause) => change(format!(
                "the operator would issue a new certificate at once, for {cause}, and not keep the former one: create a DatabaseUserCertificate with a Secret of its own and move the programs to it"
            )),
            None => change(format!("the operator would first {} {}", decision.name(), object.name_any())),
        },
    }
}

/// A renewal that may be due soon. The operator renews up to a tenth ahead of the latest time, by the UID that the object will get. So the
/// earliest time counts.
fn due_soon(certificate: &CertificateFacts, now: Timestamp) -> Option<Obstacle> {
    let before = renew_before(RenewBefore::Default, certificate.not_after.duration_since(certificate.not_before));
    (certificate.not_after.duration_since(now) - before - before / 10 <= SOON).then(|| {
        Obstacle::unless(
            Consent::NewCertificate,
            format!("the operator may issue a new certificate within an hour, for {}", Reason::RenewalDue),
        )
    })
}

/// An issuer whose credentials Atlas refuses. The operator tries them again, and a renewal fails as long as they are refused.
pub(super) fn of_credentials(issuer: Option<&IssuerStatus>) -> Option<Obstacle> {
    let ready = condition(&issuer?.conditions, READY).filter(|ready| ready.status != "True")?;
    let reason = Reason::from_name(&ready.reason).filter(|reason| reason.is_about_credentials())?;
    Some(Obstacle::change(format!("the certificate would not be renewed, {reason}: {}", ready.message)))
}

/// Whether the operator keeps the pair that it replaces for this cause, if `keepPrevious` asks for that.
fn keeps_former_pair(object: &Certificate, cause: Reason, replaced: &CertificateFacts, now: Timestamp) -> bool {
    let mut asked = DatabaseUserCertificate::clone(object);
    asked.spec.keep_previous = true;
    let new = CertificateFacts { serial_number: "00".into(), ..replaced.clone() };
    former_pair(&asked, cause, replaced, &new, now) == FormerPair::Replaced
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use usercert_operator_core::decide::{Allow, IssuerFacts, IssuerState, IssuingMethod};

    use super::*;
    use crate::verbs::migrate::prepare::{
        self,
        tests::{prepared, secret},
    };

    #[test]
    fn a_new_certificate_may_be_accepted_only_where_the_former_pair_is_kept() {
        let secret = secret(None, |_| {});
        let takeover = prepared(&secret, true).unwrap_or_else(|fault| unreachable!("{fault}"));
        let object: DatabaseUserCertificate = serde_json::from_value(takeover.object).unwrap();
        let (object, facts) = (Certificate::from(object), takeover.facts);
        let keeps = |cause| keeps_former_pair(&object, cause, &facts, prepare::tests::now());
        assert!(keeps(Reason::RenewalDue) && keeps(Reason::PrivateKeyChanged));
        assert!(!keeps(Reason::ChainBroken) && !keeps(Reason::PairUnusable));
    }

    #[rstest]
    #[case::it_is_kept("2026-01-10T00:00:00Z", None)]
    // It lives for 90 days, so it is renewed 35 to 38.5 days before its end: by the UID of the object.
    #[case::it_is_kept_for_more_than_an_hour("2026-02-21T10:59:59Z", None)]
    #[case::it_may_be_due_within_an_hour(
        "2026-02-21T11:00:00Z",
        Some(Obstacle::unless(
            Consent::NewCertificate,
            "the operator may issue a new certificate within an hour, for RenewalDue"
        ))
    )]
    #[case::it_is_due(
        "2026-03-20T00:00:00Z",
        Some(Obstacle::unless(Consent::NewCertificate, "the operator would issue a new certificate at once, for RenewalDue"))
    )]
    fn what_the_operator_would_decide_is_in_the_way_if_the_certificate_would_not_stay(
        #[case] now: &str,
        #[case] expected: Option<Obstacle>,
    ) {
        let facts = IssuerFacts {
            method: IssuingMethod::Mint { months_until_expiration: 3 },
            allow: Allow::default(),
            username: None,
            identity: "atlas/1".into(),
            version: "1".into(),
        };
        let usable = IssuerState::Usable(Box::new(facts));
        let (secret, now) = (secret(None, |_| {}), now.parse().unwrap());
        let takeover = prepared(&secret, false).unwrap_or_else(|fault| unreachable!("{fault}"));
        let object: DatabaseUserCertificate = serde_json::from_value(takeover.object).unwrap();
        let object = Certificate::from(object);
        let found = |issuer| of_decision(&object, &secret, Observed { issuer, ..Observed::default() }, now);
        assert_eq!(found(usable), expected);
        let unusable = IssuerState::Unusable(Reason::CredentialsInvalid, "correct them".into());
        let not_renewed = "the certificate would not be renewed, CredentialsInvalid: correct them";
        assert_eq!(found(unusable), Some(Obstacle::change(not_renewed)));
        assert!(found(IssuerState::Unknown).unwrap().message.contains("has not looked at"));
    }

    #[rstest]
    #[case::refused("False", "AtlasUnauthorized", true)]
    #[case::not_on_the_access_list("False", "AtlasAccessListDenied", true)]
    #[case::accepted("True", "IssuerReady", false)]
    #[case::told_by_the_decision("False", "CredentialsInvalid", false)]
    fn credentials_that_atlas_refuses_are_in_the_way(#[case] status: &str, #[case] reason: &str, #[case] expected: bool) {
        let issuer: IssuerStatus = serde_json::from_value(json!({ "conditions": [{
            "type": "Ready", "status": status, "reason": reason, "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z",
        }] }))
        .unwrap();
        let told = format!("the certificate would not be renewed, {reason}: m");
        assert_eq!(of_credentials(Some(&issuer)), expected.then(|| Obstacle::change(told)));
        assert_eq!(of_credentials(None), None);
    }
}
