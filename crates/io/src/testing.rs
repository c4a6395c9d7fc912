//! Twins of the doors for tests, and the suites that every driver passes. Only with the cargo feature `testing`.

mod clock;
mod conform;
mod exec;
mod faulty;
mod memory;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    sync::{Arc, Mutex, PoisonError},
};

pub use clock::ManualClock;
pub use conform::{conform_objects, conform_put_new_race};
pub use exec::ScriptedExec;
pub use faulty::{Crash, Fault, Faults, FaultyObjects};
pub use memory::MemoryObjects;

use crate::{Env, Io, Random};

/// Doors that all lead nowhere: a clock that stands at the beginning of 2026, chance from seed 0, an empty environment,
/// no programs.
pub fn twin_io() -> Io {
    Io {
        clock: Arc::new(ManualClock::default()),
        random: Arc::new(SeededRandom::new(0)),
        env: Arc::new(MapEnv::default()),
        exec: Arc::new(ScriptedExec::default()),
    }
}

/// Chance that repeats itself from a seed. Not fit for keys.
#[derive(Debug)]
pub struct SeededRandom {
    state: Mutex<u64>,
}

impl SeededRandom {
    /// Chance from a seed.
    pub fn new(seed: u64) -> SeededRandom {
        SeededRandom { state: Mutex::new(seed) }
    }

    /// A number below `end`; 0 when `end` is 0.
    pub fn below(&self, end: u64) -> u64 {
        self.bits() % end.max(1)
    }

    /// True `per_thousand` times in a thousand.
    pub fn happens(&self, per_thousand: u32) -> bool {
        self.below(1000) < u64::from(per_thousand)
    }
}

impl Random for SeededRandom {
    fn fill(&self, bytes: &mut [u8]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for part in bytes.chunks_mut(8) {
            // SplitMix64: https://prng.di.unimi.it/splitmix64.c
            *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut mixed = *state;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            part.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes()[..part.len()]);
        }
    }
}

/// An environment made of a map.
#[derive(Clone, Debug)]
pub struct MapEnv {
    /// The variables that are set.
    pub vars: BTreeMap<String, OsString>,
    /// Login name.
    pub user: String,
    /// Host name.
    pub host: String,
}

impl Default for MapEnv {
    fn default() -> MapEnv {
        MapEnv { vars: BTreeMap::new(), user: "tester".into(), host: "twin".into() }
    }
}

impl MapEnv {
    /// An environment with these variables.
    pub fn new<N: Into<String>, V: Into<OsString>>(vars: impl IntoIterator<Item = (N, V)>) -> MapEnv {
        let vars = vars.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        MapEnv { vars, ..MapEnv::default() }
    }
}

impl Env for MapEnv {
    fn var(&self, name: &str) -> Option<OsString> {
        self.vars.get(name).cloned()
    }

    fn user(&self) -> String {
        self.user.clone()
    }

    fn host(&self) -> String {
        self.host.clone()
    }
}
