//! Who asks whom: an endpoint, a project there, and the Secret with the credentials.

/// Whose answers are believed, and for whom.
///
/// The id of a project is known to many, and an endpoint may be anybody's. So an answer counts only for the Secret whose
/// credentials were used.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Account {
    /// The API's base URL.
    pub endpoint: String,
    /// The project.
    pub project_id: String,
    /// The UID of the Secret with the credentials.
    pub credentials_uid: String,
}
