//! One operation at a time per app and environment, and who makes way for whom.

use std::{
    path::PathBuf,
    sync::{MutexGuard, PoisonError},
    thread::{self, ThreadId},
};

use lifeboat_io::{
    Stop, Urgency,
    lease::{self, Claim, FileLock, LockError, Patience},
};
use lifeboat_model::{
    Failure, FailureKind, Lease, OperationId, Plan, Tri,
    time::{Duration, show_duration},
};
use lifeboat_store::journal::greatest_epoch;

use crate::{Engine, perform::Watch};

/// A lease that an operation has until this is dropped; or until the hold over several is.
pub(crate) struct Held {
    epoch: u64,
    _lock: Option<FileLock>,
}

impl Held {
    pub fn epoch(&self) -> u64 {
        self.epoch
    }
}

/// The lease of the environment, and the thread whose operations it is held for: another one of the same daemon has to wait for it.
pub(crate) struct Holding {
    lock: FileLock,
    thread: ThreadId,
}

impl Holding {
    fn new(lock: FileLock) -> Holding {
        Holding { lock, thread: thread::current().id() }
    }

    fn is_mine(&self) -> bool {
        self.thread == thread::current().id()
    }
}

/// The lease of the environment over several operations that nobody may come between; each has an epoch of its own. Free when dropped.
pub struct Hold<'a> {
    engine: &'a Engine,
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        *self.engine.hold() = None;
    }
}

impl Engine {
    fn hold(&self) -> MutexGuard<'_, Option<Holding>> {
        self.hold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the lease. When its file was lost or cannot be read any more, its epochs go on from the greatest in the journals:
    /// those that are open must be able to go on under it, and nobody may come after it with a smaller one.
    pub(crate) fn take_lease(
        &self,
        plan: &Plan,
        operation: &OperationId,
        by: &str,
        watch: &dyn Watch,
        makes_way: bool,
    ) -> Result<Held, Failure> {
        let path = self.state.lease(&plan.scope, plan.lease);
        let operation = Some(operation.to_string());
        let claim = Claim { operation, makes_way, ..self.claim(by, &plan.title) };
        if let Some(held) = self.hold().as_mut().filter(|held| held.is_mine() && held.lock.path() == path) {
            let lock = &mut held.lock;
            // What a rollback takes back on its way is not stopped by another one.
            let claim = Claim { makes_way: makes_way && lock.note().makes_way, ..claim };
            lock.grant_again(&claim).map_err(|error| unusable(&error))?;
            return Ok(Held { epoch: lock.epoch(), _lock: None });
        }
        let lock = self.lock(&path, &claim, watch).map_err(|error| self.not_granted(&error))?;
        Ok(Held { epoch: lock.epoch(), _lock: Some(lock) })
    }

    fn claim(&self, by: &str, why: &str) -> Claim {
        let (who, why) = (by.to_owned(), why.to_owned());
        let (host, since) = (self.io.env.host(), self.io.clock.now());
        Claim { who, host, since, operation: None, why, makes_way: false }
    }

    fn lock(&self, path: &std::path::Path, claim: &Claim, watch: &dyn Watch) -> Result<FileLock, LockError> {
        let was_damaged = lease::is_damaged(path).unwrap_or(false);
        // What cannot be read tells no epoch; then a damaged lease stays one, and its own error is told.
        // Without any journal, none can be continued under a wrong one.
        let used = || greatest_epoch(&self.state.operations()).map_or(0, |epoch| epoch.max(u64::from(was_damaged)));
        let lock = lease::take_after(path, claim, &used)?;
        if was_damaged && lock.is_found_anew() {
            let (path, epoch) = (path.display(), lock.epoch());
            watch.note(&format!(
                "The lease {path} could not be read; it goes on from the journals, with epoch {epoch}."
            ));
        }
        Ok(lock)
    }

    fn not_granted(&self, error: &LockError) -> Failure {
        match error {
            LockError::Held(held) => {
                let message = format!("another operation is working on {}", self.setup.scope);
                let failure = Failure::new(FailureKind::Busy, message);
                failure.because(held.to_string()).hint("wait for it, or look at it: lifeboat watch")
            }
            LockError::Path(_) | LockError::Damaged { .. } => unusable(error),
        }
    }

    fn environment(&self) -> PathBuf {
        self.state.lease(&self.setup.scope, Lease::Environment)
    }

    /// Holds the lease of the environment over several operations, which make way for a rollback.
    ///
    /// # Errors
    /// When somebody has it, or it cannot be taken.
    pub fn hold_lease(&self, by: &str, why: &str, watch: &dyn Watch) -> Result<Hold<'_>, Failure> {
        let claim = Claim { makes_way: true, ..self.claim(by, why) };
        let lock = self.lock(&self.environment(), &claim, watch).map_err(|error| self.not_granted(&error))?;
        *self.hold() = Some(Holding::new(lock));
        Ok(Hold { engine: self })
    }

    /// Holds the lease of the environment, and has whoever works there make way: it is asked to stop at its next safe point, and after
    /// `wait` to break off the step that is running. What brings something back is never asked.
    ///
    /// # Errors
    /// When the holder does not make way: it is of another kind, or has not come to a safe point within twice that time.
    pub fn make_way(
        &self,
        by: &str,
        why: &str,
        wait: Duration,
        watch: &dyn Watch,
        stop: &Stop,
    ) -> Result<Hold<'_>, Failure> {
        let (path, claim, patience) = (self.environment(), self.claim(by, why), Patience::new(wait));
        let (mut asked, mut urged) = (None, false);
        loop {
            let held = match self.lock(&path, &claim, watch) {
                Ok(lock) => {
                    *self.hold() = Some(Holding::new(lock));
                    return Ok(Hold { engine: self });
                }
                Err(LockError::Held(held)) => held,
                Err(error) => return Err(unusable(&error)),
            };
            // Somebody who is just writing his note has none that can be read.
            if held.note.as_ref().is_some_and(|note| !note.makes_way) {
                return Err(self.not_granted(&LockError::Held(held)));
            }
            if stop.wanted() {
                return Err(Failure::new(
                    FailureKind::Interrupted,
                    "nobody waits for it any more; nothing was changed",
                ));
            }
            let wish = match &mut asked {
                Some(wish) => wish,
                none => {
                    let wish = lease::ask(&path, by, claim.since, why).map_err(|error| unusable(&error))?;
                    let says = if held.alive == Tri::Fail {
                        "what it left running is waited for"
                    } else {
                        "it is asked to stop at its next safe point"
                    };
                    watch.note(&format!("{held}; {says}, for at most {}.", show_duration(wait)));
                    none.insert(wish)
                }
            };
            if patience.is_over(2) {
                let message = format!("who works on {} has not come to a safe point", self.setup.scope);
                let failure = Failure::new(FailureKind::Busy, message).because(held.to_string());
                let hint = match &held.note {
                    Some(note) => {
                        format!("kill {}, then roll back again; its journal tells where it stands", note.process.id)
                    }
                    None => "lifeboat status, then roll back again".to_owned(),
                };
                return Err(failure.hint(hint));
            }
            if patience.is_over(1) && !urged {
                wish.urge().map_err(|error| unusable(&error))?;
                urged = true;
                watch.note("It has not come to a safe point; the step that is running is to be broken off.");
            }
            patience.a_moment();
        }
    }

    /// Hears who waits for this lease, where the work makes way; what is waited for is not begun.
    pub(crate) fn heard(&self, plan: &Plan, stop: &Stop) -> Result<Stop, Failure> {
        if !plan.request.makes_way() {
            return Ok(stop.clone());
        }
        let mut paths = vec![self.state.lease(&plan.scope, plan.lease)];
        paths.extend(self.hold().as_ref().filter(|held| held.is_mine()).map(|held| held.lock.path().to_owned()));
        if let Some(wish) = paths.iter().find_map(|path| lease::asked(path)) {
            let failure = Failure::new(FailureKind::Busy, format!("{} is not begun", plan.title));
            return Err(failure.because(wish.to_string()).hint("wait for it, or look at it: lifeboat watch"));
        }
        Ok(stop.asked_by(move || {
            let wish = paths.iter().find_map(|path| lease::asked(path))?;
            Some(if wish.now { Urgency::Now } else { Urgency::SafePoint })
        }))
    }

    /// Who waits for the lease of an operation, when somebody does.
    pub(crate) fn waiting(&self, plan: &Plan) -> Option<String> {
        let own = self.state.lease(&plan.scope, plan.lease);
        let asked = lease::asked(&own).or_else(|| lease::asked(&self.environment()));
        asked.filter(|_| plan.request.makes_way()).map(|wish| wish.to_string())
    }

    /// Who is carrying these operations out at this moment, in another process: no one may go on with them, and somebody may watch.
    pub(crate) fn at_work(&self, open: &[OperationId]) -> Vec<String> {
        let notes = Lease::ALL
            .iter()
            .filter_map(|lease| lease::read_note(&self.state.lease(&self.setup.scope, *lease)).ok().flatten());
        let is_open = |note: &lease::LockNote| {
            let operation = note.operation.as_deref();
            open.iter().any(|id| Some(id.as_str()) == operation) && note.process.is_alive() == Tri::Pass
        };
        let working = notes.filter(is_open).map(|note| {
            let (operation, since) = (note.operation.unwrap_or_default(), note.since.strftime("%Y-%m-%d %H:%M:%S UTC"));
            let (who, host, pid) = (note.who, note.host, note.process.id);
            format!("{operation}: {}, by {who} on {host} since {since}, process {pid}", note.why)
        });
        working.collect()
    }

    /// Lease files of this scope that cannot be read any more. The next operation makes them anew.
    ///
    /// # Errors
    /// When one cannot even be looked at.
    pub fn damaged_leases(&self) -> Result<Vec<String>, Failure> {
        let mut found = Vec::new();
        for lease in Lease::ALL {
            let path = self.state.lease(&self.setup.scope, lease);
            if lease::is_damaged(&path).map_err(|error| self.failure(&error))? {
                found.push(path.display().to_string());
            }
        }
        Ok(found)
    }
}

fn unusable(error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::from_error(FailureKind::Outside, error).while_doing("the lease cannot be taken")
}
