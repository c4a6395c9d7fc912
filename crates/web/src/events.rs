//! `/api/operations/{id}/events`: the lines of a journal as they are written, by server-sent events. They are read from the
//! file, so that an operation can be watched whoever works on it; whoever reads slowly, or not at all, holds up nobody.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io::{Read, Seek, SeekFrom},
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::{
    extract::{Path, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Response, Sse, sse::Event},
};
use futures_util::stream;
use lifeboat_model::{Entry, Event as What, Failure, FailureKind, OperationId};

use crate::{
    Daemon,
    answer::{Problem, blocking},
    operations::named,
};

/// Between two looks at the journal.
const LOOK_UP: Duration = Duration::from_millis(100);

/// So many looks without a word are followed by one, so that nobody on the way takes the connection for dead.
const SILENT_LOOKS_MAX: u32 = 150;

/// So many watch at the same time.
const WATCHERS_MAX: usize = 64;

/// So many bytes of a journal are read at once.
const PIECE_BYTES: u64 = 256 << 10;

pub async fn events(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = named(&daemon, &id).await?;
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    let seat = Seat::take(&daemon).ok_or_else(|| Problem::new(429, "too many watch already").retry_after(5))?;
    let path = daemon.engine.state().journal(&id);
    let (offset, rest, ready) = (0, Vec::new(), VecDeque::new());
    let from = last.map_or(0, |last: u64| last.saturating_add(1));
    let watching = Watching { id, path, offset, rest, from, ready, silent: 0, paused: false, end: None, seat };
    let lines = stream::unfold(watching, |mut watching| async move { Some((watching.next().await?, watching)) });
    // What buffers on the way would make it useless.
    let headers = [(header::HeaderName::from_static("x-accel-buffering"), "no")];
    Ok((headers, Sse::new(lines)).into_response())
}

/// A place among those who watch, free again when dropped.
struct Seat(Arc<Daemon>);

impl Seat {
    fn take(daemon: &Arc<Daemon>) -> Option<Seat> {
        let seat = Seat(daemon.clone());
        (daemon.watchers.fetch_add(1, Ordering::SeqCst) < WATCHERS_MAX).then_some(seat)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.watchers.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Watching {
    id: OperationId,
    path: PathBuf,
    offset: u64,
    /// A line of which only the beginning is there.
    rest: Vec<u8>,
    /// Lines before this one are known already.
    from: u64,
    ready: VecDeque<Event>,
    silent: u32,
    /// The last line says that it waits.
    paused: bool,
    /// What is said last, once nothing follows.
    end: Option<&'static str>,
    seat: Seat,
}

impl Watching {
    /// The next event; nothing after the last.
    async fn next(&mut self) -> Option<Result<Event, Infallible>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.silent = 0;
                return Some(Ok(event));
            }
            match self.end {
                Some("") => return None,
                Some(why) => {
                    self.end = Some("");
                    return Some(Ok(Event::default().event("end").data(why)));
                }
                None => {}
            }
            if self.seat.0.stop.wanted() {
                self.end = Some("the daemon ends");
                continue;
            }
            if self.silent >= SILENT_LOOKS_MAX {
                self.silent = 0;
                return Some(Ok(Event::default().comment("still there")));
            }
            if self.look().await {
                continue;
            }
            if self.paused && !self.seat.0.running.works_on(&self.id) {
                self.end = Some("it waits");
                continue;
            }
            self.silent += 1;
            tokio::time::sleep(LOOK_UP).await;
        }
    }

    /// Reads what has been written; whether there was something.
    async fn look(&mut self) -> bool {
        let (path, offset) = (self.path.clone(), self.offset);
        match blocking(move || read(&path, offset)).await {
            Ok(piece) if piece.is_empty() => false,
            Ok(piece) => {
                self.offset += piece.len() as u64;
                self.rest.extend(piece);
                self.take_lines();
                true
            }
            Err(_gone) => {
                self.end = Some("the journal cannot be read");
                true
            }
        }
    }

    fn take_lines(&mut self) {
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line[..end]).into_owned();
            let entry: Option<Entry> = serde_json::from_str(&line).ok();
            let Some(entry) = entry else {
                self.end = Some("the journal is damaged");
                return;
            };
            // One that waits may be taken up again: its watchers come back when it is.
            self.paused = matches!(&entry.event, What::Paused { .. });
            self.end = matches!(&entry.event, What::Closed { .. }).then_some("it is over");
            if entry.seq >= self.from {
                self.ready.push_back(Event::default().event("entry").id(entry.seq.to_string()).data(line));
            }
        }
    }
}

fn read(path: &std::path::Path, offset: u64) -> Result<Vec<u8>, Failure> {
    let failed = |error: &(dyn std::error::Error + 'static)| Failure::from_error(FailureKind::Outside, error);
    let mut file = lifeboat_io::files::open(path).map_err(|error| failed(&error))?;
    file.seek(SeekFrom::Start(offset)).map_err(|error| failed(&error))?;
    let mut piece = Vec::new();
    file.take(PIECE_BYTES).read_to_end(&mut piece).map_err(|error| failed(&error))?;
    Ok(piece)
}
