//! Names that users and other programs see: labels, annotations, keys of Secrets.

/// The API group, and the prefix of all our labels and annotations. The prefix of another operator is never used: the Atlas
/// Kubernetes Operator deletes Secrets that carry its labels.
pub const GROUP: &str = "usercert.dev";

/// The name in which we write: the field manager of every patch and the reporter of every Event.
pub const CONTROLLER: &str = "usercert-operator";

/// Label of each Secret of ours: the UID of its `DatabaseUserCertificate`. The watch of Secrets selects on its presence.
pub const CERTIFICATE_UID_LABEL: &str = "usercert.dev/certificate-uid";

/// Annotation of a Secret: serial number of its certificate, as `openssl x509 -serial` prints it.
pub const SERIAL_NUMBER_ANNOTATION: &str = "usercert.dev/serial-number";

/// Annotation of a Secret: when its certificate expires, RFC 3339.
pub const NOT_AFTER_ANNOTATION: &str = "usercert.dev/not-after";

/// Annotation of a Secret: who issued its certificate, as `atlas/<project id>` or `ca/<key id>`.
pub const ISSUER_ANNOTATION: &str = "usercert.dev/issuer";

/// Annotation of a Secret: SHA-256 of its `ca.crt`. It shows a changed CA certificate without a read of the Secret.
pub const CA_DIGEST_ANNOTATION: &str = "usercert.dev/ca-sha256";

/// Annotation of a Secret: why its certificate was issued (a [`Reason`](crate::api::Reason)).
pub const ISSUE_REASON_ANNOTATION: &str = "usercert.dev/issue-reason";

/// Annotation of a Secret: the claim (`status.issuance.id`) under which its certificate was issued.
pub const ISSUANCE_ANNOTATION: &str = "usercert.dev/issuance-id";

/// Annotation of a Secret: which of its entries, labels and annotations are there because the spec asked for them, as JSON. It is
/// absent if there are none. What the spec no longer asks for is removed by it.
pub const LAYOUT_ANNOTATION: &str = "usercert.dev/layout";

/// Annotation of a Secret: when the certificate in `previous-tls.crt` expires, RFC 3339.
pub const PREVIOUS_NOT_AFTER_ANNOTATION: &str = "usercert.dev/previous-not-after";

/// Annotation of a Secret: serial number of the certificate in `previous-tls.crt`.
pub const PREVIOUS_SERIAL_NUMBER_ANNOTATION: &str = "usercert.dev/previous-serial-number";

/// Annotation of a Secret: serial number of the certificate in its keystore. It is another than that of the Secret while the keystore cannot
/// be made anew, for its password is missing.
pub const KEYSTORE_SERIAL_NUMBER_ANNOTATION: &str = "usercert.dev/keystore-serial-number";

/// Annotation of a `DatabaseUserCertificate`: serial numbers of certificates whose keys are known to others, separated by commas.
pub const COMPROMISED_ANNOTATION: &str = "usercert.dev/compromised";

/// Annotation of a `DatabaseUserCertificate`: any new value asks for one renewal.
/// On the Secret: the value that its certificate answered. So a status that is lost does not lead to a second renewal.
pub const RENEW_REQUESTED_ANNOTATION: &str = "usercert.dev/renew-requested-at";

/// Annotation of a Secret that `deletionPolicy: Retain` keeps: the name of the `DatabaseUserCertificate` that it is kept for. The
/// object of this name takes the Secret up without [`ADOPT_SECRET_ANNOTATION`], because its author asked for that with the policy.
pub const RETAINED_FOR_ANNOTATION: &str = "usercert.dev/retained-for";

/// On a Secret with credentials of Atlas: when they expire, as RFC 3339 writes times. Without it a client secret is taken to live for a year.
pub const CREDENTIALS_NOT_AFTER_ANNOTATION: &str = "usercert.dev/credentials-not-after";

/// Annotation of a `DatabaseUserCertificate`, with the value `true`: take over the Secret of its name as it is. This is for
/// restored backups, whose objects have new UIDs. All of this must hold:
///
/// - The Secret carries the label or annotations of this operator.
/// - It holds a client certificate with its key, and besides only what this operator writes: entries that the spec asks for, and
///   entries that [`LAYOUT_ANNOTATION`] names, if the operator gives them their names by itself.
/// - It has no controller, or its controller is a former object with the name of this one.
/// - Its label does not have the UID of another object that exists.
pub const ADOPT_SECRET_ANNOTATION: &str = "usercert.dev/adopt-secret";

/// Annotation of the Lease: the process that gave it up last, at its end and after all its requests.
pub const RELEASED_BY_ANNOTATION: &str = "usercert.dev/released-by";

/// The field manager of the one field that a rollout changes in workloads. It is not [`CONTROLLER`], so that `kubectl get
/// --show-managed-fields` tells who restarted the pods, and so that it owns nothing else.
pub const ROLLOUT_MANAGER: &str = "usercert-operator-rollout";

/// Annotation of a pod template: the serial numbers of all certificates of this operator that the workload was moved to, as
/// `<object>=<serial number>`, sorted and separated by commas.
pub const SERIAL_NUMBERS_ANNOTATION: &str = "usercert.dev/serial-numbers";

/// Annotation of a `DatabaseUserCertificate`: any new value has a rollout go on that was stopped by a workload that does not
/// become ready. That workload is not waited for any more.
pub const RESUME_ROLLOUT_ANNOTATION: &str = "usercert.dev/resume-rollout";

/// Annotation of stakater/Reloader. On a Secret, with the value `true`, it has Reloader restart nobody when the Secret changes.
pub const RELOADER_IGNORE_ANNOTATION: &str = "reloader.stakater.com/ignore";

/// Annotation of stakater/Reloader on a workload or its pod template: the Secrets that have it restarted, separated by commas. Reloader takes
/// each for a regular expression.
pub const RELOADER_SECRETS_ANNOTATION: &str = "secret.reloader.stakater.com/reload";

/// Key of a TLS Secret: the certificate, then intermediates.
pub const TLS_CERTIFICATE: &str = "tls.crt";
/// Key of a TLS Secret: the private key, PKCS#8.
pub const TLS_PRIVATE_KEY: &str = "tls.key";
/// Key of our Secrets: certificate and key in one file, as MongoDB's drivers want it (`tlsCertificateKeyFile`).
pub const TLS_COMBINED: &str = "tls-combined.pem";
/// Key of a TLS Secret: the CA that signed the client certificate.
pub const CA_CERTIFICATE: &str = "ca.crt";
/// Key of our Secrets: the password of the keystore, if the operator has made it.
pub const KEYSTORE_PASSWORD: &str = "keystore-password";
/// Key of our Secrets: the certificate before the present one, then its intermediates.
pub const PREVIOUS_CERTIFICATE: &str = "previous-tls.crt";
/// Key of our Secrets: the private key of the certificate before the present one.
pub const PREVIOUS_PRIVATE_KEY: &str = "previous-tls.key";
/// Key of our Secrets: both in one file.
pub const PREVIOUS_COMBINED: &str = "previous-tls-combined.pem";
/// The type of our Secrets.
pub const TLS_SECRET_TYPE: &str = "kubernetes.io/tls";
