//! The `usercert-operator` program.

use std::process::ExitCode;

use clap::Parser;
use usercert_operator::{
    controller::chain,
    operator::{Arguments, execute},
};

fn main() -> ExitCode {
    match execute(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("usercert-operator: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}
