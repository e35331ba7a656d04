//! The `kubectl-usercert` program, which kubectl runs as `kubectl usercert`.

use std::process::ExitCode;

fn main() -> ExitCode {
    usercert_cli::run(std::env::args_os())
}
