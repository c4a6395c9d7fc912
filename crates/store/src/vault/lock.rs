//! Locks: files that say who uses the vault. They are restic's, so that its prune and our backup do not meet.

use std::{fmt, sync::Arc, thread::JoinHandle, time::Duration};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use lifeboat_io::{ObjectErrorKind, Stop, process};
use lifeboat_model::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Core, Id, Vault, VaultError, lock_of};

/// The folder they lie in.
pub(crate) const FOLDER: &str = "locks";

/// A lock older than this belongs to nobody, says restic.
const STALE_AFTER: Duration = Duration::from_secs(30 * 60);
/// How often ours is made new.
const REFRESH_EVERY: Duration = Duration::from_secs(5 * 60);
/// How long after a refresh that failed the next is tried.
const RETRY_AFTER: Duration = Duration::from_secs(20);
/// Past this age we do not count on our own lock any more: before the others stop counting on it.
const LOST_AFTER: Duration = Duration::from_secs(25 * 60);
/// Between writing our lock and looking again for others, where listings may lag behind: restic waits as long.
const SETTLE: Duration = Duration::from_millis(200);

/// Who is kept out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// Those who want the vault for themselves: for backing up and reading.
    Shared,
    /// Everybody: for deleting data.
    Exclusive,
}

/// A lock file as restic writes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct LockFile {
    time: Timestamp,
    exclusive: bool,
    hostname: String,
    username: String,
    pid: i64,
    #[serde(default, skip_serializing_if = "is_root")]
    uid: u32,
    #[serde(default, skip_serializing_if = "is_root")]
    gid: u32,
}

fn is_root(number: &u32) -> bool {
    *number == 0
}

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockHolder {
    /// What it keeps out.
    pub kind: LockKind,
    /// The lock's name.
    pub id: Id,
    /// On which host.
    pub host: String,
    /// Which process there.
    pub pid: i64,
    /// Of which user.
    pub user: String,
    /// When it was last refreshed.
    pub since: Timestamp,
}

impl fmt::Display for LockHolder {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LockHolder { kind, host, pid, user, since, .. } = self;
        let how = match kind {
            LockKind::Shared => "in use",
            LockKind::Exclusive => "locked exclusively",
        };
        write!(out, "{how} by process {pid} of {user} on {host} since {since}")
    }
}

/// A lock that is held. Dropping it gives it back.
#[derive(Debug)]
pub struct VaultLock {
    held: Arc<Held>,
    refresher: Option<(Sender<()>, JoinHandle<()>)>,
}

#[derive(Debug)]
struct Held {
    core: Arc<Core>,
    kind: LockKind,
    /// The file's name now, and when it was written by the monotonic clock.
    now: std::sync::Mutex<(Id, Duration)>,
}

impl Vault {
    /// Takes a lock, or says who holds one that excludes it. Stale ones are cleared away: older than half an hour, or of a
    /// process on this host that is gone. Takes a fifth of a second.
    pub fn lock(&self, kind: LockKind, stop: &Stop) -> Result<VaultLock, VaultError> {
        self.lock_meanwhile(kind, stop, || ()).map(|(lock, ())| lock)
    }

    /// [`Vault::lock`], reading meanwhile: from when our lock is written to when nobody else's has turned up. What was read
    /// counts only together with the lock.
    pub(crate) fn lock_meanwhile<T>(
        &self,
        kind: LockKind,
        stop: &Stop,
        meanwhile: impl FnOnce() -> T,
    ) -> Result<(VaultLock, T), VaultError> {
        // restic asks processes whether they live by SIGHUP.
        process::survive_hangup();
        let core = &self.core;
        core.refuse_if_locked(kind, None)?;
        let written = core.io.clock.elapsed();
        let id = core.write_json(FOLDER, &core.lock_file(kind))?;
        let read = meanwhile();
        // Where listings are of the moment, two who come at once see each other: each writes before it looks.
        let settle = if core.store.lists_at_once() { Duration::ZERO } else { SETTLE };
        let left = settle.saturating_sub(core.io.clock.elapsed().saturating_sub(written));
        let settled = core.io.clock.sleep(left, stop).map_err(VaultError::from);
        if let Err(error) = settled.and_then(|()| core.refuse_if_locked(kind, Some(id))) {
            let _ = core.delete(FOLDER, id); // it goes stale when we are gone; why we cannot have it is worth more
            return Err(error);
        }
        let held = Arc::new(Held { core: core.clone(), kind, now: std::sync::Mutex::new((id, written)) });
        let (end, ended) = bounded(1);
        let kept = held.clone();
        let refresher = std::thread::Builder::new().name("vault lock".to_owned()).spawn(move || kept.refresh(&ended));
        match refresher {
            Ok(thread) => Ok((VaultLock { held, refresher: Some((end, thread)) }, read)),
            Err(source) => {
                drop(VaultLock { held, refresher: None });
                Err(VaultError::Start { what: "the thread that refreshes the lock", source })
            }
        }
    }

    /// Everybody who holds a lock now; stale ones are left out.
    pub fn lock_holders(&self) -> Result<Vec<LockHolder>, VaultError> {
        let locks = self.core.locks(None)?;
        Ok(locks.into_iter().filter(|(_, lock)| !self.core.is_stale(lock)).map(|(id, lock)| holder(id, lock)).collect())
    }
}

impl VaultLock {
    /// Whether others still count on it; otherwise nothing may be done that needs it.
    pub fn check(&self) -> Result<(), VaultError> {
        let core = &self.held.core;
        let (id, written) = *lock_of(&self.held.now);
        let lost = || VaultError::LockLost { place: core.store.place() };
        if core.io.clock.elapsed().saturating_sub(written) > LOST_AFTER {
            return Err(lost());
        }
        match core.store.size(&super::file::object_key(FOLDER, id)) {
            Ok(_) => Ok(()),
            // The refresher may have replaced it in the meantime.
            Err(error) if error.kind == ObjectErrorKind::Missing && lock_of(&self.held.now).0 == id => Err(lost()),
            Err(error) if error.kind == ObjectErrorKind::Missing => Ok(()),
            Err(error) => Err(VaultError::object("look at our lock")(error)),
        }
    }
}

impl Drop for VaultLock {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.refresher.take() {
            drop(end);
            let _ = thread.join(); // it does not panic, and if it did the lock should go all the same
        }
        let (id, _) = *lock_of(&self.held.now);
        let _ = self.held.core.delete(FOLDER, id); // one that stays goes stale
    }
}

impl Held {
    /// Makes the lock new from time to time, until its owner lets it go.
    fn refresh(&self, ended: &Receiver<()>) {
        let mut wait = REFRESH_EVERY;
        while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(wait) {
            wait = match self.refresh_once() {
                Ok(()) => REFRESH_EVERY,
                Err(_) => RETRY_AFTER, // `check` tells when it has been too long
            };
        }
    }

    fn refresh_once(&self) -> Result<(), VaultError> {
        let (old, _) = *lock_of(&self.now);
        let written = self.core.io.clock.elapsed();
        let new = self.core.write_json(FOLDER, &self.core.lock_file(self.kind))?;
        *lock_of(&self.now) = (new, written);
        self.core.delete(FOLDER, old)
    }
}

impl Core {
    fn lock_file(&self, kind: LockKind) -> LockFile {
        let (uid, gid) = process::owner();
        LockFile {
            time: self.io.clock.now(),
            exclusive: kind == LockKind::Exclusive,
            hostname: self.io.env.host(),
            username: self.io.env.user(),
            pid: std::process::id().into(),
            uid,
            gid,
        }
    }

    fn locks(&self, own: Option<Id>) -> Result<Vec<(Id, LockFile)>, VaultError> {
        let mut locks = Vec::new();
        for id in self.list(FOLDER)? {
            if Some(id) == own {
                continue;
            }
            match self.read_json(FOLDER, id) {
                Ok(lock) => locks.push((id, lock)),
                // Given back between the listing and the look.
                Err(VaultError::Object { source, .. }) if source.kind == ObjectErrorKind::Missing => {}
                // One that cannot be read may be anybody's.
                Err(error) => return Err(error),
            }
        }
        Ok(locks)
    }

    fn refuse_if_locked(&self, kind: LockKind, own: Option<Id>) -> Result<(), VaultError> {
        for (id, lock) in self.locks(own)? {
            if self.is_stale(&lock) {
                self.delete(FOLDER, id)?;
            } else if lock.exclusive || kind == LockKind::Exclusive {
                return Err(VaultError::Locked { place: self.store.place(), holder: Box::new(holder(id, lock)) });
            }
        }
        Ok(())
    }

    fn is_stale(&self, lock: &LockFile) -> bool {
        let age = self.io.clock.now().duration_since(lock.time);
        if age > jiff::SignedDuration::try_from(STALE_AFTER).unwrap_or(jiff::SignedDuration::MAX) {
            return true;
        }
        lock.hostname == self.io.env.host() && !u32::try_from(lock.pid).is_ok_and(process::is_alive)
    }
}

fn holder(id: Id, lock: LockFile) -> LockHolder {
    LockHolder {
        kind: if lock.exclusive { LockKind::Exclusive } else { LockKind::Shared },
        id,
        host: lock.hostname,
        pid: lock.pid,
        user: lock.username,
        since: lock.time,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_io::{
        Io, ObjectStore, SystemRandom,
        testing::{ManualClock, MemoryObjects, twin_io},
    };

    fn vault() -> (Vault, Arc<MemoryObjects>, Arc<ManualClock>) {
        let (clock, store) = (Arc::new(ManualClock::default()), Arc::new(MemoryObjects::default()));
        let io = Io { clock: clock.clone(), random: Arc::new(SystemRandom), ..twin_io() };
        (Vault::create(store.clone(), &"password".into(), &io).unwrap(), store, clock)
    }

    #[test]
    fn a_refreshed_lock_is_a_new_file_in_place_of_the_old() {
        let (vault, store, clock) = vault();
        let lock = vault.lock(LockKind::Exclusive, &Stop::default()).unwrap();
        let [first] = &vault.lock_holders().unwrap()[..] else { panic!("one lock") };
        clock.advance(LOST_AFTER - Duration::from_secs(1));
        lock.check().unwrap();
        lock.held.refresh_once().unwrap();
        let [second] = &vault.lock_holders().unwrap()[..] else { panic!("one lock") };
        assert_ne!(first.id, second.id);
        assert!(second.since > first.since);
        clock.advance(LOST_AFTER - Duration::from_secs(1));
        lock.check().unwrap();
        drop(lock);
        assert!(store.list(FOLDER).unwrap().is_empty());
    }

    #[test]
    fn a_lock_that_nobody_refreshed_belongs_to_nobody() {
        let (vault, store, clock) = vault();
        let old = vault.lock(LockKind::Exclusive, &Stop::default()).unwrap();
        clock.advance(LOST_AFTER + Duration::from_secs(1));
        assert!(matches!(old.check(), Err(VaultError::LockLost { .. })), "we stop counting on it first");
        assert!(matches!(vault.lock(LockKind::Shared, &Stop::default()), Err(VaultError::Locked { .. })));
        clock.advance(STALE_AFTER - LOST_AFTER);
        let new = vault.lock(LockKind::Shared, &Stop::default()).unwrap();
        assert_eq!(store.list(FOLDER).unwrap().len(), 1, "the old one was cleared away");
        drop(old);
        new.check().unwrap();
    }
}
