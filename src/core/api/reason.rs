//! The one list of reasons: why a decision was taken.
//!
//! A reason is the `reason` of a condition, the `reason` of an Event and the label of a metric. `make generate` writes the
//! page `docs/reasons.md` from this list.

mod groups;

use std::fmt;

macro_rules! reasons {
    ($( $(#[doc = $doc:literal])+ $name:ident, $severity:ident, $remedy:ident, $advice:literal; )+) => {
        /// Why the operator does, refuses or awaits something. `CamelCase`, as the Kubernetes API conventions ask of
        /// condition reasons.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $( $(#[doc = $doc])+ $name, )+ }

        impl Reason {
            /// Every reason, in the order of the page `docs/reasons.md`.
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

            /// What it means, in Markdown.
            #[must_use]
            pub fn explanation(self) -> &'static str {
                match self { $( Self::$name => concat!($($doc),+).trim_ascii(), )+ }
            }

            /// What a person does about it, in Markdown. `Nothing.` if there is nothing to do.
            #[must_use]
            pub const fn advice(self) -> &'static str {
                match self { $( Self::$name => $advice, )+ }
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
    Issued, Normal, Time,
        "Nothing.";
    /// The Secret's pair was good; lost labels, annotations or derived keys were put back without a new certificate.
    SecretRepaired, Normal, Time,
        "Nothing. If it comes again and again, look who writes the Secret: `kubectl get secret NAME --show-managed-fields -o yaml`.";
    /// The further entries, labels and annotations of the Secret were brought to what the spec asks for now, without a new certificate.
    SecretUpdated, Normal, Time,
        "Nothing.";
    /// A Secret of a former object was taken over as it is, as `usercert.dev/adopt-secret` or the former object's `deletionPolicy: Retain` asked.
    SecretAdopted, Normal, Time,
        "Nothing. You may take the annotation `usercert.dev/adopt-secret` away.";
    /// The Secret's controller was set or taken away, as `deletionPolicy` says; its content was not touched.
    DeletionPolicyApplied, Normal, Time,
        "Nothing.";
    /// The issuer can be used.
    IssuerReady, Normal, Time,
        "Nothing.";

    /// There is no certificate yet, or its Secret was deleted.
    NoCertificate, Normal, Time,
        "Wait some seconds. If the first certificate does not come, the condition `Issuing` says why.";
    /// The Secret's certificate or key cannot be used (emptied, garbled, or the key does not fit).
    PairUnusable, Warning, Time,
        "Nothing: the operator repairs the pair, or issues a new certificate. If it comes again, look who writes the Secret.";
    /// The certificate does not lead to `ca.crt` through the certificates after it in `tls.crt`: databases would refuse it.
    ChainBroken, Warning, Time,
        "With a CA, put the missing intermediate certificates into `tls.crt` of the CA's Secret. Otherwise nothing: the operator writes the chain, or issues a new certificate.";
    /// The certificate is for another subject than the spec asks for.
    SubjectChanged, Normal, Time,
        "Create the database user with the new name before, for the new certificate is for that user.";
    /// The certificate is from another Atlas project or another CA than the spec asks for.
    IssuerChanged, Normal, Time,
        "Have the database trust the new CA before, or create the user in the new Atlas project.";
    /// The certificate's key is of another algorithm or size than the spec asks for.
    PrivateKeyChanged, Normal, Time,
        "Nothing.";
    /// The renewal time has come.
    RenewalDue, Normal, Time,
        "Nothing.";
    /// The annotation `usercert.dev/renew-requested-at` has a new value.
    RenewalRequested, Normal, Time,
        "Nothing.";
    /// The annotation `usercert.dev/compromised` says that the key of the certificate is known to others: a new one is issued.
    Compromised, Warning, Time,
        "Lock the old certificate out at the database: docs/security.md, \"If a key is known to others\".";
    /// The certificate has expired.
    Expired, Warning, Time,
        "Mend what the condition `Issuing` names. A new certificate follows at once.";
    /// The certificate is not valid yet: this machine's clock or the issuer's is wrong.
    NotYetValid, Warning, Time,
        "Compare the clocks of the operator's node and of the issuer. Nothing else is to be done once they agree.";

    /// The spec cannot be carried out; the message names the field.
    InvalidSpec, Warning, Person,
        "Correct the field that the message names.";
    /// The annotation `usercert.dev/compromised` holds something that is no serial number; those that it holds count, and nothing is held up.
    InvalidAnnotation, Warning, Person,
        "Write serial numbers as `status.serialNumber` has them, separated by commas.";
    /// The certificate has a common name of more than 64 characters (RFC 5280), which other programs may refuse; it was issued.
    CommonNameTooLong, Warning, Person,
        "Choose a shorter user name or `subject` if a program refuses the certificate.";
    /// `spec.suspend` is true: nothing is issued, renewed or repaired until it is false.
    Suspended, Normal, Person,
        "Set `spec.suspend` to false when nothing speaks against it: `kubectl usercert resume NAME`.";
    /// Something in the object cannot be read; an Event names it. No certificate is issued for it, and its status is not written.
    ObjectUnreadable, Warning, Person,
        "Correct the place that the Event names: `kubectl describe databaseusercertificate NAME`.";
    /// The issuer that `issuerRef` names does not exist.
    IssuerNotFound, Warning, Time,
        "Create the issuer, or correct `spec.issuerRef`. Its `kind` is `CertificateIssuer` unless it says otherwise.";
    /// The issuer's `allow` does not name this namespace, user name or subject, the CA's `nameConstraints` do not permit the subject, or this operator does not serve cluster issuers.
    IssuerNotAllowed, Warning, Person,
        "Ask the administrator to extend `allow` of the `ClusterCertificateIssuer`, or choose a subject that is permitted.";
    /// The administrator does not allow a CertificateIssuer this endpoint; nothing is sent there.
    EndpointNotAllowed, Warning, Person,
        "Correct `spec.atlas.endpoint`, or ask the administrator to add it to the chart's value `atlas.allowedEndpoints`.";
    /// The object refers to another namespace or needs the operator's own credentials, and the administrator lends this namespace none.
    CredentialsNotLent, Warning, Person,
        "Ask the administrator to list the namespace in the chart's value `atlas.lendCredentialsTo`, or use an issuer with credentials of its own.";
    /// What is lent to this namespace cannot be used. The operator's log says why; the condition tells nothing about other namespaces.
    LentCredentialsUnusable, Warning, Person,
        "As an administrator read the operator's log, and mend what it names in the other namespace.";
    /// The object of the Atlas Kubernetes Operator that is referred to does not exist, or its kind is not served.
    AtlasObjectNotFound, Warning, Time,
        "Create the `AtlasDatabaseUser` or `AtlasProject` that the message names, or correct the reference.";
    /// The object of the Atlas Kubernetes Operator that is referred to is not ready, or lacks what is needed.
    AtlasObjectNotReady, Warning, Time,
        "Look at the conditions of the object that the message names. The Atlas Kubernetes Operator has to finish with it.";
    /// The credentials Secret that the issuer names does not exist.
    CredentialsNotFound, Warning, Time,
        "Create the Secret that `credentialsSecretRef` names, in the namespace that the message names.";
    /// The credentials Secret lacks a key, has an empty one, or holds both kinds of credentials.
    CredentialsInvalid, Warning, Person,
        "Give the Secret either `clientId` and `clientSecret`, or `publicApiKey` and `privateApiKey`, and not both pairs.";
    /// The CA Secret that the issuer names does not exist.
    CaNotFound, Warning, Time,
        "Create the Secret that `spec.ca.secretName` names, in the namespace that the message names.";
    /// The CA Secret's content cannot sign: missing keys, garbage, not a CA, or a key that does not fit.
    CaInvalid, Warning, Person,
        "Correct `tls.crt` and `tls.key` of the CA's Secret; the message names what is wrong, and the line.";
    /// The CA certificate (or one above it) has expired or is not valid yet.
    CaNotInDate, Warning, Person,
        "Renew the CA: docs/alerts.md, \"UsercertCaExpiresSoon\".";
    /// The CA expires no later than the present certificate, so a new certificate would gain nothing: renew the CA.
    CaExpiresFirst, Warning, Person,
        "Renew the CA, with the same key if you can: docs/alerts.md, \"UsercertCaExpiresSoon\".";

    /// A Secret of that name exists and is not controlled by this object; it was not touched.
    SecretNotOwned, Warning, Person,
        "Choose another `secretName`, or delete the Secret if nothing uses it: a program whose Secret is deleted cannot log in any more. One that was this operator's is taken over with the annotation `usercert.dev/adopt-secret=true`, one of another tool with `kubectl usercert migrate`.";
    /// The Secret is ours but not of type kubernetes.io/tls, which cannot be changed; its content is kept up to date all the same.
    SecretTypeWrong, Warning, Person,
        "Nothing has to be done. To have the right type, delete the Secret when the issuer can issue: a new certificate follows, and pods that start meanwhile wait for it.";
    /// The password for the keystore cannot be had. So the keystore stays as it is, with the former certificate, or goes if that one is of no use. The certificate is issued and renewed all the same.
    KeystorePasswordUnusable, Warning, Person,
        "Create the Secret that `passwordSecretRef` names, with a password in the entry that it names.";
    /// The API server refused the write of the Secret (permission, quota, admission).
    SecretNotWritable, Warning, Person,
        "Remove what refuses the write: the message has the API server's words, and names the webhook, policy, quota or right.";
    /// The API server, or a webhook that it asks, failed at the write of the Secret (answers 5xx and 429); the write is repeated later.
    SecretWriteFailed, Warning, Time,
        "Wait. If it lasts, look at the API server, or at the webhook that the message names.";
    /// The namespace is being deleted, so nothing can be created in it.
    NamespaceTerminating, Warning, Time,
        "Nothing. If the namespace is to stay, make it anew.";
    /// More certificates were issued for this object in an hour than can be right: something keeps deleting or damaging the Secret.
    TooManyIssues, Warning, Time,
        "Find who deletes or damages the Secret, such as a sync tool that prunes. Then wait, or request a renewal.";
    /// Five renewals of this object were forced within an hour, and another one is asked for; it waits until one of them is an hour old.
    TooManyForcedRenewals, Warning, Time,
        "Find what sets the annotation `usercert.dev/renew-requested-at` or `usercert.dev/compromised` again and again.";
    /// The Secret was put right several times in a short while: something keeps changing it; the message names what.
    SecretContested, Warning, Time,
        "Stop the program that the message names from writing the Secret.";
    /// Requests to the API server about this object have failed for some time, so its status may be out of date; the Event names the request and who refused it.
    ReconcileFailing, Warning, Time,
        "Remove what refuses the request that the Event names, such as a webhook or a missing right.";
    /// The Secret is being deleted, and a finalizer holds it: nothing is written into it, and a new one is made when it is gone.
    SecretBeingDeleted, Warning, Time,
        "Find out what the finalizer that the message names waits for, and let it finish. Whoever removes the finalizer deletes the Secret: pods that start before a new one is there cannot mount it.";
    /// The object is being deleted, and a finalizer holds it: its status goes on telling what is there, and nothing is issued, written or repaired for it.
    ObjectBeingDeleted, Normal, Time,
        "Find out what the finalizer that the message names waits for, and let it finish. When the object is gone, its Secret goes too, unless `deletionPolicy` was `Retain`: before that, make sure that no program needs it. A deletion cannot be taken back.";
    /// The object was deleted, and its Secret with it, while running pods used the Secret; the Event names some of them.
    SecretInUse, Warning, Person,
        "Make the object again if it was deleted by mistake, and restart the pods. Otherwise take the Secret out of the pods.";

    /// Atlas answered 401: the credentials are wrong or lack the role Project Owner on the project.
    AtlasUnauthorized, Warning, Person,
        "Compare the credentials with those in Atlas, and give them the role Project Owner on the project.";
    /// Atlas gives the service account no token: its client secret has expired or does not belong to its client id.
    AtlasClientSecretRefused, Warning, Person,
        "Make a new client secret for the service account in Atlas, and put it into the Secret as `clientSecret`.";
    /// Atlas answered 403: the operator's egress address is not on the API key's access list.
    AtlasAccessListDenied, Warning, Person,
        "Put the address from which the operator reaches Atlas on the access list of the API key or service account. The access list of the project is another one.";
    /// Atlas answered 403 for another cause than the access list.
    AtlasForbidden, Warning, Person,
        "Look up Atlas's error code, which the message has, and change what it names.";
    /// Atlas answered 402: the organisation's account is suspended.
    AtlasAccountSuspended, Warning, Person,
        "Settle the organisation's account in Atlas.";
    /// Atlas does not know the database user in this project.
    AtlasUserNotFound, Warning, Time,
        "Create the database user in the project, with X.509 of the type MANAGED, or correct `spec.username`.";
    /// Atlas does not know the project.
    AtlasProjectNotFound, Warning, Time,
        "Correct the issuer's `projectId`. It is the 24 hexadecimal digits in the address of the project's page.";
    /// The database user exists but its X.509 type is not MANAGED.
    AtlasUserNotManaged, Warning, Person,
        "Make a database user with another name and `x509Type: MANAGED`. The type of a user cannot be changed in Atlas, and deleting the user locks out whoever logs in as it now.";
    /// Atlas refuses another certificate for this user until one of its certificates expires.
    AtlasCertificateLimit, Warning, Time,
        "Wait until a certificate of the user expires, or use a new database user. Certificates cannot be revoked.";
    /// The project uses self-managed X.509, which excludes certificates made by Atlas.
    AtlasSelfManagedX509, Warning, Person,
        "Use a `ca` issuer with the CA that the project trusts. Leave self-managed X.509 on as long as any program logs in with a certificate of that CA: turning it off locks all of them out.";
    /// Atlas refused the request as wrong (another 4xx); the message has its error code.
    AtlasRequestRefused, Warning, Person,
        "Look up Atlas's error code, which the message has, and change what it names.";
    /// Atlas answered 409; the request is repeated later.
    AtlasConflict, Warning, Time,
        "Nothing, unless it lasts.";
    /// Atlas answered 429; the request is repeated after the time it asked for.
    AtlasRateLimited, Warning, Time,
        "Wait: the message says until when. If it is so often, look what else calls the API with this project.";
    /// The request waits for its turn: Atlas limits the requests of a project, and the certificate that expires soonest goes first.
    AtlasQueued, Normal, Time,
        "Nothing: the certificate that expires soonest goes first.";
    /// More certificates were made for the database user in a day than the objects that name it can need. A forced renewal is still carried out, up to five times an hour.
    AtlasMintBudget, Warning, Time,
        "Find out what made so many certificates: `status.history`, the Events, other clusters that name the same user. Then wait, or request a renewal.";
    /// Atlas has certificates for the database user that no Secret of this operator holds; their number and expiry are in the status.
    UnaccountedCertificates, Warning, Person,
        "Find out who holds the keys: docs/alerts.md, \"UsercertUnaccountedCertificates\".";
    /// Atlas could not be reached or was not able to answer; no certificate was made.
    AtlasUnavailable, Warning, Time,
        "Wait. If it lasts, look at the NetworkPolicy, the proxy, DNS and the firewall between the operator and Atlas.";
    /// Atlas made a certificate but its answer cannot be used; the certificate is counted as unaccounted.
    AtlasAnswerUnusable, Warning, Person,
        "Wait for the next attempt. If it comes again, look what changes answers on the way, such as a proxy, and report it.";
    /// The answer to a request that may have made a certificate was lost; the certificate is counted as unaccounted.
    AtlasAnswerLost, Warning, Time,
        "Nothing: the operator looks for the certificate in Atlas's list, and goes on by itself.";
    /// The private key is being made. RSA keys take long, and namespaces take turns.
    KeyBeingMade, Normal, Time,
        "Wait. Choose an ECDSA key (`privateKey.algorithm`) if it takes too long.";
    /// The CA could not sign; the message says why.
    SigningFailed, Warning, Person,
        "Change what the message names.";

    /// All workloads of `spec.rollout` have the certificate in the Secret.
    RolloutComplete, Normal, Time,
        "Nothing.";
    /// Workloads are being moved to the certificate in the Secret, a few at a time.
    RolloutInProgress, Normal, Time,
        "Nothing.";
    /// Workloads wait for the next window to be moved; the message says when windows no longer hold.
    RolloutWaitingForWindow, Normal, Time,
        "Nothing, unless the time in the message is too late for you: then widen the windows, or restart the workload.";
    /// A workload did not become ready with the new certificate, so no further one is moved; it goes on when that one is ready, or on request.
    RolloutStopped, Warning, Person,
        "Mend the workload that the message names. The rollout goes on when it is ready.";
    /// Another controller took the change of a workload back three times, so that workload is left alone for this certificate.
    RolloutContested, Warning, Person,
        "Keep the other controller, which the message names, from taking the annotation `usercert.dev/serial-numbers` back. Restart the workload yourself until then.";
    /// The pods of a workload are left to others, for it is paused, has a partition, or is updated `OnDelete`.
    RolloutLeftToOthers, Warning, Person,
        "Resume the workload, take its partition away, or delete its pods yourself.";
    /// A workload that `spec.rollout` names does not exist, or has no pod template.
    WorkloadNotFound, Warning, Time,
        "Correct `spec.rollout.workloads`, or create the workload.";
    /// The API server does not serve a further kind of workloads that the administrator named for rollouts; the other kinds are moved.
    WorkloadKindNotServed, Warning, Time,
        "Install the kind, or take it out of the chart's value `rollout.kinds`.";
    /// A Job, a Pod of its own, or a `ReplicaSet` of no Deployment uses the Secret: no rollout can move it, so whoever made it has to replace it.
    PodsNotMovable, Warning, Person,
        "Have whoever made the pods replace them, or wait until the Job ends.";
    /// A workload of `spec.rollout` uses the Secret by `env`, `envFrom` or `subPath`: its pods keep the old certificate until the rollout restarts them.
    UpdatedByRestartAlone, Warning, Person,
        "Nothing, for the rollout restarts it. Mount the Secret as a volume if you want to do without.";
    /// A workload that `spec.rollout` does not cover uses the Secret by `env`, `envFrom` or `subPath`: its pods keep the old certificate until somebody restarts them.
    WorkloadsNotCovered, Warning, Person,
        "Add the workload to `spec.rollout`, or restart it yourself after each renewal.";
    /// The old certificate has expired while workloads of `spec.rollout` may still use it; the message says how many.
    OldCertificateExpired, Warning, Person,
        "Restart the workloads that the message names now.";
    /// The operator may not look at workloads, or the change of one was refused; the message names the right that is missing, or who refused.
    RolloutForbidden, Warning, Person,
        "Give the operator the right that the message names, or remove the webhook or policy that refuses the change.";
    /// The operator was started without `--rollout`, so it changes no workload.
    RolloutNotEnabled, Warning, Person,
        "Set the chart's value `rollout.enabled` to true, or take `spec.rollout` away.";
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::IssuerType;

    #[test]
    fn each_reason_says_in_whole_sentences_what_it_means_and_what_to_do() {
        for reason in Reason::ALL {
            for text in [reason.explanation(), reason.advice()] {
                assert!(text.starts_with(|first: char| first.is_uppercase() || first == '`'), "{reason}: {text}");
                assert!(text.ends_with('.'), "{reason}: {text}");
            }
        }
    }

    #[test]
    fn what_only_a_person_ends_has_something_for_a_person_to_do() {
        for reason in Reason::ALL.iter().filter(|reason| reason.remedy() == Remedy::Person) {
            assert_ne!(reason.advice(), "Nothing.", "{reason}");
        }
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
