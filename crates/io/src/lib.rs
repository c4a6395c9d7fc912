//! Every door to the outside world. Nothing above this floor touches files, processes, sockets, environment or clocks
//! by itself. (One declared exception: the catalog opens its own SQLite file.)
#![expect(clippy::disallowed_methods, reason = "this crate is the door")]

pub mod clock;
pub mod database;
pub mod env;
pub mod files;
pub mod holders;
pub mod objects;
pub mod place;
pub mod random;
pub mod stop;
pub mod tree;

use std::sync::Arc;

pub use clock::{Clock, SystemClock};
pub use env::{Env, SystemEnv};
pub use files::{AtPath, PathError};
pub use objects::{ObjectError, ObjectErrorKind, ObjectStore};
pub use random::{Random, SystemRandom};
pub use stop::{Stop, Stopped};

/// The bundle of doors handed upward.
#[derive(Clone)]
pub struct Io {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub random: Arc<dyn Random>,
    /// Environment variables, login name, host name.
    pub env: Arc<dyn Env>,
}

impl Io {
    /// The real doors.
    pub fn system() -> Io {
        Io { clock: Arc::new(SystemClock::default()), random: Arc::new(SystemRandom), env: Arc::new(SystemEnv) }
    }
}
