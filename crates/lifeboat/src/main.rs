//! The command `lifeboat`.

fn main() -> std::process::ExitCode {
    lifeboat::run(std::env::args_os())
}
