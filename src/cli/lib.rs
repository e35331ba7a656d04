//! `kubectl usercert`: who expires when, why a certificate is or is not renewed, and renewals on demand.
//!
//! | Folder or file | What is in it |
//! | --- | --- |
//! | `arguments` | what may be written on the command line |
//! | `complete` | what may follow on a command line that is not finished |
//! | `cluster` | how the API server is reached and asked |
//! | `login` | credential plugins, and what may be told of them |
//! | `exit` | how the program ends: answers, also for programs, and exit codes |
//! | `patient` | requests that the API server puts off |
//! | `redact` | what is taken out of what others have written |
//! | `session` | the terminal and the clock of a verb |
//! | `terminal`, `table`, `text` | how answers look |
//! | `verbs` | one module for each verb: what it reads, and a pure function from that to the answer |
//!
//! # Guarantees
//!
//! - What an answer says is a pure function of what was read. The decisions are the operator's own: `decide` and its neighbours in the core.
//! - Secrets are read by their metadata alone, unless a verb's help says otherwise.
//! - Nothing is changed without a verb that says so, and `--dry-run` of such a verb changes nothing.

pub mod arguments;
pub mod cluster;
pub mod complete;
pub mod exit;
mod login;
mod patient;
mod redact;
pub mod session;
mod table;
pub mod terminal;
mod text;
pub mod verbs;

use std::{ffi::OsString, io::Write, process::ExitCode};

use clap::Parser;
use usercert_operator_controller::chain;

use crate::{
    arguments::Arguments,
    complete::{COMPLETE, complete},
    exit::{Answer, CliError, Exit},
    login::block_on,
    session::Session,
    table::Cell,
};

/// Runs the program with these arguments, the first of which is its own name. Returns its exit code.
#[must_use]
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    terminal::leave_out_colours_of_dumb_terminals();
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if let Some((_, words)) = arguments.split_first().filter(|(_, words)| words.first().is_some_and(|word| word == COMPLETE)) {
        return ExitCode::from(print(&Answer::new(complete(&words[1..]), Exit::Good)) as u8);
    }
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no errors, and go to standard output. Nobody is left to be told if neither can be written.
            _ = error.print();
            return ExitCode::from(if error.use_stderr() { Exit::Usage } else { Exit::Good } as u8);
        }
    };
    let answer = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(CliError::Runtime)
        .and_then(|runtime| block_on(runtime, execute(arguments, Session::of_terminal())));
    let exit = match answer {
        Ok(answer) => print(&answer),
        Err(error) => {
            complain(&chain(&error));
            error.exit()
        }
    };
    ExitCode::from(exit as u8)
}

/// Does what the arguments ask for.
///
/// # Errors
/// [`CliError`] says what could not be asked or done, and what to change.
pub async fn execute(arguments: Arguments, session: Session) -> Result<Answer, CliError> {
    verbs::execute(arguments, session).await
}

/// Writes an answer to standard output. A pipe that was closed, as `head` does, is no error.
fn print(answer: &Answer) -> Exit {
    let mut out = anstream::AutoStream::auto(std::io::stdout());
    match out.write_all(&answer.bytes).and_then(|()| out.flush()) {
        Ok(()) => answer.exit,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => answer.exit,
        Err(error) => {
            complain(&format!("could not write the answer: {error}"));
            Exit::CouldNotAsk
        }
    }
}

/// Writes an error to standard error: on one line, without what a terminal would act on, for anybody may have written what the API server
/// or a webhook says.
fn complain(error: &str) {
    let line = error.split_whitespace().collect::<Vec<_>>().join(" ");
    // Whoever closed standard error does not want to know.
    _ = writeln!(std::io::stderr(), "error: {}", Cell::whole(&line).text());
}
