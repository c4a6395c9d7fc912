//! The last bytes of a pipe, read by a thread of its own.

use std::{
    collections::VecDeque,
    io::Read,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

/// Reads a pipe to its end and keeps the last bytes.
#[derive(Debug)]
pub(super) struct Follower {
    shared: Arc<(Mutex<Tail>, Condvar)>,
}

#[derive(Debug, Default)]
struct Tail {
    bytes: VecDeque<u8>,
    cut: bool,
    ended: bool,
}

impl Follower {
    /// Begins to read. Without a pipe the tail is empty.
    pub(super) fn start(pipe: Option<impl Read + Send + 'static>, bytes_max: usize) -> Follower {
        let shared = Arc::new((Mutex::new(Tail { ended: pipe.is_none(), ..Tail::default() }), Condvar::new()));
        if let Some(mut pipe) = pipe {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || {
                let mut buffer = vec![0; 64 << 10];
                loop {
                    // A pipe that cannot be read has ended, as far as we can know.
                    let count = pipe.read(&mut buffer).unwrap_or_default();
                    let mut tail = lock(&shared.0);
                    tail.push(&buffer[..count], bytes_max);
                    if count == 0 {
                        tail.ended = true;
                        shared.1.notify_all();
                        return;
                    }
                }
            });
        }
        Follower { shared }
    }

    /// Waits for the end of the pipe, at most `until`, and returns what came last and whether there was more before.
    pub(super) fn take(self, until: Instant) -> (Vec<u8>, bool) {
        let mut tail = lock(&self.shared.0);
        while !tail.ended {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            tail = self.shared.1.wait_timeout(tail, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        (std::mem::take(&mut tail.bytes).into(), tail.cut)
    }
}

impl Tail {
    fn push(&mut self, bytes: &[u8], bytes_max: usize) {
        self.bytes.extend(bytes);
        let too_many = self.bytes.len().saturating_sub(bytes_max);
        self.cut |= too_many > 0;
        self.bytes.drain(..too_many);
    }
}

fn lock(tail: &Mutex<Tail>) -> MutexGuard<'_, Tail> {
    tail.lock().unwrap_or_else(PoisonError::into_inner)
}
