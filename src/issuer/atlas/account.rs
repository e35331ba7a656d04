//! Who asks whom: an endpoint, a project there, and the Secret with the credentials.

/// Whose answers are believed, and for whom.
///
/// The id of a project is known to many, and an endpoint may be anybody's. So what an endpoint tells counts for the Secret with whose
/// credentials it was asked, and for nobody else.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Account {
    /// The API's base URL.
    pub endpoint: String,
    /// The project.
    pub project_id: String,
    /// The UID of the Secret with the credentials.
    pub credentials_uid: String,
}
