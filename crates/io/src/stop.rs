//! How running work is asked to end.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

/// A flag that long work looks at between two pieces of work. Cloned handles share it.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    own: Arc<AtomicU8>,
    above: Option<Arc<Stop>>,
    asked: Option<Arc<Asked>>,
}

/// Somebody outside of this process who may ask as well.
struct Asked {
    look: Box<dyn Fn() -> Option<Urgency> + Send + Sync>,
    looked: Mutex<Option<Instant>>,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Asked")
    }
}

/// How urgently work is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// After the running step.
    SafePoint,
    /// The running step is broken off.
    Now,
}

/// Looking costs a file; long work asks between two pieces of a few kilobytes.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How urgently.
const AT_SAFE_POINT: u8 = 1;
const NOW: u8 = 2;

impl Stop {
    /// A flag of its own, which is up as well when this one is: for one of several pieces of work.
    #[must_use]
    pub fn below(&self) -> Stop {
        Stop { above: Some(Arc::new(self.clone())), ..Stop::default() }
    }

    /// A flag of its own, which is up as well when this one is, and when a look outside says so.
    #[must_use]
    pub fn asked_by(&self, look: impl Fn() -> Option<Urgency> + Send + Sync + 'static) -> Stop {
        let asked = Asked { look: Box::new(look), looked: Mutex::new(None) };
        Stop { asked: Some(Arc::new(asked)), ..self.below() }
    }

    fn level(&self, often: bool) -> u8 {
        let above = self.above.as_ref().map_or(0, |above| above.level(often));
        self.look_outside(often);
        self.own.load(Ordering::SeqCst).max(above)
    }

    fn look_outside(&self, often: bool) {
        let Some(asked) = &self.asked else { return };
        let mut looked = asked.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if often && looked.is_some_and(|looked| looked.elapsed() < LOOK_EVERY) {
            return;
        }
        *looked = Some(Instant::now());
        match (asked.look)() {
            Some(Urgency::SafePoint) => self.at_safe_point(),
            Some(Urgency::Now) => self.now(),
            None => {}
        }
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
        self.level(false) >= AT_SAFE_POINT
    }

    /// Ends long work with an error when somebody asked to break it off. Called between two pieces of work inside a step.
    ///
    /// # Errors
    /// [`Stopped`] after [`Stop::now`].
    pub fn check(&self) -> Result<(), Stopped> {
        if self.level(true) >= NOW { Err(Stopped) } else { Ok(()) }
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

    #[test]
    fn who_asks_from_outside_is_heard_and_asks_nobody_else() {
        let (all, says) = (Stop::default(), Arc::new(AtomicU8::new(0)));
        let said = says.clone();
        let one = all.asked_by(move || match said.load(Ordering::SeqCst) {
            0 => None,
            1 => Some(Urgency::SafePoint),
            _more => Some(Urgency::Now),
        });
        assert!(!one.wanted() && one.check().is_ok());
        let heard = |urgency: u8, is_heard: &dyn Fn() -> bool| {
            says.store(urgency, Ordering::SeqCst);
            while !is_heard() {
                std::thread::yield_now();
            }
        };
        heard(1, &|| one.wanted());
        assert!(one.below().wanted() && one.check().is_ok() && !all.wanted());
        heard(2, &|| one.check().is_err());
        assert!(one.clone().check().is_err() && all.check().is_ok());
    }
}
