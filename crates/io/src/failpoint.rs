//! Death on demand, for tests: builds with debug assertions kill themselves (`SIGKILL`, nothing is cleaned up) when told
//! to by `LIFEBOAT_FAILPOINT`. Release builds contain none of this.

use crate::Io;

/// What a test panics with to stand in for the death of the process: whoever catches panics must let this one through.
#[derive(Clone, Copy, Debug)]
pub struct Death;

/// Dies right after the journal line with this number is on disk, when `LIFEBOAT_FAILPOINT=journal:N` says so.
pub fn after_journal_line(io: &Io, line: u64) {
    die_at(io, &format!("journal:{line}"));
}

/// Dies when `LIFEBOAT_FAILPOINT` names this point.
#[cfg(debug_assertions)]
pub fn die_at(io: &Io, point: &str) {
    if io.env.var("LIFEBOAT_FAILPOINT").is_some_and(|wanted| wanted == point) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

/// Nothing, in a release build.
#[cfg(not(debug_assertions))]
pub fn die_at(_io: &Io, _point: &str) {}
