//! A store that fails on purpose, the same way each time for the same seed.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;

use super::SeededRandom;
use crate::{
    Clock, Stop,
    objects::{HalfWritten, ObjectError, ObjectErrorKind, ObjectInfo, ObjectStore},
};

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// The call fails and has done nothing.
    FailBefore,
    /// The call has done its work, and fails.
    AnswerLost,
    /// The listing breaks off in the middle, which is an error.
    ShortList,
    /// One bit of what is read is another.
    FlippedBit,
    /// One bit of what is put is another when it arrives, and nobody says so.
    DamagedPut,
    /// There is no space left.
    Full,
    /// The call takes long.
    Slow,
    /// The process has died: this call and all after it fail.
    Crash,
}

/// Which faults happen, and how often.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Of a thousand calls.
    pub fail_before: u32,
    /// Of a thousand puts and deletes.
    pub answer_lost: u32,
    /// Of a thousand listings.
    pub short_list: u32,
    /// Of a thousand reads.
    pub flipped_bit: u32,
    /// Of a thousand puts.
    pub damaged_put: u32,
    /// Of a thousand calls.
    pub slow: u32,
    /// How long a slow call takes, on the given clock.
    pub slowness: Duration,
    /// Puts fail when they would make the sum of all bodies put larger than this. Deletes free nothing.
    pub full_after_bytes: Option<u64>,
    /// The process dies at this put or delete, counted from 0.
    pub crash: Option<Crash>,
}

/// The moment of a simulated death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// Just before the put or delete of this number.
    Before(u64),
    /// Just after it, before anybody learns of it.
    After(u64),
}

/// A store that fails on purpose.
///
/// Whether a call fails depends on the seed, the method, the key and how often that pair was called before, so that
/// threads that overtake each other change nothing.
pub struct FaultyObjects {
    inner: Arc<dyn ObjectStore>,
    clock: Arc<dyn Clock>,
    seed: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    faults: Faults,
    calls: BTreeMap<(&'static str, String), u64>,
    fired: BTreeMap<Fault, u64>,
    put_bytes: u64,
    mutations: u64,
    crashed: bool,
}

impl std::fmt::Debug for FaultyObjects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (seed, state) = (self.seed, self.lock());
        f.debug_struct("FaultyObjects").field("seed", &seed).field("state", &state).finish_non_exhaustive()
    }
}

impl FaultyObjects {
    /// Wraps a store. Put the seed into the message of a failing test.
    pub fn new(inner: Arc<dyn ObjectStore>, clock: Arc<dyn Clock>, seed: u64, faults: Faults) -> FaultyObjects {
        FaultyObjects { inner, clock, seed, state: Mutex::new(State { faults, ..State::default() }) }
    }

    /// How often each fault has happened.
    pub fn fired(&self) -> BTreeMap<Fault, u64> {
        self.lock().fired.clone()
    }

    /// How many puts and deletes were asked for, failed ones included.
    pub fn mutations(&self) -> u64 {
        self.lock().mutations
    }

    /// Changes what happens from now on.
    pub fn set(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides about a call, before it is made. Returns the chance for what comes later in the same call.
    fn before(&self, doing: &'static str, key: &str, put_bytes: Option<u64>) -> Result<Call<'_>, ObjectError> {
        let mut state = self.lock();
        let count = state.calls.entry((doing, key.to_owned())).or_default();
        *count += 1;
        let mut hasher = DefaultHasher::new();
        (self.seed, doing, key, *count).hash(&mut hasher);
        let call = Call { store: self, doing, key: key.to_owned(), random: SeededRandom::new(hasher.finish()) };
        if state.crashed {
            return Err(call.error(ObjectErrorKind::Other, "the process has died"));
        }
        if ["write", "delete"].contains(&doing) {
            let number = state.mutations;
            state.mutations += 1;
            if state.faults.crash == Some(Crash::Before(number)) {
                state.crashed = true;
                return Err(call.fire(&mut state, Fault::Crash, ObjectErrorKind::Other, "the process has died"));
            }
        }
        if call.random.happens(state.faults.slow) {
            *state.fired.entry(Fault::Slow).or_default() += 1;
            let _ = self.clock.sleep(state.faults.slowness, &Stop::default()); // nobody can stop it: no error
        }
        if call.random.happens(state.faults.fail_before) {
            return Err(call.fire(&mut state, Fault::FailBefore, ObjectErrorKind::Temporary, "the line is cut"));
        }
        if let Some(bytes) = put_bytes {
            if state.faults.full_after_bytes.is_some_and(|limit| state.put_bytes + bytes > limit) {
                return Err(call.fire(&mut state, Fault::Full, ObjectErrorKind::Full, "no space is left"));
            }
            state.put_bytes += bytes;
        }
        Ok(call)
    }
}

/// A call that is under way.
struct Call<'a> {
    store: &'a FaultyObjects,
    doing: &'static str,
    key: String,
    random: SeededRandom,
}

impl Call<'_> {
    fn error(&self, kind: ObjectErrorKind, why: &'static str) -> ObjectError {
        let place = self.store.inner.place();
        ObjectError { kind, place, key: self.key.clone(), doing: self.doing, source: why.into() }
    }

    fn fire(&self, state: &mut State, fault: Fault, kind: ObjectErrorKind, why: &'static str) -> ObjectError {
        *state.fired.entry(fault).or_default() += 1;
        self.error(kind, why)
    }

    /// Ends a call that has changed something.
    fn after_change<T>(&self, done: Result<T, ObjectError>) -> Result<T, ObjectError> {
        let done = done?;
        let mut state = self.store.lock();
        if let Some(Crash::After(number)) = state.faults.crash
            && state.mutations == number + 1
        {
            state.crashed = true;
            return Err(self.fire(&mut state, Fault::Crash, ObjectErrorKind::Other, "the process has died"));
        }
        if self.random.happens(state.faults.answer_lost) {
            return Err(self.fire(&mut state, Fault::AnswerLost, ObjectErrorKind::Temporary, "the answer is lost"));
        }
        Ok(done)
    }

    /// Ends a call that has read something.
    fn after_read(&self, body: Bytes) -> Bytes {
        let mut state = self.store.lock();
        if body.is_empty() || !self.random.happens(state.faults.flipped_bit) {
            return body;
        }
        *state.fired.entry(Fault::FlippedBit).or_default() += 1;
        self.flip(&body)
    }

    /// What arrives of a body that is put.
    fn on_its_way(&self, body: Bytes) -> Bytes {
        let mut state = self.store.lock();
        // Without this fault no chance is drawn, so that seeds of former tests mean what they meant.
        if body.is_empty() || state.faults.damaged_put == 0 || !self.random.happens(state.faults.damaged_put) {
            return body;
        }
        *state.fired.entry(Fault::DamagedPut).or_default() += 1;
        self.flip(&body)
    }

    fn flip(&self, body: &Bytes) -> Bytes {
        let mut body = body.to_vec();
        let bit = self.random.below(body.len() as u64 * 8) as usize;
        body[bit / 8] ^= 1 << (bit % 8);
        body.into()
    }
}

impl ObjectStore for FaultyObjects {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn put(&self, key: &str, body: Bytes) -> Result<(), ObjectError> {
        let call = self.before("write", key, Some(body.len() as u64))?;
        let body = call.on_its_way(body);
        call.after_change(self.inner.put(key, body))
    }

    fn put_new(&self, key: &str, body: Bytes) -> Result<bool, ObjectError> {
        let call = self.before("write", key, Some(body.len() as u64))?;
        let body = call.on_its_way(body);
        call.after_change(self.inner.put_new(key, body))
    }

    fn get(&self, key: &str) -> Result<Bytes, ObjectError> {
        let call = self.before("read", key, None)?;
        Ok(call.after_read(self.inner.get(key)?))
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, ObjectError> {
        let call = self.before("read", key, None)?;
        Ok(call.after_read(self.inner.get_range(key, range)?))
    }

    fn size(&self, key: &str) -> Result<u64, ObjectError> {
        self.before("read", key, None)?;
        self.inner.size(key)
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, ObjectError> {
        let call = self.before("list", prefix, None)?;
        let found = self.inner.list(prefix)?;
        let mut state = self.lock();
        if call.random.happens(state.faults.short_list) {
            let why = "the listing broke off";
            return Err(call.fire(&mut state, Fault::ShortList, ObjectErrorKind::Temporary, why));
        }
        Ok(found)
    }

    fn half_written(&self) -> Result<Vec<HalfWritten>, ObjectError> {
        self.inner.half_written()
    }

    fn delete(&self, key: &str) -> Result<(), ObjectError> {
        let call = self.before("delete", key, None)?;
        call.after_change(self.inner.delete(key))
    }
}
