//! Ctrl-C and its relatives, turned into a request on a [`Stop`].

use std::io;

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::{Handle, Signals},
};

use crate::stop::Stop;

/// Signals are listened to as long as this lives.
#[derive(Debug)]
pub struct SignalGuard {
    handle: Handle,
}

impl Drop for SignalGuard {
    fn drop(&mut self) {
        self.handle.close();
    }
}

/// Listens to Ctrl-C, SIGTERM and SIGHUP: the first asks to stop at the next safe point, the second to break off now.
///
/// A hangup counts only when our terminal has gone: `restic` sends that signal to find out whether the holder of a lock is
/// alive, and services use it for other purposes. One that was switched off before we started (`nohup`) stays so.
///
/// # Errors
/// The operating system refuses the handler or the thread.
pub fn install(stop: &Stop) -> io::Result<SignalGuard> {
    let had_terminal = has_terminal();
    let mut wanted = vec![SIGINT, SIGTERM];
    if !is_ignored(SIGHUP) {
        wanted.push(SIGHUP);
    }
    let mut signals = Signals::new(wanted)?;
    let handle = signals.handle();
    let stop = stop.clone();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            let counts = signal != SIGHUP || (had_terminal && !has_terminal());
            match counts {
                false => {}
                true if stop.wanted() => stop.now(),
                true => stop.at_safe_point(),
            }
        }
    })?;
    Ok(SignalGuard { handle })
}

/// Whether somebody could be looking: a process has a terminal until that is hung up.
fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}

/// Whether a signal is ignored, as the kernel tells; no where it does not tell.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignored_in(&status, signal)
}

fn ignored_in(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    mask >> (signal - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_mask_is_read_bit_by_bit() {
        let status = "Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\tffffffffffffffff\n";
        assert!(ignored_in(status, SIGHUP), "bit 0 is signal 1");
        assert!(!ignored_in(status, SIGINT));
        assert!(ignored_in(status, 13), "bit 12 is SIGPIPE");
        assert!(!ignored_in("", SIGHUP));
    }
}
