//! What both the controllers and the process around them need: the clock, the leadership, the metrics, whether all are ready, and
//! whether all loops move.

mod check;
mod clock;
mod leadership;
mod liveness;
mod metrics;
mod readiness;

pub use check::Check;
pub use clock::{CLOCK_LIMIT, Clock, clock_jumps, periods, system_clock};
pub use leadership::{Leadership, LeadershipTeller, RENEW_DEADLINE};
pub use liveness::{HELD_BACK, Heartbeat, Liveness, Pulse, Verdict};
pub use metrics::{CertificateSeries, ControllerName, Inventory, Metrics, RateLimit};
pub use readiness::Readiness;

use usercert_operator_core::{api, atlas_request, decide, figures, rollout};
