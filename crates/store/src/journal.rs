//! Journals: one file per operation, one JSON line per event, each line holding the digest of the line before.
//!
//! A line is on disk (`fsync`) before what it announces begins. A crash can leave half a line at the end, never a half
//! line followed by another: such an end is set aside when the journal is continued, and told. Anything else that does not fit is
//! damage, and is told as damage. The files can be read with `less` when everything else is dead.
//!
//! ```text
//! {"schema":"lifeboat/entry@1","seq":3, ... ,"prev":"sha256:<of the line before>","sum":"<of this line up to here>"}
//! ```
//! `prev` binds each line to all before it. `sum`, 16 hex digits of the SHA-256 of the line without it, is for the last
//! line, which no other vouches for. Both notice accidents and careless edits; somebody who rewrites the file from a line
//! on and computes them anew is noticed by the copies in the vault.

use std::path::{Path, PathBuf};

use lifeboat_io::{Io, PathError, files};
use lifeboat_model::{
    Entry, Event, Operation, OperationId, Timestamp,
    operation::{ENTRY_SCHEMA, ImpossibleEntry},
};
use sha2::{Digest, Sha256};

/// What can be wrong with a journal.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum JournalError {
    #[error("cannot use the journal")]
    Path(#[from] PathError),
    #[error("line {line} of {} is not a journal entry", path.display())]
    NotAnEntry { path: PathBuf, line: usize, source: serde_json::Error },
    #[error("line {line} of {} was changed, or one before it was: the chain of digests breaks there", path.display())]
    BrokenChain { path: PathBuf, line: usize },
    #[error("{} has no complete line", path.display())]
    Empty { path: PathBuf },
    #[error("{} tells no possible story", path.display())]
    Impossible { path: PathBuf, source: ImpossibleEntry },
    #[error("cannot write an entry")]
    Unwritable(#[source] serde_json::Error),
}

/// A journal as it lies on disk.
#[derive(Clone, Debug, PartialEq)]
pub struct JournalFile {
    /// Its entries.
    pub entries: Vec<Entry>,
    /// Bytes of the half line that a crash left at the end; 0 usually.
    pub torn_bytes: usize,
    /// Digest of the last line: what the next one will point to.
    pub head: String,
}

impl JournalFile {
    /// Reads and checks a journal.
    ///
    /// # Errors
    /// Whatever does not fit, with the line's number. A half line at the very end is no error.
    pub fn read(path: &Path) -> Result<JournalFile, JournalError> {
        let bytes = files::read(path)?;
        JournalFile::parse(path, &bytes)
    }

    /// [`JournalFile::read`] for bytes that are already here; `path` is for messages.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<JournalFile, JournalError> {
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let (mut entries, mut summed) = (Vec::new(), false);
        let mut head = digest(b"");
        for (number, line) in bytes[..whole].split_inclusive(|byte| *byte == b'\n').enumerate() {
            let line = &line[..line.len() - 1];
            let entry: Entry = serde_json::from_slice(line).map_err(|source| JournalError::NotAnEntry {
                path: path.to_owned(),
                line: number + 1,
                source,
            })?;
            // Sums came later than journals: none at the beginning is an old version's work, none after others is damage.
            let sum_is_good = if entry.sum.is_some() { sum_fits(line) } else { !summed };
            if entry.prev != head || entry.seq != number as u64 || !sum_is_good {
                return Err(JournalError::BrokenChain { path: path.to_owned(), line: number + 1 });
            }
            head = digest(line);
            summed |= entry.sum.is_some();
            entries.push(entry);
        }
        Ok(JournalFile { entries, torn_bytes: bytes.len() - whole, head })
    }

    /// The story it tells.
    ///
    /// # Errors
    /// When there is no line, or the lines cannot follow each other.
    pub fn operation(&self, path: &Path) -> Result<Operation, JournalError> {
        if self.entries.is_empty() {
            return Err(JournalError::Empty { path: path.to_owned() });
        }
        Operation::from_entries(&self.entries)
            .map_err(|source| JournalError::Impossible { path: path.to_owned(), source })
    }
}

/// The greatest epoch that any line of any journal in a folder names; 0 when there is none. Damaged journals count as far
/// as their lines can be read: an epoch in them was in use.
///
/// # Errors
/// When the folder, or a journal in it, cannot be read.
pub fn greatest_epoch(folder: &Path) -> Result<u64, PathError> {
    #[derive(serde::Deserialize)]
    struct Line {
        epoch: u64,
    }
    let mut greatest = 0;
    for path in files::list_folder(folder)?.iter().filter(|path| path.extension().is_some_and(|end| end == "ndjson")) {
        let bytes = files::read(path)?;
        let lines = bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Line>(line).ok());
        greatest = lines.map(|line| line.epoch).fold(greatest, u64::max);
    }
    Ok(greatest)
}

fn digest(line: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(line)))
}

/// What stands between an entry and its sum.
const SUM_BEGIN: &[u8] = b",\"sum\":\"";
/// What follows it.
const SUM_END: &[u8] = b"\"}";
/// Hex digits of a sum.
const SUM_DIGITS: usize = 16;

/// The sum of an entry's JSON.
fn sum(entry: &[u8]) -> String {
    hex::encode(&Sha256::digest(entry)[..SUM_DIGITS / 2])
}

/// Whether a line ends with its sum, and the sum is that of the line without it: compared as bytes, since two texts may
/// be the same entry.
fn sum_fits(line: &[u8]) -> bool {
    let begin = line.len().saturating_sub(SUM_BEGIN.len() + SUM_DIGITS + SUM_END.len());
    let (entry, end) = line.split_at(begin);
    match end.strip_prefix(SUM_BEGIN).and_then(|rest| rest.strip_suffix(SUM_END)) {
        Some(found) => sum(&[entry, b"}"].concat()).as_bytes() == found,
        None => false,
    }
}

/// An open journal: the only hand that writes into one.
pub struct Journal {
    file: files::AppendFile,
    path: PathBuf,
    head: String,
    io: Io,
    epoch: u64,
    since: std::time::Duration,
    operation: Option<Operation>,
    listener: Option<Listener>,
}

/// Whoever wants each entry as it is written: `--json=lines`.
pub type Listener = Box<dyn FnMut(&Entry) + Send>;

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("path", &self.path).field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl Journal {
    /// Begins the journal of a new operation with its first line.
    ///
    /// # Errors
    /// When the file is there already, or cannot be written.
    pub fn create(path: &Path, op: &OperationId, epoch: u64, opened: Event, io: &Io) -> Result<Journal, JournalError> {
        let file = files::AppendFile::create_new(path)?;
        let since = io.clock.elapsed();
        let (path, io) = (path.to_owned(), io.clone());
        let mut journal = Journal { file, path, head: digest(b""), io, epoch, since, operation: None, listener: None };
        let entry = journal.entry(op.clone(), 0, opened);
        let operation = Operation::open(&entry)
            .map_err(|source| JournalError::Impossible { path: journal.path.clone(), source })?;
        if let Err(error) = journal.write(&entry) {
            // Nothing was begun, so nothing is to be found later. The write's error is the one worth telling.
            let _ = files::remove_file(&journal.path);
            return Err(error);
        }
        journal.operation = Some(operation);
        Ok(journal)
    }

    /// Goes on with a journal under a new grant of the lease. A half line at its end is set aside beside it.
    ///
    /// # Errors
    /// When it is damaged, or cannot be written.
    pub fn reopen(path: &Path, epoch: u64, io: &Io) -> Result<Journal, JournalError> {
        let bytes = files::read(path)?;
        let known = JournalFile::parse(path, &bytes)?;
        let operation = known.operation(path)?;
        let whole = bytes.len() - known.torn_bytes;
        if known.torn_bytes > 0 {
            files::write(&path.with_extension(format!("torn-{epoch}")), &bytes[whole..])?;
        }
        let file = files::AppendFile::open_at(path, whole as u64)?;
        let since = io.clock.elapsed();
        let (path, io) = (path.to_owned(), io.clone());
        Ok(Journal { file, path, head: known.head, io, epoch, since, operation: Some(operation), listener: None })
    }

    /// Tells every further entry to somebody.
    pub fn tell(&mut self, listener: Listener) {
        self.listener = Some(listener);
    }

    /// How the operation stands after all lines so far.
    pub fn operation(&self) -> &Operation {
        // `create` and `reopen` both leave one.
        self.operation.as_ref().expect("an open journal has an operation")
    }

    /// Writes a line and has it on disk before returning.
    ///
    /// # Errors
    /// When the event cannot follow, or the line cannot be written.
    pub fn append(&mut self, event: Event) -> Result<(), JournalError> {
        let operation = self.operation();
        let entry = self.entry(operation.id.clone(), operation.lines, event);
        let mut next = operation.clone();
        next.take(&entry).map_err(|source| JournalError::Impossible { path: self.path.clone(), source })?;
        self.write(&entry)?;
        self.operation = Some(next);
        Ok(())
    }

    fn entry(&self, op: OperationId, seq: u64, event: Event) -> Entry {
        let mono_ms = (self.io.clock.elapsed().saturating_sub(self.since)).as_millis() as u64;
        let at = whole_milliseconds(self.io.clock.now());
        Entry {
            schema: ENTRY_SCHEMA.to_owned(),
            seq,
            op,
            epoch: self.epoch,
            at,
            mono_ms,
            event,
            prev: self.head.clone(),
            sum: None,
        }
    }

    fn write(&mut self, entry: &Entry) -> Result<(), JournalError> {
        let unsummed = serde_json::to_vec(entry).map_err(JournalError::Unwritable)?;
        let entry = &Entry { sum: Some(sum(&unsummed)), ..entry.clone() };
        let mut line = serde_json::to_vec(entry).map_err(JournalError::Unwritable)?;
        let head = digest(&line);
        line.push(b'\n');
        self.file.append(&line)?;
        self.head = head;
        if let Some(listener) = &mut self.listener {
            listener(entry);
        }
        lifeboat_io::failpoint::after_journal_line(&self.io, entry.seq);
        Ok(())
    }
}

/// Nanoseconds in a log are noise.
fn whole_milliseconds(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}
