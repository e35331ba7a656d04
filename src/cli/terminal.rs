//! What is known of the terminal, and progress on it.

use std::{
    io::{IsTerminal, Write},
    time::{Duration, Instant},
};

use anstyle::{AnsiColor, Style};
use usercert_operator_core::api::printable;

/// Nothing is said of what takes less time than this.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Leaves colours out on a terminal that says it knows none (`TERM=dumb`), unless `CLICOLOR_FORCE` asks for them. On a build server, where `CI`
/// is set, the library would colour every terminal. Help and errors of the command line are written before a [`Terminal`] is known, so this is
/// for the whole process.
pub fn leave_out_colours_of_dumb_terminals() {
    let is_dumb = std::env::var_os("TERM").is_some_and(|kind| kind == "dumb");
    let is_forced = std::env::var_os("CLICOLOR_FORCE").is_some_and(|value| !value.is_empty() && value != "0");
    if is_dumb && !is_forced {
        anstream::ColorChoice::Never.write_global();
    }
}

/// How an answer may look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// The number of columns; `None` if the answer goes to a file or a pipe, where lines may have any length.
    pub width: Option<usize>,
    /// Whether colours are wanted. They only repeat what words say.
    pub has_colour: bool,
    /// Whether somebody sees what is said of progress.
    pub tells_progress: bool,
    /// Whether each change is written to standard error when it is made, so that an interruption leaves a record of it.
    pub records_changes: bool,
}

impl Terminal {
    /// The terminal that standard output leads to. `NO_COLOR` (no-color.org), `CLICOLOR` and `CLICOLOR_FORCE` (bixense.com/clicolors)
    /// are heeded, and for a terminal `COLUMNS`. It says
    /// nothing of a pipe, whose reader wants whole lines.
    #[must_use]
    pub fn of_process() -> Self {
        let out = std::io::stdout();
        let asked = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).filter(|columns| *columns > 0);
        let asked = asked.filter(|_| out.is_terminal());
        let width = asked.or_else(|| terminal_size::terminal_size_of(&out).map(|(width, _)| usize::from(width.0)));
        let has_colour = anstream::AutoStream::choice(&out) != anstream::ColorChoice::Never;
        Self { width, has_colour, tells_progress: std::io::stderr().is_terminal(), records_changes: true }
    }

    /// No terminal: a file, a pipe, a test.
    #[must_use]
    pub const fn none() -> Self {
        Self { width: None, has_colour: false, tells_progress: false, records_changes: false }
    }

    /// Says on standard error how far something is, if somebody sees it.
    pub fn tell(&self, what: &str) {
        if self.tells_progress {
            // Whoever closed standard error does not want to know.
            _ = writeln!(std::io::stderr(), "... {}", printable(what, 512));
        }
    }

    /// Writes to standard error that something was changed, whether or not standard error is a terminal.
    pub fn record(&self, what: &str) {
        if self.records_changes {
            // Whoever closed standard error does not want to know.
            _ = writeln!(std::io::stderr(), "{}", printable(what, 1024));
        }
    }

    /// The text in the colour of this mood, if colours are wanted.
    #[must_use]
    pub fn paint(&self, mood: Mood, text: &str) -> String {
        let style = match mood {
            _ if !self.has_colour => return text.to_owned(),
            Mood::Plain => return text.to_owned(),
            Mood::Good => AnsiColor::Green.on_default(),
            Mood::Warning => AnsiColor::Yellow.on_default(),
            Mood::Bad => AnsiColor::Red.on_default().bold(),
            Mood::Title => Style::new().bold(),
        };
        format!("{style}{text}{style:#}")
    }
}

/// What a colour says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Nothing.
    Plain,
    /// In order.
    Good,
    /// Worth a look.
    Warning,
    /// Wrong.
    Bad,
    /// A heading.
    Title,
}

/// Says on standard error how far something is that takes long.
pub struct Progress {
    last: Instant,
    terminal: Terminal,
}

impl Progress {
    /// Begins now.
    #[must_use]
    pub fn new(terminal: &Terminal) -> Self {
        Self { last: Instant::now(), terminal: terminal.clone() }
    }

    /// Says how far it is, if two seconds have passed since the last word.
    pub fn tell(&mut self, what: impl FnOnce() -> String) {
        if self.terminal.tells_progress && self.last.elapsed() >= PATIENCE {
            self.last = Instant::now();
            self.terminal.tell(&what());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_only_where_they_are_wanted() {
        let coloured = Terminal { has_colour: true, ..Terminal::none() };
        assert_eq!(Terminal::none().paint(Mood::Bad, "expired"), "expired");
        assert_eq!(coloured.paint(Mood::Plain, "ready"), "ready");
        let painted = coloured.paint(Mood::Bad, "expired");
        assert!(painted.contains("expired") && painted.starts_with('\u{1b}') && painted.ends_with("\u{1b}[0m"), "{painted:?}");
    }
}
