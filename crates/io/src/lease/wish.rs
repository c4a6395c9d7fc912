//! Asking whoever holds a lock to make way: a file beside the lock, as long as who asks is alive.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use lifeboat_model::{Timestamp, Tri};
use serde::{Deserialize, Serialize};

use super::Process;
use crate::files::{self, PathError};

/// Somebody waits for the lock, and has asked its holder to make way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// The person or service.
    pub who: String,
    /// The process that waits.
    pub process: Process,
    /// Since when.
    pub since: Timestamp,
    /// What for, in a few words: `roll shop/production back`.
    pub why: String,
    /// Whether the step that is running is to be broken off; else it is finished first.
    pub now: bool,
}

impl std::fmt::Display for Wish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} waits since {} to {}", self.who, self.since, self.why)
    }
}

/// A wish that was written down; dropping it takes it back.
#[derive(Debug)]
pub struct Asked {
    path: PathBuf,
    wish: Wish,
}

impl Drop for Asked {
    fn drop(&mut self) {
        // Where it stays, it ends with this process.
        if read(&self.path).is_some_and(|wish| wish.process == self.wish.process) {
            let _ = files::remove_file(&self.path);
        }
    }
}

impl Asked {
    /// Asks for more: the step that is running is to be broken off.
    ///
    /// # Errors
    /// The wish cannot be written.
    pub fn urge(&mut self) -> Result<(), PathError> {
        self.wish.now = true;
        write(&self.path, &self.wish)
    }
}

/// How long somebody waits for a lock, by the real clock: who holds it is another process.
#[derive(Debug)]
pub struct Patience {
    since: Instant,
    whole: Duration,
}

impl Patience {
    /// Begins to wait.
    pub fn new(whole: Duration) -> Patience {
        Patience { since: Instant::now(), whole }
    }

    /// Whether that long has been waited so many times over.
    pub fn is_over(&self, times: u32) -> bool {
        self.since.elapsed() >= self.whole * times
    }

    /// Waits a moment, until the next look.
    pub fn a_moment(&self) {
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Asks the holder of a lock to make way at its next safe point.
///
/// # Errors
/// The wish cannot be written.
pub fn ask(lock: &Path, who: &str, since: Timestamp, why: &str) -> Result<Asked, PathError> {
    let (process, path) = (Process::this(), beside(lock));
    let wish = Wish { who: who.to_owned(), process, since, why: why.to_owned(), now: false };
    write(&path, &wish)?;
    Ok(Asked { path, wish })
}

/// What somebody who is alive asks the holder of this lock, when somebody does. What cannot be read asks nothing.
pub fn asked(lock: &Path) -> Option<Wish> {
    read(&beside(lock)).filter(|wish| wish.process.is_alive() != Tri::Fail)
}

fn beside(lock: &Path) -> PathBuf {
    let mut name = lock.as_os_str().to_owned();
    name.push(".asked");
    PathBuf::from(name)
}

fn read(path: &Path) -> Option<Wish> {
    serde_json::from_str(&files::read_text(path).ok()?).ok()
}

fn write(path: &Path, wish: &Wish) -> Result<(), PathError> {
    let text = serde_json::to_vec(wish).map_err(|error| PathError { path: path.to_owned(), source: error.into() })?;
    files::write(path, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_counts_as_long_as_who_asks_is_alive() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("shop.production");
        assert_eq!(asked(&lock), None);
        let since = "2026-11-20T02:11:07Z".parse().unwrap();
        let mut ours = ask(&lock, "bob", since, "roll back").unwrap();
        assert!(!asked(&lock).unwrap().now);
        ours.urge().unwrap();
        let told = asked(&lock).unwrap();
        assert_eq!((told.now, told.to_string().as_str()), (true, "bob waits since 2026-11-20T02:11:07Z to roll back"));
        drop(ours);
        assert_eq!(asked(&lock), None);
        // Of somebody who is dead, and of somebody else: that one is not ours to take back.
        let ours = ask(&lock, "bob", since, "roll back").unwrap();
        let dead = Wish { process: Process { id: u32::MAX, ..Process::this() }, ..told };
        write(&beside(&lock), &dead).unwrap();
        assert_eq!(asked(&lock), None);
        drop(ours);
        assert!(beside(&lock).exists());
        files::write(&beside(&lock), b"{").unwrap();
        assert_eq!(asked(&lock), None);
    }
}
