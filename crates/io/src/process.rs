//! Processes as the operating system counts them: who we are, who is still there.

use std::sync::{Arc, OnceLock, atomic::AtomicBool};

/// Whether a process of this number runs on this host. One that belongs to somebody else counts.
pub fn is_alive(pid: u32) -> bool {
    let number = i32::try_from(pid).ok().filter(|&number| number > 0);
    let Some(pid) = number.and_then(rustix::process::Pid::from_raw) else { return false };
    !matches!(rustix::process::test_kill_process(pid), Err(rustix::io::Errno::SRCH))
}

/// Numbers of the user and the group this process runs as.
pub fn owner() -> (u32, u32) {
    (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw())
}

/// Makes SIGHUP harmless from now on. `restic` finds out whether the holder of a lock is alive by sending it that signal,
/// and a process that has not said what to do with it dies of the question.
pub fn survive_hangup() {
    static SEEN: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    SEEN.get_or_init(|| {
        let seen = Arc::new(AtomicBool::new(false));
        // It fails for signals that cannot be caught only; this one can.
        let _ = signal_hook::flag::register(signal_hook::consts::SIGHUP, seen.clone());
        seen
    });
}

#[cfg(test)]
mod tests {
    #[test]
    fn we_are_alive_and_nobody_is_not() {
        assert!(super::is_alive(std::process::id()));
        assert!(super::is_alive(1), "belongs to somebody else, maybe, but is there");
        assert!(!super::is_alive(0));
        assert!(!super::is_alive(u32::MAX));
        assert!(!super::is_alive(0x3fff_fff0));
    }
}
