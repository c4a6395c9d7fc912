//! How running work is asked to end.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

/// A flag that long work looks at between two pieces of work. Cloned handles share it.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    own: Arc<AtomicU8>,
    above: Option<Arc<Stop>>,
}

/// How urgently.
const AT_SAFE_POINT: u8 = 1;
const NOW: u8 = 2;

impl Stop {
    /// A flag of its own, which is up as well when this one is: for one of several pieces of work.
    #[must_use]
    pub fn below(&self) -> Stop {
        Stop { own: Arc::default(), above: Some(Arc::new(self.clone())) }
    }

    fn level(&self) -> u8 {
        let above = self.above.as_ref().map_or(0, |above| above.level());
        self.own.load(Ordering::SeqCst).max(above)
    }

    /// Asks to finish the running step and stop at the safe point after it (Ctrl-C once, SIGTERM).
    pub fn at_safe_point(&self) {
        self.own.fetch_max(AT_SAFE_POINT, Ordering::SeqCst);
    }

    /// Asks to break off the running step (Ctrl-C twice).
    pub fn now(&self) {
        self.own.fetch_max(NOW, Ordering::SeqCst);
    }

    /// Whether somebody asked to stop after the running step.
    pub fn wanted(&self) -> bool {
        self.level() >= AT_SAFE_POINT
    }

    /// Ends long work with an error when somebody asked to break it off. Called between two pieces of work inside a step.
    ///
    /// # Errors
    /// [`Stopped`] after [`Stop::now`].
    pub fn check(&self) -> Result<(), Stopped> {
        if self.level() >= NOW { Err(Stopped) } else { Ok(()) }
    }
}

/// Work was broken off because somebody asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("broken off on request")]
pub struct Stopped;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_all_ends_each_and_what_ends_one_ends_no_other() {
        let all = Stop::default();
        let (one, other) = (all.below(), all.below());
        one.now();
        assert!(one.check().is_err() && !other.wanted() && !all.wanted());
        all.at_safe_point();
        assert!(other.wanted() && other.check().is_ok());
        all.now();
        assert!(other.clone().check().is_err());
    }
}
