//! Rows between a server and a vault: many streams at the same time.

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    },
    thread::JoinHandle,
};

use lifeboat_io::{
    Stop,
    database::postgres::{DAYS_MAX, Sink, Sinks, Sources},
};
use lifeboat_model::{
    Content, Failure, PostgresFacts, ResourceName, Scope, Timestamp,
    postgres::PartFacts,
    time::{Duration, since},
};
use lifeboat_store::vault::{BackupWriter, Entry, EntryMeta, Snapshot, StreamWriter, Vault, VaultError};

use super::super::{errors::vault_failure, summary};

/// Pieces of a stream on their way, of up to a MiB each.
const PIECES_AHEAD: usize = 4;

/// What the vault keeps of a file with rows.
pub fn meta(at: Timestamp) -> EntryMeta {
    EntryMeta::new(0o600, at)
}

/// Into the backup that is being written.
pub struct IntoVault<'a> {
    pub writer: &'a BackupWriter,
    pub folder: &'a str,
    pub at: Timestamp,
    /// The files of an earlier backup of the same database.
    pub earlier: Option<&'a OutOfVault>,
}

impl Sinks for IntoVault<'_> {
    fn begin(&self, path: &str) -> io::Result<Box<dyn Sink + '_>> {
        let stream =
            self.writer.stream(&format!("{}/{path}", self.folder), &meta(self.at)).map_err(io::Error::other)?;
        Ok(Box::new(IntoStream(stream)))
    }

    fn again(&self, parts: &[PartFacts]) -> io::Result<bool> {
        let Some(earlier) = self.earlier else { return Ok(false) };
        let again = |part: &PartFacts| {
            // What cannot be found there is read at the server, where it is.
            let entry = earlier.entry(Path::new(&format!("{}/{}", earlier.folder, part.path))).ok()?;
            (entry.size() == part.bytes).then(|| (format!("{}/{}", self.folder, part.path), meta(self.at), entry))
        };
        match parts.iter().map(again).collect::<Option<Vec<_>>>() {
            Some(files) => self.writer.again(&files).map_err(io::Error::other),
            None => Ok(false),
        }
    }
}

struct IntoStream(StreamWriter);

impl Write for IntoStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Sink for IntoStream {
    fn finish(self: Box<Self>) -> io::Result<()> {
        self.0.finish().map(drop).map_err(io::Error::other)
    }
}

/// Out of a backup.
pub struct OutOfVault {
    pub vault: Arc<Vault>,
    pub snapshot: Snapshot,
    pub folder: String,
    pub stop: Stop,
    /// Folders that were looked into, with their files: a folder of many large tables is long, and each table asks.
    known: Mutex<HashMap<PathBuf, Files>>,
}

/// The files of a folder by their paths.
type Files = HashMap<PathBuf, Arc<Entry>>;

impl OutOfVault {
    pub fn new(vault: Arc<Vault>, snapshot: Snapshot, folder: String, stop: Stop) -> OutOfVault {
        OutOfVault { vault, snapshot, folder, stop, known: Mutex::default() }
    }

    fn entry(&self, path: &Path) -> Result<Arc<Entry>, VaultError> {
        let folder = path.parent().unwrap_or(path);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.contains_key(folder)
            && let Ok(entries) = self.vault.folder(&self.snapshot, folder)
        {
            let files = entries.into_iter().map(|entry| (entry.path.clone(), Arc::new(entry))).collect();
            known.insert(folder.to_owned(), files);
        }
        match known.get(folder).and_then(|files| files.get(path)) {
            Some(entry) => Ok(entry.clone()),
            // Asked for by itself, the vault says what is wrong.
            None => self.vault.entry(&self.snapshot, path).map(Arc::new),
        }
    }

    /// All of a small file.
    pub fn small(&self, path: &str) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        let path = format!("{}/{path}", self.folder);
        let read = self.vault.read_file(&self.snapshot, &path, &mut body, &|_| (), &self.stop);
        read.map(|_bytes| body).map_err(|error| vault_failure(&error))
    }
}

/// What the newest backup of a database has of it, with its files: for tables that nobody has written to since.
pub struct Earlier {
    pub facts: PostgresFacts,
    pub files: OutOfVault,
}

impl Earlier {
    /// Of the newest backup, if it is of this version of the program and may be built upon for its age; without one everything
    /// is read, so nothing here is an error.
    pub fn newest(
        vault: &Arc<Vault>,
        scope: &Scope,
        resource: &ResourceName,
        now: Timestamp,
        stop: &Stop,
    ) -> Option<Earlier> {
        let backups = vault.snapshots().ok()?.into_iter().filter_map(|snapshot| {
            let backup = summary::backup_of(&snapshot)?;
            (backup.scope == *scope && backup.resources.contains(resource)).then_some((backup, snapshot))
        });
        let (backup, snapshot) = backups.max_by_key(|(backup, _)| backup.taken_at)?;
        if since(backup.taken_at, now) > Duration::from_secs(DAYS_MAX * 24 * 60 * 60) {
            return None;
        }
        let manifest = summary::manifest(vault, &backup.id).ok()?;
        if manifest.tools.get("lifeboat").map(String::as_str) != Some(env!("CARGO_PKG_VERSION")) {
            return None;
        }
        let part = manifest.resources.into_iter().find(|part| part.name == *resource)?;
        let Content::Postgres(facts) = part.content else { return None };
        Some(Earlier { facts: *facts, files: OutOfVault::new(vault.clone(), snapshot, part.path, stop.clone()) })
    }
}

impl Sources for OutOfVault {
    fn open(&self, path: &str) -> io::Result<Box<dyn Read + '_>> {
        let path = format!("{}/{path}", self.folder);
        let entry = self.entry(Path::new(&path)).map_err(io::Error::other)?;
        let (to, from) = sync_channel(PIECES_AHEAD);
        let (back, spare) = channel();
        let (vault, stop) = (self.vault.clone(), self.stop.clone());
        let work = move || vault.read_entry(&entry, &mut Pieces { to, spare }, &|_| (), &stop);
        let reading = std::thread::Builder::new().name("vault reader".to_owned()).spawn(work)?;
        Ok(Box::new(FromVault { from: Some(from), back, piece: Vec::new(), at: 0, reading: Some(reading) }))
    }
}

/// Hands over what is read. Ends when nobody takes it any more.
struct Pieces {
    to: SyncSender<Vec<u8>>,
    /// Pieces that were read and can be filled again: new memory would cost more than the copy.
    spare: Receiver<Vec<u8>>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut piece = self.spare.try_recv().unwrap_or_default();
        piece.clear();
        piece.extend_from_slice(bytes);
        self.to.send(piece).map_err(|_gone| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file of a backup, read by a thread that is a little ahead.
struct FromVault {
    from: Option<Receiver<Vec<u8>>>,
    back: Sender<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
    reading: Option<JoinHandle<Result<u64, VaultError>>>,
}

impl FromVault {
    /// The end of the stream is its end only if nothing went wrong.
    fn ended(&mut self) -> io::Result<usize> {
        match self.reading.take().map(JoinHandle::join) {
            None | Some(Ok(Ok(_))) => Ok(0),
            Some(Ok(Err(error))) => Err(io::Error::other(error)),
            Some(Err(_panic)) => Err(io::Error::other("reading the vault broke off")),
        }
    }
}

impl Read for FromVault {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() {
            match self.from.as_ref().map(Receiver::recv) {
                Some(Ok(piece)) => {
                    let empty = std::mem::replace(&mut self.piece, piece);
                    self.at = 0;
                    let _ = self.back.send(empty); // nobody needs it when the reader has ended
                }
                Some(Err(_)) | None => return self.ended(),
            }
        }
        let length = into.len().min(self.piece.len() - self.at);
        into[..length].copy_from_slice(&self.piece[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}

impl Drop for FromVault {
    /// The thread ends as soon as nobody listens.
    fn drop(&mut self) {
        self.from = None;
        if let Some(reading) = self.reading.take() {
            let _ = reading.join();
        }
    }
}
