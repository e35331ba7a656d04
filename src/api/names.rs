//! Names that users and other programs see: labels, annotations, keys of Secrets.

/// The API group; also the prefix of every label and annotation of ours. Never the prefix of another operator: the Atlas
/// Kubernetes Operator deletes Secrets that carry its labels.
pub const GROUP: &str = "usercert.dev";

/// Who writes: the field manager of every patch and the reporter of every Event.
pub const CONTROLLER: &str = "usercert-operator";

/// Label of each Secret of ours, with the UID of its `DatabaseUserCertificate`. The Secret watch selects on its presence.
pub const CERTIFICATE_UID_LABEL: &str = "usercert.dev/certificate-uid";

/// Annotation of a Secret: serial number of its certificate, as `openssl x509 -serial` prints it.
pub const SERIAL_NUMBER_ANNOTATION: &str = "usercert.dev/serial-number";

/// Annotation of a Secret: when its certificate expires, RFC 3339.
pub const NOT_AFTER_ANNOTATION: &str = "usercert.dev/not-after";

/// Annotation of a Secret: who issued its certificate, as `atlas/<project id>` or `ca/<key id>`.
pub const ISSUER_ANNOTATION: &str = "usercert.dev/issuer";

/// Annotation of a Secret: SHA-256 of its `ca.crt`, so that a changed CA certificate is noticed without reading the Secret.
pub const CA_DIGEST_ANNOTATION: &str = "usercert.dev/ca-sha256";

/// Annotation of a Secret: why its certificate was issued (a [`Reason`](crate::api::Reason)).
pub const ISSUE_REASON_ANNOTATION: &str = "usercert.dev/issue-reason";

/// Annotation of a Secret: the claim (`status.issuance.id`) under which its certificate was issued.
pub const ISSUANCE_ANNOTATION: &str = "usercert.dev/issuance-id";

/// Annotation of a `DatabaseUserCertificate`: any new value asks for one renewal.
/// On the Secret: the value that its certificate answered, so that a lost status does not renew again.
pub const RENEW_REQUESTED_ANNOTATION: &str = "usercert.dev/renew-requested-at";

/// Annotation of a `DatabaseUserCertificate`, `true`: a Secret of its name is taken over as it is, if it carries this operator's label or
/// annotations, holds a client certificate with its key and nothing else, and nobody controls it, or an object did that had this one's name
/// before. For backups that were restored, whose objects have new UIDs.
pub const ADOPT_SECRET_ANNOTATION: &str = "usercert.dev/adopt-secret";

/// Key of a TLS Secret: the certificate, then intermediates.
pub const TLS_CERTIFICATE: &str = "tls.crt";
/// Key of a TLS Secret: the private key, PKCS#8.
pub const TLS_PRIVATE_KEY: &str = "tls.key";
/// Key of our Secrets: certificate and key in one file, as MongoDB's drivers want it (`tlsCertificateKeyFile`).
pub const TLS_COMBINED: &str = "tls-combined.pem";
/// Key of a TLS Secret: the CA that signed the client certificate.
pub const CA_CERTIFICATE: &str = "ca.crt";
/// The type of our Secrets.
pub const TLS_SECRET_TYPE: &str = "kubernetes.io/tls";
