//! Arguments in, exit code out.

fn main() -> std::process::ExitCode {
    kura::cli::run()
}
