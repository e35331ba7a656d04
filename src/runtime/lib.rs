//! What both the controllers and the process around them need: the clock, the leadership, the metrics, and whether all are ready.

mod clock;
mod leadership;
mod metrics;
mod readiness;

pub use clock::{Clock, clock_jumps, periods, system_clock};
pub use leadership::{Leadership, LeadershipTeller, RENEW_DEADLINE};
pub use metrics::{CertificateSeries, Inventory, Metrics, RateLimit};
pub use readiness::Readiness;

use usercert_operator_core::{api, atlas_request, decide, figures, rollout};
