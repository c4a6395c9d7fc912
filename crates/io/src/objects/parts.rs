//! A file of any size as one object, with a piece of it in memory at a time, and the look that it arrived as it is.

use std::{
    fs,
    io::{self, Read},
    path::Path,
};

use bytes::Bytes;

use super::{ObjectError, ObjectStore};
use crate::{
    Stop,
    digest::QuickDigest,
    files::{self, PathError},
    stop::Stopped,
};

/// How much of a file is in memory, and on its way, at once. Servers want 5 MiB at least.
const PART: u64 = 8 << 20;

/// As many parts as are asked of a server; the protocol's own limit is 10,000.
const PARTS_MAX: u64 = 9_000;

/// Uploads in parts: nothing is to be seen of an object before its last part is there, and then it is whole.
pub trait InParts {
    /// Begins an upload, and gives it a name.
    fn begin(&self, key: &str) -> Result<String, ObjectError>;

    /// Stores a part, and says what the place calls it. Parts come in order; the same may come once more.
    fn part(&self, key: &str, upload: &str, number: usize, body: Bytes) -> Result<String, ObjectError>;

    /// Makes an object of the parts; one of that key is replaced.
    fn finish(&self, key: &str, upload: &str, parts: &[String]) -> Result<(), ObjectError>;

    /// Takes away what came of an upload that is not to be finished.
    fn give_up(&self, key: &str, upload: &str) -> Result<(), ObjectError>;
}

/// What went out, or came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Bytes.
    pub bytes: u64,
    /// Their digest, in hex.
    pub digest: String,
}

/// Why a file was not stored, or not read back.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] PathError),
    /// The place does not take it, or does not give it back.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// Somebody asked to break off.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Bytes done, of how many.
pub type Progress<'a> = &'a dyn Fn(u64, u64);

/// Stores a file as an object. One that is of that key already is replaced, at once and wholly; when this fails, it is as it was.
///
/// # Errors
/// The file cannot be read or changes meanwhile; the place does not take it; somebody asked to break off.
pub fn put_file(
    store: &dyn ObjectStore,
    key: &str,
    path: &Path,
    stop: &Stop,
    progress: Progress<'_>,
) -> Result<Sent, SendError> {
    let mut file = Source::open(path)?;
    match store.in_parts() {
        Some(parts) if file.bytes > PART => put_parts(parts, key, &mut file, stop, progress)?,
        _ => {
            let whole = file.next(file.bytes)?;
            stop.check()?;
            store.put(key, whole)?;
        }
    }
    progress(file.bytes, file.bytes);
    Ok(Sent { bytes: file.bytes, digest: file.digest.finish() })
}

fn put_parts(
    parts: &dyn InParts,
    key: &str,
    file: &mut Source<'_>,
    stop: &Stop,
    progress: Progress<'_>,
) -> Result<(), SendError> {
    let upload = parts.begin(key)?;
    let mut send = || -> Result<(), SendError> {
        let (size, mut names) = (part_size(file.bytes), Vec::new());
        while file.read < file.bytes {
            stop.check()?;
            let body = file.next(size)?;
            names.push(parts.part(key, &upload, names.len(), body)?);
            progress(file.read, file.bytes);
        }
        Ok(parts.finish(key, &upload, &names)?)
    };
    send().inspect_err(|_why| {
        let _ = parts.give_up(key, &upload); // why it failed is the error worth telling
    })
}

fn part_size(bytes: u64) -> u64 {
    PART.max(bytes.div_ceil(PARTS_MAX).next_multiple_of(1 << 20))
}

/// Reads an object piece by piece, and says what it is.
///
/// # Errors
/// It is not there, or the place does not give it; somebody asked to break off.
pub fn look_through(
    store: &dyn ObjectStore,
    key: &str,
    stop: &Stop,
    progress: Progress<'_>,
) -> Result<Sent, SendError> {
    let bytes = store.size(key)?;
    let (mut digest, mut at) = (QuickDigest::default(), 0);
    while at < bytes {
        stop.check()?;
        let end = bytes.min(at + PART);
        digest.update(&store.get_range(key, at..end)?);
        at = end;
        progress(at, bytes);
    }
    Ok(Sent { bytes, digest: digest.finish() })
}

/// What a file is, as [`look_through`] says it of an object.
///
/// # Errors
/// The file cannot be read; somebody asked to break off.
pub fn digest_of_file(path: &Path, stop: &Stop) -> Result<Sent, SendError> {
    let mut file = Source::open(path)?;
    while file.read < file.bytes {
        stop.check()?;
        file.next(PART)?;
    }
    Ok(Sent { bytes: file.bytes, digest: file.digest.finish() })
}

/// A file that is read once, from its beginning to the end that it had.
struct Source<'a> {
    path: &'a Path,
    file: fs::File,
    bytes: u64,
    read: u64,
    digest: QuickDigest,
}

impl Source<'_> {
    fn open(path: &Path) -> Result<Source<'_>, PathError> {
        let (file, bytes) = (files::open(path)?, files::size(path)?);
        Ok(Source { path, file, bytes, read: 0, digest: QuickDigest::default() })
    }

    fn next(&mut self, bytes_max: u64) -> Result<Bytes, PathError> {
        use crate::files::AtPath;
        let wanted = bytes_max.min(self.bytes - self.read);
        let mut body = Vec::with_capacity(wanted as usize);
        let read = self.file.by_ref().take(wanted).read_to_end(&mut body);
        let read = read.and_then(|read| match read as u64 == wanted {
            true => Ok(()),
            false => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter while it was read")),
        });
        read.at(self.path)?;
        self.read += wanted;
        self.digest.update(&body);
        Ok(body.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_large_a_file_is_its_parts_are_few_enough() {
        for bytes in [PART + 1, 100 << 30, 5 << 40] {
            let size = part_size(bytes);
            assert!(
                size >= PART && bytes.div_ceil(size) <= PARTS_MAX && size.is_multiple_of(1 << 20),
                "{bytes}: {size}"
            );
        }
    }
}
