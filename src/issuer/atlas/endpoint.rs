//! Which endpoints the administrator allows, and what may be quoted of their answers.

use std::{fmt, sync::Arc};

use url::{Origin, Url};

/// The rule that tells whether the administrator allows an endpoint.
pub type EndpointRule = Arc<dyn Fn(&Url) -> bool + Send + Sync>;

/// The endpoints that the administrator lists. Only their origins count: scheme, host and port (RFC 6454 section 4). The paths
/// are those of the API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedEndpoints(Vec<Origin>);

impl FromIterator<Url> for AllowedEndpoints {
    fn from_iter<T: IntoIterator<Item = Url>>(endpoints: T) -> Self {
        Self(endpoints.into_iter().map(|endpoint| endpoint.origin()).collect())
    }
}

impl AllowedEndpoints {
    /// Whether the origin of this endpoint is listed.
    #[must_use]
    pub fn allow(&self, endpoint: &Url) -> bool {
        self.0.contains(&endpoint.origin())
    }

    /// This list as a rule.
    #[must_use]
    pub fn into_rule(self) -> EndpointRule {
        Arc::new(move |endpoint| self.allow(endpoint))
    }
}

/// Whether messages may quote the answers of an endpoint, or tell only their status. Whoever may name any endpoint would
/// otherwise read in a condition what some other server of the network says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Words {
    /// The administrator allows the endpoint.
    Quoted,
    /// The administrator does not allow the endpoint, so anybody may answer there.
    Withheld,
}

impl Words {
    /// These words in brackets, to follow a message. Nothing if they are withheld or empty.
    pub(super) fn bracketed(self, before: &str, words: &str) -> String {
        match self {
            Self::Quoted if !words.is_empty() => format!(" ({before}{words})"),
            Self::Quoted | Self::Withheld => String::new(),
        }
    }
}

/// How Atlas is reached, for all issuers.
#[derive(Clone)]
pub struct AtlasAccess {
    /// The client for the requests.
    pub client: super::AtlasClient,
    /// Which endpoints a `CertificateIssuer` may name.
    pub is_allowed: EndpointRule,
    /// The endpoint for objects with a `userRef`, which the administrator names.
    pub endpoint: Url,
}

impl AtlasAccess {
    /// Whether messages may quote this endpoint.
    #[must_use]
    pub fn words_of(&self, endpoint: &Url) -> Words {
        if (self.is_allowed)(endpoint) || endpoint.origin() == self.endpoint.origin() { Words::Quoted } else { Words::Withheld }
    }
}

impl fmt::Debug for AtlasAccess {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("AtlasAccess").field("endpoint", &self.endpoint.as_str()).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]
mod tests {
    use rstest::rstest;

    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[rstest]
    #[case("https://cloud.mongodb.com", true)]
    #[case("https://cloud.mongodb.com/", true)]
    #[case("https://cloud.mongodb.com:443", true)]
    #[case("HTTPS://Cloud.MongoDB.com", true)]
    #[case("https://cloud.mongodb.com/of/no/consequence", true)]
    #[case::other_port("https://cloud.mongodb.com:8443", false)]
    #[case::other_scheme("http://cloud.mongodb.com", false)]
    #[case::other_scheme_same_port("http://cloud.mongodb.com:443", false)]
    #[case::name_below("https://x.cloud.mongodb.com", false)]
    #[case::name_above("https://mongodb.com", false)]
    #[case::absolute_name("https://cloud.mongodb.com.", false)]
    #[case::name_as_user("https://cloud.mongodb.com@10.0.0.1", false)]
    #[case::name_as_prefix("https://cloud.mongodb.com.example", false)]
    #[case::loopback("https://127.0.0.1", false)]
    #[case::plain_loopback("http://localhost:8080", false)]
    #[case::metadata_of_a_cloud("http://169.254.169.254", false)]
    #[case::listed_plain_http("http://atlas.proxy:3128", true)]
    #[case::listed_plain_http_with_tls("https://atlas.proxy:3128", false)]
    #[case::listed_address("https://[fd00::1]:8443", true)]
    #[case::listed_address_written_otherwise("https://[fd00:0:0::0:1]:8443", true)]
    #[case::no_origin("data:text/plain,x", false)]
    fn an_endpoint_is_allowed_by_scheme_host_and_port(#[case] endpoint: &str, #[case] expected: bool) {
        let listed = ["https://cloud.mongodb.com", "http://atlas.proxy:3128/", "https://[fd00::1]:8443", "data:text/plain,x"];
        let allowed: AllowedEndpoints = listed.into_iter().map(url).collect();
        assert_eq!(allowed.allow(&url(endpoint)), expected);
        assert_eq!(allowed.into_rule()(&url(endpoint)), expected);
    }

    #[test]
    fn an_empty_list_allows_nothing() {
        assert!(!AllowedEndpoints::default().allow(&url("https://cloud.mongodb.com")));
    }
}
