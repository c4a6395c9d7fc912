//! Bytes on their way into a vault.

use std::io::{Read, Write};

use lifeboat_io::digest::QuickDigest;
use lifeboat_model::{Failure, FailureKind};
use lifeboat_store::vault::{BackupWriter, EntryMeta, Patched, StreamWriter, VaultError};

use super::errors::vault_failure;

/// Bytes that are read at once: few enough to be still in the cache when they are digested and cut.
const BUFFER_BYTES: usize = 128 << 10;

/// What went into a vault.
pub(crate) struct Poured {
    /// How much.
    pub bytes: u64,
    /// Its `QuickDigest`.
    pub digest: String,
}

/// Pours bytes into a stream of the backup to their end.
pub(crate) fn pour(
    writer: &BackupWriter,
    inside: &str,
    meta: &EntryMeta,
    from: &mut dyn Read,
    progress: &dyn Fn(u64),
) -> Result<Poured, Failure> {
    pour_into(writer.stream(inside, meta), inside, from, progress)
}

/// The same with a database's pages.
pub(crate) fn pour_pages(
    writer: &BackupWriter,
    inside: &str,
    meta: &EntryMeta,
    from: &mut dyn Read,
    progress: &dyn Fn(u64),
) -> Result<Poured, Failure> {
    pour_into(writer.stream_of_pages(inside, meta), inside, from, progress)
}

fn pour_into(
    stream: Result<StreamWriter, VaultError>,
    inside: &str,
    from: &mut dyn Read,
    progress: &dyn Fn(u64),
) -> Result<Poured, Failure> {
    let mut stream = stream.map_err(|error| vault_failure(&error))?;
    let mut digest = QuickDigest::default();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut bytes = 0;
    loop {
        let read = from.read(&mut buffer).map_err(|error| reading_failed(inside, &error))?;
        if read == 0 {
            break;
        }
        // First the digest that is compared with the copy's: what changes after it is found by nobody else.
        digest.update(&buffer[..read]);
        stream.write_all(&buffer[..read]).map_err(|error| stream_failure(&error))?;
        bytes += read as u64;
        progress(bytes);
    }
    stream.finish().map_err(|error| vault_failure(&error))?;
    Ok(Poured { bytes, digest: digest.finish() })
}

/// Pours a file of so many bytes as a patch of its earlier version.
pub(crate) fn pour_patch(
    writer: &BackupWriter,
    inside: &str,
    meta: &EntryMeta,
    bytes: u64,
    patched: &mut dyn Patched,
) -> Result<(), Failure> {
    let mut stream = writer.stream_of_pages(inside, meta).map_err(|error| vault_failure(&error))?;
    stream.patch(bytes, patched).map_err(|error| {
        match error.get_ref().is_some_and(|inner| inner.is::<VaultError>()) {
            true => stream_failure(&error),
            false => reading_failed(inside, &error),
        }
    })?;
    stream.finish().map(drop).map_err(|error| vault_failure(&error))
}

fn reading_failed(inside: &str, error: &std::io::Error) -> Failure {
    Failure::new(FailureKind::Outside, format!("{inside} cannot be read to its end")).because(error.to_string())
}

/// A vault's error travels inside an I/O error through `Write`.
fn stream_failure(error: &std::io::Error) -> Failure {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<VaultError>()) {
        Some(inner) => vault_failure(inner),
        None => Failure::from_error(FailureKind::Outside, error),
    }
}
