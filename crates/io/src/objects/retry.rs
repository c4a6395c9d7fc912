//! Repeats what failed and may pass: a few times, with growing pauses, within a limit on the whole.

use std::{ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{HalfWritten, ObjectError, ObjectErrorKind, ObjectInfo, ObjectStore, parts::InParts};
use crate::{Clock, Io, Random, Stop};

/// How often and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries in all, the first included.
    pub tries_max: u32,
    /// The first pause; each further one is twice as long. Half of it is left to chance, so that many clients do not
    /// come back all at once.
    pub pause: Duration,
    /// No further try begins later than this after the first.
    pub total_limit: Duration,
    /// What a body adds to the limit on the whole: its bytes at this speed, per second.
    pub bytes_per_second_min: u64,
}

impl Default for RetryPolicy {
    /// Together with the limits of the S3 driver a dead server is reported within about ten seconds.
    fn default() -> RetryPolicy {
        RetryPolicy {
            tries_max: 5,
            pause: Duration::from_millis(200),
            total_limit: Duration::from_secs(7),
            bytes_per_second_min: 256 << 10,
        }
    }
}

/// A store whose temporary failures are tried again.
pub struct Retry {
    inner: Arc<dyn ObjectStore>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    stop: Stop,
    policy: RetryPolicy,
}

impl std::fmt::Debug for Retry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Retry").field("inner", &self.inner).field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl Retry {
    /// Wraps a store. Pauses end early when somebody asks to break off.
    pub fn new(inner: Arc<dyn ObjectStore>, io: &Io, stop: &Stop, policy: RetryPolicy) -> Retry {
        let (clock, random) = (Arc::clone(&io.clock), Arc::clone(&io.random));
        Retry { inner, clock, random, stop: stop.clone(), policy }
    }

    /// Calls until it works, fails for good, or the limits are reached. Returns how many tries failed before.
    fn call<T>(
        &self,
        body_bytes: u64,
        mut call: impl FnMut() -> Result<T, ObjectError>,
    ) -> Result<(T, u32), ObjectError> {
        let began = self.clock.elapsed();
        let body = Duration::from_secs(body_bytes / self.policy.bytes_per_second_min.max(1));
        let limit = self.policy.total_limit + body;
        let mut failed = 0;
        loop {
            let error = match call() {
                Ok(done) => return Ok((done, failed)),
                Err(error) => error,
            };
            failed += 1;
            let pause = self.pause(failed);
            let late = self.clock.elapsed().saturating_sub(began) + pause > limit;
            if error.kind != ObjectErrorKind::Temporary || failed >= self.policy.tries_max || late {
                return Err(error);
            }
            if let Err(stopped) = self.clock.sleep(pause, &self.stop) {
                return Err(ObjectError { kind: ObjectErrorKind::Other, source: Box::new(stopped), ..error });
            }
        }
    }

    fn pause(&self, failed: u32) -> Duration {
        let whole = self.policy.pause.saturating_mul(1 << (failed - 1).min(16));
        let share = (self.random.bits() % 1000) as u32;
        whole / 2 + whole / 2 * share / 1000
    }
}

impl ObjectStore for Retry {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn put(&self, key: &str, body: Bytes) -> Result<(), ObjectError> {
        self.call(body.len() as u64, || self.inner.put(key, body.clone())).map(|(done, _)| done)
    }

    /// After a lost answer our own object may be what stands in the way: then it *was* stored. So bodies of competing
    /// writers must differ, which a random id in them ensures.
    fn put_new(&self, key: &str, body: Bytes) -> Result<bool, ObjectError> {
        let (stored, failed) = self.call(body.len() as u64, || self.inner.put_new(key, body.clone()))?;
        if stored || failed == 0 {
            return Ok(stored);
        }
        match self.get(key) {
            Ok(found) => Ok(found == body),
            // Somebody else's, and gone again: it was not ours that was in the way, or it no longer is there.
            Err(error) if error.kind == ObjectErrorKind::Missing => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn get(&self, key: &str) -> Result<Bytes, ObjectError> {
        self.call(0, || self.inner.get(key)).map(|(done, _)| done)
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, ObjectError> {
        let bytes = range.end.saturating_sub(range.start);
        // Numbers from a damaged index must not become a limit of years.
        self.call(bytes.min(64 << 20), || self.inner.get_range(key, range.clone())).map(|(done, _)| done)
    }

    fn size(&self, key: &str) -> Result<u64, ObjectError> {
        self.call(0, || self.inner.size(key)).map(|(done, _)| done)
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, ObjectError> {
        self.call(0, || self.inner.list(prefix)).map(|(done, _)| done)
    }

    fn lists_at_once(&self) -> bool {
        self.inner.lists_at_once()
    }

    fn in_parts(&self) -> Option<&dyn InParts> {
        self.inner.in_parts().map(|_its| self as &dyn InParts)
    }

    fn half_written(&self) -> Result<Vec<HalfWritten>, ObjectError> {
        self.call(0, || self.inner.half_written()).map(|(done, _)| done)
    }

    fn delete(&self, key: &str) -> Result<(), ObjectError> {
        self.call(0, || self.inner.delete(key)).map(|(done, _)| done)
    }
}

impl Retry {
    /// One that has no parts is never asked for them.
    fn its_parts(&self, key: &str) -> Result<&dyn InParts, ObjectError> {
        self.inner.in_parts().ok_or_else(|| ObjectError {
            kind: ObjectErrorKind::Other,
            place: self.place(),
            key: key.to_owned(),
            doing: "write",
            source: "it takes no parts".into(),
        })
    }
}

impl InParts for Retry {
    fn begin(&self, key: &str) -> Result<String, ObjectError> {
        let parts = self.its_parts(key)?;
        self.call(0, || parts.begin(key)).map(|(upload, _)| upload)
    }

    fn part(&self, key: &str, upload: &str, number: usize, body: Bytes) -> Result<String, ObjectError> {
        let parts = self.its_parts(key)?;
        self.call(body.len() as u64, || parts.part(key, upload, number, body.clone())).map(|(name, _)| name)
    }

    fn finish(&self, key: &str, upload: &str, names: &[String]) -> Result<(), ObjectError> {
        let (parts, mut tries) = (self.its_parts(key)?, 0);
        let finish = || {
            tries += 1;
            match parts.finish(key, upload, names) {
                // After a lost answer the upload is not there any more because it has become the object.
                Err(error) if tries > 1 && error.kind == ObjectErrorKind::Missing => {
                    self.inner.size(key).map(|_size| ())
                }
                other => other,
            }
        };
        self.call(0, finish).map(|(done, _)| done)
    }

    fn give_up(&self, key: &str, upload: &str) -> Result<(), ObjectError> {
        let parts = self.its_parts(key)?;
        self.call(0, || parts.give_up(key, upload)).map(|(done, _)| done)
    }
}
