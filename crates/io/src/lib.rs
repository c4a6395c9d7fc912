//! Every door to the outside world. Nothing above this floor touches files, processes, sockets, environment or clocks
//! by itself. (One declared exception: the catalog opens its own SQLite file.)
#![expect(clippy::disallowed_methods, reason = "this crate is the door")]

mod behind;
pub mod clock;
pub mod database;
pub mod digest;
pub mod env;
pub mod exec;
pub mod failpoint;
pub mod files;
pub mod git;
pub mod gzip;
pub mod holders;
mod http;
pub mod lease;
pub mod listeners;
pub mod objects;
pub mod place;
pub mod process;
pub mod random;
pub mod sealed;
pub mod signals;
pub mod stop;
#[cfg(feature = "testing")]
pub mod testing;
pub mod tree;

use std::sync::Arc;

pub use clock::{Clock, SystemClock};
pub use env::{Env, SystemEnv};
pub use exec::{Exec, ExecError, Exit, Invocation, SystemExec};
pub use files::{AtPath, PathError};
pub use http::{
    HttpAnswer, HttpRequest, answers_over_http, answers_over_the_web, ask_over_http, listens, post_over_the_web,
};
pub use objects::{
    HalfWritten, ObjectError, ObjectErrorKind, ObjectInfo, ObjectStore,
    location::{Location, open_location, parse_location},
};
pub use random::{Random, SystemRandom};
pub use stop::{Stop, Stopped, Urgency};

/// The bundle of doors handed upward.
#[derive(Clone)]
pub struct Io {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub random: Arc<dyn Random>,
    /// Environment variables, login name, host name.
    pub env: Arc<dyn Env>,
    /// Programs.
    pub exec: Arc<dyn Exec>,
}

impl Io {
    /// The real doors.
    pub fn system() -> Io {
        Io {
            clock: Arc::new(SystemClock::default()),
            random: Arc::new(SystemRandom),
            env: Arc::new(SystemEnv),
            exec: Arc::new(SystemExec),
        }
    }
}
