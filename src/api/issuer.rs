//! `CertificateIssuer` and `ClusterCertificateIssuer`: who makes certificates. Both share [`IssuerSpec`].

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a certificate is made; exactly one of `atlas` and `ca`.
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
    /// MongoDB Atlas makes certificate and key for a database user of X.509 type MANAGED.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub atlas: Option<AtlasIssuerSpec>,
    /// The operator signs with a CA whose certificate and key are in a Secret, for self-hosted databases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CaIssuerSpec>,
    /// Who may use this issuer, and for which user names. A CertificateIssuer without it serves its namespace; a
    /// ClusterCertificateIssuer without `allow.namespaces` serves nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow: Option<AllowedUse>,
}

/// The cluster-scoped twin of [`CertificateIssuer`].
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
    /// The Atlas project (24 hexadecimal digits), which the API calls group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-9a-f]{24}$"))]
    pub project_id: Option<String>,
    /// In place of `projectId`: an `AtlasProject` of the Atlas Kubernetes Operator. Its id is taken from its status, and its credentials
    /// unless `credentialsSecretRef` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_ref: Option<ProjectReference>,
    /// The Secret with credentials that have the role Project Owner on the project: `publicApiKey` and `privateApiKey` of an API key, or
    /// `clientId` and `clientSecret` of a service account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretName>,
    /// Where the Administration API answers. A CertificateIssuer may name the endpoints alone that the operator allows
    /// (`atlas.allowedEndpoints` of its chart; by default those of Atlas), a ClusterCertificateIssuer any.
    /// `http` is accepted for loopback addresses only, unless `allowPlainHttp` is set.
    #[serde(default = "default_endpoint")]
    #[schemars(length(max = 512), regex(pattern = ENDPOINT_PATTERN))]
    pub endpoint: String,
    /// Ask the endpoint without TLS if it begins with `http`: who can listen then reads the private keys that Atlas makes.
    /// For a CertificateIssuer this is not enough: the operator has to allow just this endpoint with `http`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_plain_http: Option<bool>,
    /// `v2` is the current API, `v1.0` the legacy one.
    #[serde(default)]
    pub api_version: AtlasApiVersion,
    /// Validity in calendar months for certificates whose spec does not say.
    #[serde(default = "default_months")]
    #[schemars(with = "i32", range(min = 1, max = 24))]
    pub months_until_expiration: u8,
}

/// Attributes of the types of RFC 4514 section 3, joined by `,` and `+`, special characters escaped. Hexadecimal pairs are for what is outside of
/// ASCII, so that none hides a `*` or a part of `{{namespace}}` from the rules below.
const SUBJECT_PATTERN: &str = r#"^(CN|L|ST|O|OU|C|STREET|DC|UID)=([^,+="\\<>;]|\\[^0-7])+([,+](CN|L|ST|O|OU|C|STREET|DC|UID)=([^,+="\\<>;]|\\[^0-7])+)*$"#;

/// The same for what MongoDB compares with its own member certificates.
const MEMBER_PATTERN: &str = r#"^(O|OU|DC)=([^,+="\\<>;]|\\.)+([,+](O|OU|DC)=([^,+="\\<>;]|\\.)+)*$"#;

/// See `keep_namespaces_apart` in `decide::pattern`.
const USERNAMES_APART: &str = r"self.all(p, !p.contains('{{namespace}}')) || self.all(p, p.matches('^([Cc][Nn]=)?[^*{},+=\\\\]*[{][{]namespace[}][}]([^a-z0-9{}*,+=\\\\-][^,+=\\\\]*)?$') && p.replace('CN=', '').find('^[^{]*') == self[0].replace('CN=', '').find('^[^{]*')) || self.all(p, p.matches('^([Cc][Nn]=)?([^,+=\\\\]*[^a-z0-9{}*,+=\\\\-])?[{][{]namespace[}][}][^*{},+=\\\\]*$') && p.find('[^}]*$') == self[0].find('[^}]*$'))";

/// See `keep_namespaces_apart` in `decide::pattern`.
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
#[x_kube(validation = Rule::new("!has(self.duration) || !has(self.maxDuration) || duration(self.duration) <= duration(self.maxDuration)").message("duration must not exceed maxDuration"))]
pub struct CaIssuerSpec {
    /// A `kubernetes.io/tls` Secret: `tls.crt` with the CA's certificate first and those above it after, `tls.key` with its key.
    #[schemars(length(max = 253), regex(pattern = super::certificate::NAME_PATTERN))]
    pub secret_name: String,
    /// Validity for certificates whose spec does not say, such as `2160h` (the default).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 16), regex(pattern = super::certificate::DURATION_PATTERN))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1h')").message("duration must be 1h or more"))]
    pub duration: Option<String>,
    /// The longest validity that a certificate may ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 16), regex(pattern = super::certificate::DURATION_PATTERN))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1h')").message("maxDuration must be 1h or more"))]
    pub max_duration: Option<String>,
    /// Subjects that are signed for nobody: the O, OU and DC of the database's own member certificates, such as `OU=members,O=Acme`.
    /// MongoDB takes whoever has all of them for a member, with every right. A subject that has all attributes of one entry is refused,
    /// in whatever order and beside whatever others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 3, max = 256), regex(pattern = MEMBER_PATTERN)))]
    pub forbidden_subjects: Vec<String>,
}

/// An `AtlasProject` of the Atlas Kubernetes Operator.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
pub struct ProjectReference {
    /// The object's name.
    #[schemars(length(max = 253), regex(pattern = super::certificate::NAME_PATTERN))]
    pub name: String,
    /// Its namespace: for a cluster issuer only, and needed there. An issuer of one namespace refers to projects of that namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub namespace: Option<String>,
}

/// A Secret by name, in the issuer's namespace (for a cluster issuer, in the operator's).
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
pub struct SecretName {
    /// The Secret's name.
    #[schemars(length(max = 253), regex(pattern = super::certificate::NAME_PATTERN))]
    pub name: String,
}

/// Who may use an issuer, and for what.
///
/// The rules keep namespaces apart: no name matches the patterns for two of them. `decide::pattern` has the same rules in Rust, for issuers
/// that were stored before; a test compares both.
#[derive(Clone, Debug, Default, Deserialize, Serialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.usernames) || size(self.usernames) == 0 || !has(self.subjects) || size(self.subjects) == 0 || self.usernames.exists(p, p.contains('{{namespace}}')) == self.subjects.exists(p, p.contains('{{namespace}}'))").message("either both usernames and subjects have {{namespace}} in their patterns, or neither has"))]
pub struct AllowedUse {
    /// Cluster issuers: the namespaces that may use it. A CertificateIssuer always serves its own namespace alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<NamespaceChoice>,
    /// Patterns of which the user name must match one. `*` stands for any characters but `,`, `+` and `=`; `{{namespace}}` stands for the
    /// namespace's name. A user name allows the subject `CN=<user name>` and no other. If one pattern has `{{namespace}}`, all must have
    /// it at their beginning (or all at their end), next to nothing or to a character that namespaces cannot contain, as in
    /// `{{namespace}}.*`, so that no name belongs to two namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 256)))]
    #[x_kube(validation = Rule::new("self.all(p, !p.contains('{{namespace}}')) || self.all(p, p.contains('{{namespace}}'))").message("if one pattern of usernames has {{namespace}}, all must have it: give names that all namespaces share in an issuer of its own"))]
    #[x_kube(validation = Rule::new(USERNAMES_APART).message("usernames may allow one name to two namespaces: begin each pattern with the same text and {{namespace}}, followed by nothing or by a character that namespaces cannot contain, as in {{namespace}}.*; or end each pattern so, as in *.{{namespace}}"))]
    pub usernames: Option<Vec<String>>,
    /// CA: patterns of subjects, such as `CN={{namespace}}.*,OU=apps,O=Acme`, for objects that give `subject` or whose user name is one.
    /// A subject has to have the same attributes in the same order as the pattern, and each value has to match. If one pattern has
    /// `{{namespace}}`, all must have it in the same attribute of CN, OU, O, UID or DC, as `usernames` do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 4, max = 256), regex(pattern = SUBJECT_PATTERN)))]
    #[x_kube(validation = Rule::new(r"self.all(p, !p.matches('^CN=([^,+\\\\]|\\\\.)*$'))").message("a pattern of subjects must have another attribute beside CN: give common names in usernames, without CN="))]
    #[x_kube(validation = Rule::new("self.all(p, !p.contains('{{namespace}}')) || self.all(p, p.contains('{{namespace}}'))").message("if one pattern of subjects has {{namespace}}, all must have it: give subjects that all namespaces share in an issuer of its own"))]
    #[x_kube(validation = Rule::new(SUBJECTS_APART).message("subjects may allow one subject to two namespaces: have {{namespace}} begin (or end) the same attribute of CN, OU, O, UID or DC in each pattern, followed (or preceded) by nothing or by a character that namespaces cannot contain, as in CN={{namespace}}.*,OU=apps; no other attribute may have that type"))]
    pub subjects: Option<Vec<String>>,
}

/// Namespaces by name or by label; one of both is enough.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceChoice {
    /// Namespaces by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Namespaces by their labels; an empty selector means all. It is only as good as who may label namespaces: prefer
    /// `kubernetes.io/metadata.name`, which nobody can change, or names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// What the operator found out about an issuer.
#[derive(Clone, Debug, Default, Deserialize, Serialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct IssuerStatus {
    /// The generation of the spec that the conditions speak of.
    #[serde(default)]
    pub observed_generation: Option<i64>,
    /// `Ready`: whether certificates can be issued.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
