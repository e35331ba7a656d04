//! The one list of reasons: why a decision was taken.
//!
//! A reason is the `reason` of a condition, the `reason` of an Event and the label of a metric. A test compares the table
//! of reasons in `README.md` with this list.

use std::fmt;

use super::IssuerType;

macro_rules! reasons {
    ($( $(#[doc = $doc:literal])+ $name:ident, $severity:ident, $remedy:ident; )+) => {
        /// Why the operator does, refuses or awaits something. `CamelCase`, as the Kubernetes API conventions ask of
        /// condition reasons.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $( $(#[doc = $doc])+ $name, )+ }

        impl Reason {
            /// Every reason, in the order of the README's table.
            pub const ALL: &'static [Self] = &[ $( Self::$name, )+ ];

            /// The name as it stands in conditions, Events and metric labels.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$name => stringify!($name), )+ }
            }

            /// Whether an Event with this reason is `Normal` or `Warning`.
            #[must_use]
            pub const fn severity(self) -> Severity {
                match self { $( Self::$name => Severity::$severity, )+ }
            }

            /// What takes an object out of a state with this reason.
            #[must_use]
            pub const fn remedy(self) -> Remedy {
                match self { $( Self::$name => Remedy::$remedy, )+ }
            }

            /// One sentence for the README's table of reasons.
            #[must_use]
            pub fn explanation(self) -> &'static str {
                match self { $( Self::$name => concat!($($doc),+).trim_ascii(), )+ }
            }

            /// The reason with this name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|reason| reason.as_str() == name)
            }
        }
    };
}

/// The type of an Event with a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Nothing for a person to do.
    Normal,
    /// Something for a person to look at.
    Warning,
}

/// What takes an object out of a state that is not wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// It passes by itself: the operator goes on, an object appears that is often created together with this one, or the
    /// other side recovers.
    Time,
    /// Only a change by a person. An object that is not Ready for such a reason is `Stalled`.
    Person,
}

reasons! {
    /// The Secret holds a certificate that is valid, fits its key, and is for this user and issuer.
    Issued, Normal, Time;
    /// The Secret's pair was good; lost labels, annotations or derived keys were put back without a new certificate.
    SecretRepaired, Normal, Time;
    /// The further entries, labels and annotations of the Secret were brought to what the spec asks for now, without a new certificate.
    SecretUpdated, Normal, Time;
    /// A Secret of a former object was taken over as it is, as `usercert.dev/adopt-secret` or the former object's `deletionPolicy: Retain` asked.
    SecretAdopted, Normal, Time;
    /// The Secret's controller was set or taken away, as `deletionPolicy` says; its content was not touched.
    DeletionPolicyApplied, Normal, Time;
    /// The issuer can be used.
    IssuerReady, Normal, Time;

    /// There is no certificate yet, or its Secret was deleted.
    NoCertificate, Normal, Time;
    /// The Secret's certificate or key cannot be used (emptied, garbled, or the key does not fit).
    PairUnusable, Warning, Time;
    /// The certificate does not lead to `ca.crt` through the certificates after it in `tls.crt`: databases would refuse it.
    ChainBroken, Warning, Time;
    /// The certificate is for another subject than the spec asks for.
    SubjectChanged, Normal, Time;
    /// The certificate is from another Atlas project or another CA than the spec asks for.
    IssuerChanged, Normal, Time;
    /// The certificate's key is of another algorithm or size than the spec asks for.
    PrivateKeyChanged, Normal, Time;
    /// The renewal time has come.
    RenewalDue, Normal, Time;
    /// The annotation `usercert.dev/renew-requested-at` has a new value.
    RenewalRequested, Normal, Time;
    /// The annotation `usercert.dev/compromised` says that the key of the certificate is known to others: a new one is issued.
    Compromised, Warning, Time;
    /// The certificate has expired.
    Expired, Warning, Time;
    /// The certificate is not valid yet: this machine's clock or the issuer's is wrong.
    NotYetValid, Warning, Time;

    /// The spec cannot be carried out; the message names the field.
    InvalidSpec, Warning, Person;
    /// The annotation `usercert.dev/compromised` holds something that is no serial number; those that it holds count, and nothing is held up.
    InvalidAnnotation, Warning, Person;
    /// The certificate has a common name of more than 64 characters (RFC 5280), which other programs may refuse; it was issued.
    CommonNameTooLong, Warning, Person;
    /// `spec.suspend` is true: nothing is issued, renewed or repaired until it is false.
    Suspended, Normal, Person;
    /// Something in the object cannot be read; an Event names it. No certificate is issued for it, and its status is not written.
    ObjectUnreadable, Warning, Person;
    /// The issuer that `issuerRef` names does not exist.
    IssuerNotFound, Warning, Time;
    /// The issuer's `allow` does not name this namespace, user name or subject, the CA's `nameConstraints` do not permit the subject, or this operator does not serve cluster issuers.
    IssuerNotAllowed, Warning, Person;
    /// The administrator does not allow a CertificateIssuer this endpoint; nothing is sent there.
    EndpointNotAllowed, Warning, Person;
    /// The object refers to another namespace or needs the operator's own credentials, and the administrator lends this namespace none.
    CredentialsNotLent, Warning, Person;
    /// What is lent to this namespace cannot be used. The operator's log says why; the condition tells nothing about other namespaces.
    LentCredentialsUnusable, Warning, Person;
    /// The object of the Atlas Kubernetes Operator that is referred to does not exist, or its kind is not served.
    AtlasObjectNotFound, Warning, Time;
    /// The object of the Atlas Kubernetes Operator that is referred to is not ready, or lacks what is needed.
    AtlasObjectNotReady, Warning, Time;
    /// The credentials Secret that the issuer names does not exist.
    CredentialsNotFound, Warning, Time;
    /// The credentials Secret lacks a key, has an empty one, or holds both kinds of credentials.
    CredentialsInvalid, Warning, Person;
    /// The CA Secret that the issuer names does not exist.
    CaNotFound, Warning, Time;
    /// The CA Secret's content cannot sign: missing keys, garbage, not a CA, or a key that does not fit.
    CaInvalid, Warning, Person;
    /// The CA certificate (or one above it) has expired or is not valid yet.
    CaNotInDate, Warning, Person;
    /// The CA expires no later than the present certificate, so a new certificate would gain nothing: renew the CA.
    CaExpiresFirst, Warning, Person;

    /// A Secret of that name exists and is not controlled by this object; it was not touched.
    SecretNotOwned, Warning, Person;
    /// The Secret is ours but not of type kubernetes.io/tls, which cannot be changed; its content is kept up to date all the same.
    SecretTypeWrong, Warning, Person;
    /// The password for the keystore cannot be had, so the keystore stays as it is, with the former certificate, or goes if that one is of no use; the certificate is issued and renewed all the same.
    KeystorePasswordUnusable, Warning, Person;
    /// The API server refused the write of the Secret (permission, quota, admission).
    SecretNotWritable, Warning, Person;
    /// The API server, or a webhook that it asks, failed at the write of the Secret (answers 5xx and 429); the write is repeated later.
    SecretWriteFailed, Warning, Time;
    /// The namespace is being deleted, so nothing can be created in it.
    NamespaceTerminating, Warning, Time;
    /// More certificates were issued for this object in an hour than can be right: something keeps deleting or damaging the Secret.
    TooManyIssues, Warning, Time;
    /// Five renewals of this object were forced within an hour, and another one is asked for; it waits until one of them is an hour old.
    TooManyForcedRenewals, Warning, Time;
    /// The Secret was put right several times in a short while: something keeps changing it; the message names what.
    SecretContested, Warning, Time;
    /// Requests to the API server about this object have failed for some time, so its status may be out of date; the Event names the request and who refused it.
    ReconcileFailing, Warning, Time;
    /// The Secret is being deleted, and a finalizer holds it: nothing is written into it, and a new one is made when it is gone.
    SecretBeingDeleted, Warning, Time;
    /// The object is being deleted, and a finalizer holds it: its status goes on telling what is there, and nothing is issued, written or repaired for it.
    ObjectBeingDeleted, Normal, Time;
    /// The object was deleted, and its Secret with it, while running pods used the Secret; the Event names some of them.
    SecretInUse, Warning, Person;

    /// Atlas answered 401: the credentials are wrong or lack the role Project Owner on the project.
    AtlasUnauthorized, Warning, Person;
    /// Atlas gives the service account no token: its client secret has expired or does not belong to its client id.
    AtlasClientSecretRefused, Warning, Person;
    /// Atlas answered 403: the operator's egress address is not on the API key's access list.
    AtlasAccessListDenied, Warning, Person;
    /// Atlas answered 403 for another cause than the access list.
    AtlasForbidden, Warning, Person;
    /// Atlas answered 402: the organisation's account is suspended.
    AtlasAccountSuspended, Warning, Person;
    /// Atlas does not know the database user in this project.
    AtlasUserNotFound, Warning, Time;
    /// Atlas does not know the project.
    AtlasProjectNotFound, Warning, Time;
    /// The database user exists but its X.509 type is not MANAGED.
    AtlasUserNotManaged, Warning, Person;
    /// Atlas refuses another certificate for this user until one of its certificates expires.
    AtlasCertificateLimit, Warning, Time;
    /// The project uses self-managed X.509, which excludes certificates made by Atlas.
    AtlasSelfManagedX509, Warning, Person;
    /// Atlas refused the request as wrong (another 4xx); the message has its error code.
    AtlasRequestRefused, Warning, Person;
    /// Atlas answered 409; the request is repeated later.
    AtlasConflict, Warning, Time;
    /// Atlas answered 429; the request is repeated after the time it asked for.
    AtlasRateLimited, Warning, Time;
    /// The request waits for its turn: Atlas limits the requests of a project, and the certificate that expires soonest goes first.
    AtlasQueued, Normal, Time;
    /// More certificates were made for the database user in a day than the objects that name it can need; a forced renewal is still carried out, up to five times an hour.
    AtlasMintBudget, Warning, Time;
    /// Atlas has certificates for the database user that no Secret of this operator holds; their number and expiry are in the status.
    UnaccountedCertificates, Warning, Person;
    /// Atlas could not be reached or was not able to answer; no certificate was made.
    AtlasUnavailable, Warning, Time;
    /// Atlas made a certificate but its answer cannot be used; the certificate is counted as unaccounted.
    AtlasAnswerUnusable, Warning, Person;
    /// The answer to a request that may have made a certificate was lost; the certificate is counted as unaccounted.
    AtlasAnswerLost, Warning, Time;
    /// The private key is being made. RSA keys take long, and namespaces take turns.
    KeyBeingMade, Normal, Time;
    /// The CA could not sign; the message says why.
    SigningFailed, Warning, Person;

    /// All workloads of `spec.rollout` have the certificate in the Secret.
    RolloutComplete, Normal, Time;
    /// Workloads are being moved to the certificate in the Secret, a few at a time.
    RolloutInProgress, Normal, Time;
    /// Workloads wait for the next window to be moved; the message says when windows no longer hold.
    RolloutWaitingForWindow, Normal, Time;
    /// A workload did not become ready with the new certificate, so no further one is moved; it goes on when that one is ready, or on request.
    RolloutStopped, Warning, Person;
    /// Another controller took the change of a workload back three times, so that workload is left alone for this certificate.
    RolloutContested, Warning, Person;
    /// The pods of a workload are left to others, for it is paused, has a partition, or is updated `OnDelete`.
    RolloutLeftToOthers, Warning, Person;
    /// A workload that `spec.rollout` names does not exist, or has no pod template.
    WorkloadNotFound, Warning, Time;
    /// The API server does not serve a further kind of workloads that the administrator named for rollouts; the other kinds are moved.
    WorkloadKindNotServed, Warning, Time;
    /// A Job, a Pod of its own, or a `ReplicaSet` of no Deployment uses the Secret: no rollout can move it, so whoever made it has to replace it.
    PodsNotMovable, Warning, Person;
    /// A workload of `spec.rollout` uses the Secret by `env`, `envFrom` or `subPath`: its pods keep the old certificate until the rollout restarts them.
    UpdatedByRestartAlone, Warning, Person;
    /// A workload that `spec.rollout` does not cover uses the Secret by `env`, `envFrom` or `subPath`: its pods keep the old certificate until somebody restarts them.
    WorkloadsNotCovered, Warning, Person;
    /// The old certificate has expired while workloads of `spec.rollout` may still use it; the message says how many.
    OldCertificateExpired, Warning, Person;
    /// The operator may not look at workloads, or the change of one was refused; the message names the right that is missing, or who refused.
    RolloutForbidden, Warning, Person;
    /// The operator was started without `--rollout`, so it changes no workload.
    RolloutNotEnabled, Warning, Person;
}

impl Reason {
    /// Whether a certificate that was issued for this reason tells that the one before it is of no use any more.
    #[must_use]
    pub const fn is_against_former_certificate(self) -> bool {
        matches!(
            self,
            Self::ChainBroken
                | Self::SubjectChanged
                | Self::IssuerChanged
                | Self::Compromised
                | Self::Expired
                | Self::NotYetValid
        )
    }

    /// Whether a certificate with this reason was not due and was made all the same. These count for the brake of forced renewals.
    #[must_use]
    pub const fn is_forced(self) -> bool {
        matches!(self, Self::RenewalRequested | Self::Compromised)
    }

    /// Whether this is about the credentials of the issuer or their organisation. Then Atlas answers every certificate of
    /// the issuer with it.
    #[must_use]
    pub const fn is_about_credentials(self) -> bool {
        matches!(
            self,
            Self::AtlasUnauthorized
                | Self::AtlasClientSecretRefused
                | Self::AtlasAccessListDenied
                | Self::AtlasForbidden
                | Self::AtlasAccountSuspended
        )
    }
}

impl Reason {
    /// Whether a certificate of such an issuer may be issued for this reason. Metrics count these from zero on.
    #[must_use]
    pub const fn is_cause_of_issue(self, issuer: IssuerType) -> bool {
        match self {
            Self::NoCertificate
            | Self::PairUnusable
            | Self::SubjectChanged
            | Self::IssuerChanged
            | Self::RenewalDue
            | Self::RenewalRequested
            | Self::Compromised
            | Self::Expired => true,
            Self::ChainBroken | Self::PrivateKeyChanged => matches!(issuer, IssuerType::Ca),
            _ => false,
        }
    }

    /// Whether an attempt to issue a certificate of such an issuer may fail for this reason. Metrics count these from zero on.
    #[must_use]
    pub const fn may_fail_issue(self, issuer: IssuerType) -> bool {
        match self {
            Self::InvalidSpec
            | Self::SigningFailed
            | Self::SecretNotWritable
            | Self::SecretWriteFailed
            | Self::NamespaceTerminating => true,
            Self::CaNotInDate | Self::IssuerNotAllowed | Self::ChainBroken => matches!(issuer, IssuerType::Ca),
            Self::AtlasUnauthorized
            | Self::AtlasClientSecretRefused
            | Self::AtlasAccessListDenied
            | Self::AtlasForbidden
            | Self::AtlasAccountSuspended
            | Self::AtlasUserNotFound
            | Self::AtlasProjectNotFound
            | Self::AtlasUserNotManaged
            | Self::AtlasCertificateLimit
            | Self::AtlasSelfManagedX509
            | Self::AtlasRequestRefused
            | Self::AtlasConflict
            | Self::AtlasRateLimited
            | Self::AtlasUnavailable
            | Self::AtlasAnswerUnusable
            | Self::AtlasAnswerLost => matches!(issuer, IssuerType::Atlas),
            _ => false,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_has_a_row_for_each_reason_in_this_order() {
        let readme = include_str!("../../../README.md");
        let rows: Vec<&str> = readme
            .lines()
            .filter(|line| {
                line.starts_with("| `") && line.split('`').nth(1).is_some_and(|name| Reason::from_name(name).is_some())
            })
            .collect();
        let expected: Vec<String> =
            Reason::ALL.iter().map(|reason| format!("| `{reason}` | {} |", reason.explanation())).collect();
        assert_eq!(rows, expected);
    }

    #[test]
    fn what_fails_an_issue_is_a_warning_and_what_concerns_one_issuer_alone_fails_no_other() {
        for reason in Reason::ALL {
            let fails = IssuerType::ALL.map(|issuer| reason.may_fail_issue(issuer));
            assert!(!fails.contains(&true) || reason.severity() == Severity::Warning, "{reason}");
            assert!(!reason.as_str().starts_with("Atlas") || !reason.may_fail_issue(IssuerType::Ca), "{reason}");
            assert!(!reason.as_str().starts_with("Ca") || !reason.may_fail_issue(IssuerType::Atlas), "{reason}");
        }
    }

    #[test]
    fn names_are_unique_and_found_again() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from_name(reason.as_str()), Some(*reason));
        }
        assert_eq!(Reason::from_name("nothing"), None);
    }
}
