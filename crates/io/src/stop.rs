//! How running work is asked to end.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

/// A flag that long work looks at between two pieces of work. Cloned handles share it.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicU8>);

/// How urgently.
const AT_SAFE_POINT: u8 = 1;
const NOW: u8 = 2;

impl Stop {
    /// Asks to finish the running step and stop at the safe point after it (Ctrl-C once, SIGTERM).
    pub fn at_safe_point(&self) {
        self.0.fetch_max(AT_SAFE_POINT, Ordering::SeqCst);
    }

    /// Asks to break off the running step (Ctrl-C twice).
    pub fn now(&self) {
        self.0.fetch_max(NOW, Ordering::SeqCst);
    }

    /// Whether somebody asked to stop after the running step.
    pub fn wanted(&self) -> bool {
        self.0.load(Ordering::SeqCst) >= AT_SAFE_POINT
    }

    /// Ends long work with an error when somebody asked to break it off. Called between two pieces of work inside a step.
    ///
    /// # Errors
    /// [`Stopped`] after [`Stop::now`].
    pub fn check(&self) -> Result<(), Stopped> {
        if self.0.load(Ordering::SeqCst) >= NOW { Err(Stopped) } else { Ok(()) }
    }
}

/// Work was broken off because somebody asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("broken off on request")]
pub struct Stopped;
