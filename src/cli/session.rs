//! What a verb runs with.

use std::{fmt, sync::Arc};

use jiff::Timestamp;

use crate::terminal::Terminal;

/// Where a verb runs: its terminal and its clock.
#[derive(Clone)]
pub struct Session {
    /// The terminal.
    pub terminal: Terminal,
    /// Tells the time.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl fmt::Debug for Session {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Session").field("terminal", &self.terminal).finish_non_exhaustive()
    }
}

impl Session {
    /// That of this process.
    #[must_use]
    pub fn of_terminal() -> Self {
        Self { terminal: Terminal::of_process(), clock: Arc::new(Timestamp::now) }
    }

    /// The time.
    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }
}
