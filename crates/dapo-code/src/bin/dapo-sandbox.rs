//! The sandbox's launcher, for programs that cannot be their own.

use std::process::ExitCode;

fn main() -> ExitCode {
    dapo_code::run_launcher_if_asked();
    eprintln!("dapo-sandbox runs programs for dapo-code and is started by it alone");
    ExitCode::from(2)
}
