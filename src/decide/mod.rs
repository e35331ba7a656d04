//! The pure core: what to do about one `DatabaseUserCertificate`, as a function of (desired, observed, now).
//!
//! No clock, no IO, no client. [`decide`] is total: every input has a decision, and its [`Reason`] is the reason of the
//! condition, of the Event and of the metric.

mod account;
mod allow;
mod backoff;
mod brake;
mod credentials;
mod decision;
mod desired;
mod hold;
mod observed;
mod pattern;
mod renewal;
mod status;
#[cfg(test)]
mod tests;

pub use account::{UserAccount, record_list};
pub use allow::{Allow, AllowError};
pub use backoff::{inputs_digest, next_attempt};
pub use credentials::refused_credentials;
pub use decision::{Decision, decide, ready_certificate};
pub use desired::{Desired, InvalidSpec, IssuerDefaults, IssuerType, RenewBefore, parse_duration};
pub use observed::{AbandonedSecret, ChainView, IssuerFacts, IssuerState, Observed, SaveRefused, SecretState, SecretView};
pub use pattern::PatternError;
pub use renewal::{renew_before, renewal_time};
pub use status::{claimed, long_name_warning, next_look, next_status, record_failure, record_lost_claim};
