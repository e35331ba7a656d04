//! The command line.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

use clap::Parser;
use usercert_operator::operator::{Arguments, Command, RunArguments};

use crate::Outcome;

/// The longest text that clap makes up itself: that of `--help`.
const LONGEST_HELP: usize = 16 * 1024;

/// How often what was given may be in an error: as it is, and as the suggestion of what was meant.
const QUOTED: usize = 4;

/// Arguments after the program's name, with a NUL or a newline between them.
pub fn arguments(data: &[u8]) -> Outcome {
    let given = data.split(|byte| matches!(byte, 0 | b'\n')).filter(|argument| !argument.is_empty()).map(OsStr::from_bytes);
    match Arguments::try_parse_from([OsStr::new("usercert-operator")].into_iter().chain(given)) {
        Ok(Arguments { command: Some(Command::Run(run)) }) => assert_is_usable(&run),
        Ok(_) => {}
        Err(error) => {
            let text = error.to_string();
            // A byte that is no text is shown as a sign of three bytes.
            assert!(text.len() <= LONGEST_HELP + 3 * QUOTED * data.len(), "{} bytes are said of {}", text.len(), data.len());
        }
    }
    Outcome::Read
}

/// What the process takes for granted.
fn assert_is_usable(run: &RunArguments) {
    assert!(run.max_concurrent > 0);
    assert!((1..=60).contains(&run.atlas_timeout.as_secs()), "{run:?}");
    assert!((1..=3600).contains(&run.stop_limit.as_secs()), "{run:?}");
    assert!(!run.allowed_atlas_endpoints.is_empty());
    for endpoint in run.allowed_atlas_endpoints.iter().chain([&run.atlas_endpoint]) {
        assert!(endpoint.username().is_empty() && endpoint.password().is_none(), "a password would be shown: {run:?}");
        assert!(endpoint.has_host() && endpoint.join("/api").is_ok(), "{run:?}");
        assert!(endpoint.origin().is_tuple(), "an endpoint that equals no other: {run:?}");
    }
    if let Some(location) = &run.atlas_operator_secret {
        let (namespace, name) = (&location.namespace, &location.name);
        assert!(!namespace.is_empty() && !name.is_empty(), "{run:?}");
    }
}
