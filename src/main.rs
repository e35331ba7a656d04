//! The `usercert-operator` program.

use std::{io::Write, process::ExitCode};

use clap::Parser;
use usercert_operator::{
    controller::chain,
    operator::{Arguments, execute},
};

fn main() -> ExitCode {
    match execute(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to be told if standard error is closed.
            _ = writeln!(std::io::stderr(), "usercert-operator: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}
