//! `CertificateIssuer` and `ClusterCertificateIssuer`: where certificates come from. Both share [`IssuerSpec`].

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube_derive::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::forms::{duration_rule, is_duration};

/// How certificates are made. Exactly one of `atlas` and `ca` is given.
#[derive(CustomResource, Clone, Debug, Default, Deserialize, Serialize, KubeSchema, PartialEq)]
#[kube(
    group = "usercert.dev",
    version = "v1alpha1",
    kind = "CertificateIssuer",
    plural = "certificateissuers",
    shortname = "certissuer",
    category = "usercert",
    namespaced,
    status = "IssuerStatus",
    doc = "A source of database user certificates for its own namespace: MongoDB Atlas, or a CA in the cluster.",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].reason"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.atlas) != has(self.ca)").message("name exactly one issuer: atlas or ca"))]
#[x_kube(validation = Rule::new("!has(self.atlas) || !has(self.allow) || !has(self.allow.subjects)").message("allow.subjects is for CA issuers: Atlas certifies CN=<user name> alone, which allow.usernames is for"))]
pub struct IssuerSpec {
    /// MongoDB Atlas makes the certificate and its key, for a database user of X.509 type MANAGED.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub atlas: Option<AtlasIssuerSpec>,
    /// For self-hosted databases: the operator signs with a CA whose certificate and key are in a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CaIssuerSpec>,
    /// Who may use this issuer, and for which user names. A CertificateIssuer without `allow` serves its namespace. A
    /// ClusterCertificateIssuer without `allow.namespaces` serves nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow: Option<AllowedUse>,
}

/// What kind of issuer makes certificates, as metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IssuerType {
    /// MongoDB Atlas.
    Atlas,
    /// A CA in the cluster.
    Ca,
}

impl IssuerType {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Atlas, Self::Ca];

    /// The label of metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Atlas => "atlas",
            Self::Ca => "ca",
        }
    }
}

/// The issuer that a spec names.
#[derive(Clone, Copy, Debug)]
pub enum IssuerSource<'a> {
    /// MongoDB Atlas.
    Atlas(&'a AtlasIssuerSpec),
    /// A CA.
    Ca(&'a CaIssuerSpec),
}

impl IssuerSpec {
    /// The issuer that the spec names; `None` if it does not name exactly one, which only an old definition admits.
    #[must_use]
    pub const fn source(&self) -> Option<IssuerSource<'_>> {
        let Self { atlas, ca, allow: _ } = self;
        match (atlas, ca) {
            (Some(atlas), None) => Some(IssuerSource::Atlas(atlas)),
            (None, Some(ca)) => Some(IssuerSource::Ca(ca)),
            _ => None,
        }
    }
}

/// The cluster-scoped twin of `CertificateIssuer`.
#[derive(CustomResource, Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[kube(
    group = "usercert.dev",
    version = "v1alpha1",
    kind = "ClusterCertificateIssuer",
    plural = "clustercertificateissuers",
    shortname = "clustercertissuer",
    category = "usercert",
    status = "IssuerStatus",
    doc = "A source of database user certificates for the namespaces that it allows. Its Secret lives in the operator's namespace.",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].reason"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(transparent)]
pub struct ClusterIssuerSpec(pub IssuerSpec);

/// Certificates from `POST .../databaseUsers/{username}/certs` of the Atlas Administration API.
#[derive(Clone, Debug, Deserialize, Serialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.projectId) != has(self.projectRef)").message("name exactly one project: projectId or projectRef"))]
#[x_kube(validation = Rule::new("has(self.projectRef) || has(self.credentialsSecretRef)").message("credentialsSecretRef is needed with projectId"))]
#[x_kube(validation = Rule::new("self.endpoint.startsWith('https://') || (has(self.allowPlainHttp) && self.allowPlainHttp) || self.endpoint.matches('^http://(localhost|127[.][0-9]+[.][0-9]+[.][0-9]+|[[]::1[]])(:[0-9]+)?/?$')").message("endpoint must begin with https://; http is for loopback addresses, or for those who set allowPlainHttp"))]
pub struct AtlasIssuerSpec {
    /// The id of the Atlas project: 24 hexadecimal digits. The Atlas API calls a project a group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-9a-f]{24}$"))]
    pub project_id: Option<String>,
    /// Instead of `projectId`: an `AtlasProject` of the Atlas Kubernetes Operator. The id of the project is taken from its
    /// status. Its credentials are used unless `credentialsSecretRef` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_ref: Option<ProjectReference>,
    /// The Secret with credentials that have the role Project Owner on the project: `publicApiKey` and `privateApiKey` of
    /// an API key, or `clientId` and `clientSecret` of a service account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretName>,
    /// The URL of the Atlas Administration API. A CertificateIssuer may name only endpoints that the operator allows
    /// (`atlas.allowedEndpoints` of its chart; by default those of Atlas). A ClusterCertificateIssuer may name any. `http`
    /// is accepted only for loopback addresses, unless `allowPlainHttp` is set.
    #[serde(default = "default_endpoint")]
    #[schemars(length(max = 512), regex(pattern = ENDPOINT_PATTERN))]
    pub endpoint: String,
    /// Allows an endpoint that begins with `http`, which is then asked without TLS: whoever can listen reads the private
    /// keys that Atlas makes. For a CertificateIssuer this is not enough: the operator must also allow exactly this
    /// endpoint with `http`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_plain_http: Option<bool>,
    /// `v2` is the current API, `v1.0` the legacy one.
    #[serde(default)]
    pub api_version: AtlasApiVersion,
    /// Validity in calendar months of certificates whose spec does not give one.
    #[serde(default = "default_months")]
    #[schemars(with = "i32", range(min = 1, max = 24))]
    pub months_until_expiration: u8,
}

/// A pattern of subjects: attributes of the types in RFC 4514 section 3, joined by `,` and `+`, with special characters
/// escaped. Hexadecimal pairs are for bytes outside ASCII only. Otherwise a pair could hide a `*` or a part of
/// `{{namespace}}` from the rules below.
const SUBJECT_PATTERN: &str = r#"^(CN|L|ST|O|OU|C|STREET|DC|UID)=([^,+="\\<>;]|\\[^0-7])+([,+](CN|L|ST|O|OU|C|STREET|DC|UID)=([^,+="\\<>;]|\\[^0-7])+)*$"#;

/// An entry of `forbiddenSubjects`: only O, OU and DC, by which MongoDB recognises the certificates of its own members.
const MEMBER_PATTERN: &str = r#"^(O|OU|DC)=([^,+="\\<>;]|\\.)+([,+](O|OU|DC)=([^,+="\\<>;]|\\.)+)*$"#;

/// The rule of `keep_namespaces_apart` in `decide::pattern`, for user names, in CEL.
const USERNAMES_APART: &str = r"self.all(p, !p.contains('{{namespace}}')) || self.all(p, p.matches('^([Cc][Nn]=)?[^*{},+=\\\\]*[{][{]namespace[}][}]([^a-z0-9{}*,+=\\\\-][^,+=\\\\]*)?$') && p.replace('CN=', '').find('^[^{]*') == self[0].replace('CN=', '').find('^[^{]*')) || self.all(p, p.matches('^([Cc][Nn]=)?([^,+=\\\\]*[^a-z0-9{}*,+=\\\\-])?[{][{]namespace[}][}][^*{},+=\\\\]*$') && p.find('[^}]*$') == self[0].find('[^}]*$'))";

/// The rule of `keep_namespaces_apart` in `decide::pattern`, for subjects, in CEL.
const SUBJECTS_APART: &str = r"self.all(p, !p.contains('{{namespace}}')) || ['CN', 'OU', 'O', 'UID', 'DC'].exists(t, self.all(p, p.split(t + '=').size() == 2 && p.matches('(^|[^\\\\][,+])' + t + '=[^*{},+=\\\\]*[{][{]namespace[}][}]([^a-z0-9{}*\\\\-]|$)') && p.find(t + '=[^{]*') == self[0].find(t + '=[^{]*')) || self.all(p, p.split(t + '=').size() == 2 && p.matches('(^|[^\\\\][,+])' + t + '=([^,+=\\\\]*[^a-z0-9{}*,+=\\\\-])?[{][{]namespace[}][}][^*{},+=\\\\]*([,+]|$)') && p.split(t + '=')[1].split(',')[0].split('+')[0].find('[^}]*$') == self[0].split(t + '=')[1].split(',')[0].split('+')[0].find('[^}]*$')))";

const ENDPOINT_PATTERN: &str = r"^https?://[A-Za-z0-9.:\[\]-]+/?$";

fn default_endpoint() -> String {
    "https://cloud.mongodb.com".to_owned()
}

const fn default_months() -> u8 {
    3
}

/// The version of the Atlas Administration API.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
pub enum AtlasApiVersion {
    /// The current API with dated media types.
    #[default]
    #[serde(rename = "v2")]
    V2,
    /// The legacy API.
    #[serde(rename = "v1.0")]
    V1,
}

/// Certificates signed in the cluster.
#[derive(Clone, Debug, Deserialize, Serialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(concat!("!has(self.duration) || !has(self.maxDuration) || !", is_duration!("self.duration"), " || !", is_duration!("self.maxDuration"), " || duration(self.duration) <= duration(self.maxDuration)")).message("duration must not exceed maxDuration"))]
pub struct CaIssuerSpec {
    /// The name of a `kubernetes.io/tls` Secret. `tls.crt` holds the certificate of the CA first, then those above it.
    /// `tls.key` holds the key of the CA.
    #[schemars(length(max = 253), regex(pattern = super::forms::NAME_PATTERN))]
    pub secret_name: String,
    /// Validity of certificates whose spec does not give one. Default: `2160h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 16))]
    #[x_kube(validation = duration_rule!("duration", "1h"))]
    pub duration: Option<String>,
    /// The longest validity that a certificate may ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 16))]
    #[x_kube(validation = duration_rule!("maxDuration", "1h"))]
    pub max_duration: Option<String>,
    /// Subjects that are signed for nobody. Give the O, OU and DC of the member certificates of the database, such as
    /// `OU=members,O=Acme`. MongoDB takes a client whose subject has all of them for a member, with every right. A subject
    /// is refused if it has all attributes of one entry, in any order and beside any others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 3, max = 256), regex(pattern = MEMBER_PATTERN)))]
    pub forbidden_subjects: Vec<String>,
}

/// An `AtlasProject` of the Atlas Kubernetes Operator.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
pub struct ProjectReference {
    /// The object's name.
    #[schemars(length(max = 253), regex(pattern = super::forms::NAME_PATTERN))]
    pub name: String,
    /// The namespace of the object. A ClusterCertificateIssuer must give it. A CertificateIssuer can refer only to projects
    /// in its own namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub namespace: Option<String>,
}

/// A Secret by name. It is in the namespace of the issuer, or for a ClusterCertificateIssuer in that of the operator.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
pub struct SecretName {
    /// The Secret's name.
    #[schemars(length(max = 253), regex(pattern = super::forms::NAME_PATTERN))]
    pub name: String,
}

/// Who may use an issuer, and for what.
///
/// The CEL rules keep namespaces apart: no name may match the patterns for two namespaces. `decide::pattern` has the same
/// rules in Rust, for issuers that were stored before these rules were there. A test compares both.
#[derive(Clone, Debug, Default, Deserialize, Serialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.usernames) || size(self.usernames) == 0 || !has(self.subjects) || size(self.subjects) == 0 || self.usernames.exists(p, p.contains('{{namespace}}')) == self.subjects.exists(p, p.contains('{{namespace}}'))").message("either both usernames and subjects have {{namespace}} in their patterns, or neither has"))]
pub struct AllowedUse {
    /// For a ClusterCertificateIssuer: the namespaces that may use it. A CertificateIssuer always serves only its own
    /// namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<NamespaceChoice>,
    /// Patterns of user names. A user name must match one of them. `*` stands for any characters except `,`, `+` and `=`.
    /// `{{namespace}}` stands for the name of the namespace. A user name allows the subject `CN=<user name>` and no other.
    /// If one pattern has `{{namespace}}`, all must have it, all at their beginning or all at their end. The character next
    /// to it, if there is one, must be one that namespaces cannot contain, as in `{{namespace}}.*`. So no name belongs to
    /// two namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 256)))]
    #[x_kube(validation = Rule::new("self.all(p, !p.contains('{{namespace}}')) || self.all(p, p.contains('{{namespace}}'))").message("if one pattern of usernames has {{namespace}}, all must have it: give names that all namespaces share in an issuer of its own"))]
    #[x_kube(validation = Rule::new(USERNAMES_APART).message("usernames may allow one name to two namespaces: begin each pattern with the same text and {{namespace}}, followed by nothing or by a character that namespaces cannot contain, as in {{namespace}}.*; or end each pattern so, as in *.{{namespace}}"))]
    pub usernames: Option<Vec<String>>,
    /// For CA issuers: patterns of subjects, such as `CN={{namespace}}.*,OU=apps,O=Acme`. They are for objects that give
    /// `subject`, or whose user name is a subject. A subject matches if it has the same attributes in the same order and
    /// each value matches. If one pattern has `{{namespace}}`, all must have it in the same attribute (CN, OU, O, UID or
    /// DC), by the rule for `usernames`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 4, max = 256), regex(pattern = SUBJECT_PATTERN)))]
    #[x_kube(validation = Rule::new(r"self.all(p, !p.matches('^CN=([^,+\\\\]|\\\\.)*$'))").message("a pattern of subjects must have another attribute beside CN: give common names in usernames, without CN="))]
    #[x_kube(validation = Rule::new("self.all(p, !p.contains('{{namespace}}')) || self.all(p, p.contains('{{namespace}}'))").message("if one pattern of subjects has {{namespace}}, all must have it: give subjects that all namespaces share in an issuer of its own"))]
    #[x_kube(validation = Rule::new(SUBJECTS_APART).message("subjects may allow one subject to two namespaces: have {{namespace}} begin (or end) the same attribute of CN, OU, O, UID or DC in each pattern, followed (or preceded) by nothing or by a character that namespaces cannot contain, as in CN={{namespace}}.*,OU=apps; no other attribute may have that type"))]
    pub subjects: Option<Vec<String>>,
}

/// Namespaces by name or by label. A namespace that either of them selects is allowed.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceChoice {
    /// Namespaces by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(max = 63)))]
    pub names: Vec<String>,
    /// Namespaces by their labels. An empty selector selects all. Whoever may label namespaces decides what a label
    /// selects: prefer `kubernetes.io/metadata.name`, which nobody can change, or `names`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = super::forms::bound_selector)]
    pub selector: Option<LabelSelector>,
}

/// What the operator found out about an issuer.
#[derive(Clone, Debug, Default, Deserialize, Serialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct IssuerStatus {
    /// The generation of the spec that the conditions are about.
    #[serde(default)]
    pub observed_generation: Option<i64>,
    /// `Ready`: whether certificates can be issued. `Stalled` is present only while it is True: no certificates can be
    /// issued, and only a change by a person helps.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
