//! Arguments in, exit code out.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    kura::cli::run()
}
