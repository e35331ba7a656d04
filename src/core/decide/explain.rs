//! What is decided, and each check that led there, in the order in which [`decide`](super::decide) makes them: for people who ask why.
//!
//! The checks are the functions that `decide` itself calls, so an explanation is never about other rules than those in force. A property
//! test compares both.

use jiff::Timestamp;

use super::{
    Decision, Desired, IssuerFacts, IssuerState, Observed,
    hold::hold,
    in_service::{certificate_in_service, not_owned},
    rules::{decide, deletion_policy, secret_going, unanswered_claim},
    unsaved::is_superseded,
};
use crate::api::{DatabaseUserCertificate, Reason};

macro_rules! checks {
    ($( $(#[doc = $doc:literal])+ $name:ident; )+) => {
        /// One check, named by what holds if it is passed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Check { $( $(#[doc = $doc])+ $name, )+ }

        impl Check {
            /// Every check, in the order in which they are made.
            pub const ALL: &'static [Self] = &[ $( Self::$name, )+ ];

            /// What holds if it is passed, as a sentence without its full stop.
            #[must_use]
            pub fn statement(self) -> &'static str {
                match self { $( Self::$name => concat!($($doc),+).trim_ascii().trim_end_matches('.'), )+ }
            }
        }
    };
}

checks! {
    /// The object is not being deleted.
    ObjectStays;
    /// The Secret of that name is this object's, or there is none.
    SecretIsOurs;
    /// No certificate waits in the operator's memory for its Secret.
    NothingUnsaved;
    /// The object can be read.
    ObjectReadable;
    /// The Secret's owner is as deletionPolicy asks.
    DeletionPolicyApplied;
    /// No request for a certificate is without its answer.
    NoOpenClaim;
    /// The Secret is not being deleted.
    SecretStays;
    /// The operator has looked at the issuer.
    IssuerSeen;
    /// The object is not suspended.
    NotSuspended;
    /// The issuer exists and can be used.
    IssuerUsable;
    /// The issuer serves this namespace.
    NamespaceAllowed;
    /// The spec fits the issuer.
    SpecFits;
    /// The issuer may certify this user name and subject.
    SubjectAllowed;
    /// There is a certificate.
    CertificatePresent;
    /// The certificate and its key can be read and fit.
    PairUsable;
    /// The certificate is for the subject that the spec asks for.
    SubjectFits;
    /// The certificate is from the issuer that the spec asks for.
    IssuerFits;
    /// Nobody says that the certificate is compromised.
    NotCompromised;
    /// The key is of the algorithm and size that the spec asks for.
    KeyFits;
    /// The certificate has not expired.
    NotExpired;
    /// The certificate verifies with the CA of the issuer.
    ChainVerifies;
    /// No renewal that somebody asked for comes next.
    NotRequested;
    /// The renewal time has not come.
    NotDue;
    /// Everything else in the Secret is as the spec asks.
    SecretComplete;
    /// Atlas has not given three answers of no use in a row for the same spec, issuer and credentials.
    AnswersUseful;
    /// No certificate that was counted as lost is looked for at Atlas.
    NothingLookedFor;
    /// No wait after a failure is under way.
    FailureOver;
    /// Fewer than five renewals were forced within an hour.
    FewForced;
    /// Fewer than five certificates were issued within an hour.
    FewIssued;
    /// A new certificate would outlast the present one.
    LastsLonger;
    /// Atlas has the database user, and the user's budget of certificates is not used up.
    UserServed;
}

/// The first check about the certificate in the Secret.
const FIRST_OF_CERTIFICATE: Check = Check::CertificatePresent;

/// The first check of those that hold a needed certificate up.
const FIRST_OF_HOLD: Check = Check::AnswersUseful;

impl Check {
    /// What of it only the operator knows, from its memory or by the issuer's credentials; `None` if objects tell all of it.
    #[must_use]
    pub const fn known_to_operator_alone(self) -> Option<&'static str> {
        match self {
            Self::NothingUnsaved => Some("only the operator's memory tells"),
            Self::NoOpenClaim => Some("only the operator's memory tells whether an answer is on the way"),
            Self::SecretComplete => Some("how often the operator put the Secret right lately, only its memory tells"),
            Self::NothingLookedFor => Some("only the operator may ask Atlas whether it lists the certificate now"),
            Self::UserServed => Some("only the operator may ask Atlas, with the credentials of the issuer"),
            _ => None,
        }
    }

    /// Whether it is about holding up a certificate that is needed.
    #[must_use]
    pub fn is_about_hold(self) -> bool {
        self >= FIRST_OF_HOLD
    }
}

/// What became of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is passed.
    Passed,
    /// It is not passed, and so a new certificate is needed, for this reason.
    Needs(Reason),
    /// It is not passed, and settles what is done.
    Settles,
    /// It was not come to, for one before it settled the matter, or because no new certificate is needed.
    NotReached,
}

/// What is decided, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// What [`decide`](super::decide) says.
    pub decision: Decision,
    /// Every check, in order.
    pub checks: Vec<(Check, Verdict)>,
}

impl Explanation {
    /// The check that settles what is done; `None` if the certificate is kept as it is, or is issued now.
    #[must_use]
    pub fn settled_by(&self) -> Option<Check> {
        self.checks.iter().find(|(_, verdict)| *verdict == Verdict::Settles).map(|(check, _)| *check)
    }

    /// Why a new certificate is needed.
    #[must_use]
    pub fn needs(&self) -> Option<Reason> {
        self.checks.iter().find_map(|(_, verdict)| match verdict {
            Verdict::Needs(reason) => Some(*reason),
            _ => None,
        })
    }
}

/// Decides about one object, and tells the way there.
#[must_use]
pub fn explain(object: &DatabaseUserCertificate, observed: &Observed, now: Timestamp) -> Explanation {
    let decision = decide(object, observed, now);
    let way = before_certificate(object, observed, now).map_or_else(
        || about_certificate(object, observed, now, &decision),
        |settles| Way { needs: None, settles: Some(settles) },
    );
    Explanation { decision, checks: Check::ALL.iter().map(|check| (*check, way.verdict(*check))).collect() }
}

/// Which checks were not passed.
struct Way {
    needs: Option<(Check, Reason)>,
    settles: Option<Check>,
}

impl Way {
    fn verdict(&self, check: Check) -> Verdict {
        match (self.needs, self.settles) {
            (Some((needs, reason)), _) if check == needs => Verdict::Needs(reason),
            (_, Some(settles)) if check == settles => Verdict::Settles,
            (_, Some(settles)) if check > settles => Verdict::NotReached,
            // After the first cause for a new certificate, the others are not looked for.
            (Some((needs, _)), _) if check > needs && !check.is_about_hold() => Verdict::NotReached,
            (None, _) if check.is_about_hold() => Verdict::NotReached,
            _ => Verdict::Passed,
        }
    }
}

/// The check that settles the matter before the certificate is looked at.
fn before_certificate(object: &DatabaseUserCertificate, observed: &Observed, now: Timestamp) -> Option<Check> {
    let unsaved = observed.memory.unsaved.as_ref();
    if object.metadata.deletion_timestamp.is_some() {
        Some(Check::ObjectStays)
    } else if not_owned(object, &observed.secret).is_some() {
        Some(Check::SecretIsOurs)
    } else if unsaved.is_some_and(|unsaved| !is_superseded(object, observed, unsaved, now)) {
        Some(Check::NothingUnsaved)
    } else if observed.unreadable.is_some() {
        Some(Check::ObjectReadable)
    } else if deletion_policy(object, observed, now).is_some() {
        Some(Check::DeletionPolicyApplied)
    } else if unanswered_claim(observed).is_some() {
        Some(Check::NoOpenClaim)
    } else if secret_going(object, observed).is_some() {
        Some(Check::SecretStays)
    } else if observed.issuer == IssuerState::Unknown {
        Some(Check::IssuerSeen)
    } else if object.spec.suspend {
        Some(Check::NotSuspended)
    } else {
        observed.issuer.usable().map_or(Some(Check::IssuerUsable), |issuer| unwanted(object, issuer, observed))
    }
}

/// What the issuer does not do for this object.
fn unwanted(object: &DatabaseUserCertificate, issuer: &IssuerFacts, observed: &Observed) -> Option<Check> {
    if issuer.allow.check_namespace(&observed.namespace, &observed.namespace_labels).is_err() {
        return Some(Check::NamespaceAllowed);
    }
    let Ok(desired) = Desired::new(object, issuer) else { return Some(Check::SpecFits) };
    let is_allowed = issuer.allow.check_subject(&observed.namespace, &desired.username, &desired.subject).is_ok()
        && issuer.ca().is_none_or(|ca| ca.name_constraints.check(&desired.subject).is_ok());
    (!is_allowed).then_some(Check::SubjectAllowed)
}

fn about_certificate(object: &DatabaseUserCertificate, observed: &Observed, now: Timestamp, decision: &Decision) -> Way {
    let nothing = Way { needs: None, settles: None };
    let Some((issuer, desired)) =
        observed.issuer.usable().and_then(|issuer| Some((issuer, Desired::new(object, issuer).ok()?)))
    else {
        return nothing;
    };
    match certificate_in_service(&desired, issuer, observed, now) {
        Ok(_) if matches!(decision, Decision::Keep { .. }) => nothing,
        Ok(_) => Way { settles: Some(Check::SecretComplete), ..nothing },
        Err(cause) => {
            let held = hold(&desired, issuer, observed, cause, now).err();
            Way { needs: Some((of_cause(cause), cause)), settles: held.as_ref().map(of_hold) }
        }
    }
}

/// Which check finds that a new certificate is needed for this reason.
const fn of_cause(cause: Reason) -> Check {
    match cause {
        Reason::PairUnusable => Check::PairUsable,
        Reason::SubjectChanged => Check::SubjectFits,
        Reason::IssuerChanged => Check::IssuerFits,
        Reason::Compromised => Check::NotCompromised,
        Reason::PrivateKeyChanged => Check::KeyFits,
        Reason::Expired => Check::NotExpired,
        Reason::ChainBroken => Check::ChainVerifies,
        Reason::RenewalDue => Check::NotDue,
        Reason::RenewalRequested => Check::NotRequested,
        _ => FIRST_OF_CERTIFICATE,
    }
}

/// Which check holds a needed certificate up with this decision.
const fn of_hold(held: &Decision) -> Check {
    match held {
        Decision::LookUpUser { .. } => Check::UserServed,
        Decision::LookForLost => Check::NothingLookedFor,
        Decision::Block { reason: Reason::AtlasAnswerUnusable, .. } => Check::AnswersUseful,
        Decision::Wait { reason, .. } | Decision::Block { reason, .. } => match reason {
            Reason::TooManyForcedRenewals => Check::FewForced,
            Reason::TooManyIssues => Check::FewIssued,
            Reason::CaExpiresFirst => Check::LastsLonger,
            Reason::AtlasMintBudget => Check::UserServed,
            _ => Check::FailureOver,
        },
        _ => Check::FailureOver,
    }
}
