//! The pure core: what to do about one `DatabaseUserCertificate`, as a function of (desired, observed, now).
//!
//! No clock, no IO, no client. [`decide`] is total: every input has a decision, and its [`Reason`](crate::api::Reason) is the reason of the
//! condition, of the Event and of the metric.

mod allow;
mod backoff;
mod brake;
mod compromised;
mod conditions;
mod credentials;
mod decision;
mod desired;
mod explain;
mod forced;
mod hold;
mod in_service;
mod inputs;
mod issue_error;
mod issuer;
mod lost;
mod memory;
mod observed;
pub mod pass;
mod pattern;
mod renewal;
mod rules;
mod status;
#[cfg(test)]
mod tests;
mod unsaved;
mod user;
mod warnings;

pub use allow::{Allow, AllowError};
pub(crate) use backoff::doubled;
pub use backoff::{next_attempt, pass_repeated_after};
pub use conditions::long_name_warning;
pub use credentials::refused_credentials;
pub use decision::Decision;
pub use desired::{Desired, InvalidSpec, Order, RenewBefore, default_duration, parse_duration, renew_request};
pub use explain::{Check, Explanation, Verdict, explain};
pub use forced::{FORCED_IN_AN_HOUR, next_forced_renewal};
pub use hold::ISSUES_IN_AN_HOUR;
pub use in_service::ready_certificate;
pub use inputs::Inputs;
pub use issue_error::{IssueError, Minted, Retry};
pub use issuer::{CaFacts, IssuerFacts, IssuerState, IssuingMethod};
pub use lost::{ended, record_known_loss, record_lost_claim};
pub use memory::{
    FailedRequest, ObjectMemory, RememberedSecret, SaveFailure, SecretSource, SecretVersion, UnsavedCertificate, is_older,
    secret_source,
};
pub use observed::{AbandonedSecret, ChainView, KeystoreView, Observed, SecretState, SecretView};
pub use pattern::PatternError;
pub(crate) use renewal::share;
pub use renewal::{renew_before, renewal_time, renewal_time_without_suspension};
pub use rules::decide;
pub use status::{NewClaim, claimed, next_look, next_status, record_failure};
pub use user::{
    Holdings, ListedCertificate, RecalledList, RecalledUser, UserCertificates, UserRecord, held_by_budget, record_list,
};
pub use warnings::new_warnings;
