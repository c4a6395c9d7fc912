//! Bytes on their way into a vault.

use std::io::Read;

use lifeboat_io::digest::QuickDigest;
use lifeboat_model::{Failure, FailureKind};
use lifeboat_store::vault::{BackupWriter, EntryMeta, Patched, StreamWriter, VaultError};

use super::errors::vault_failure;

/// Bytes that are read at once: few enough to be still in the cache when they are digested.
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
    let mut bytes = 0;
    loop {
        let mut read = |into: &mut [u8]| {
            let read = from.read(into)?;
            // First the digest that is compared with the copy's: what changes after it is found by nobody else.
            digest.update(&into[..read]);
            Ok(read)
        };
        match stream.read_from(BUFFER_BYTES, &mut read).map_err(|error| pouring_failed(inside, &error))? {
            0 => break,
            read => bytes += read as u64,
        }
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
    stream.patch(bytes, patched).map_err(|error| pouring_failed(inside, &error))?;
    stream.finish().map(drop).map_err(|error| vault_failure(&error))
}

/// What is read failed, or where it goes: a vault's error travels inside an I/O error.
fn pouring_failed(inside: &str, error: &std::io::Error) -> Failure {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<VaultError>()) {
        Some(inner) => vault_failure(inner),
        None => {
            Failure::new(FailureKind::Outside, format!("{inside} cannot be read to its end")).because(error.to_string())
        }
    }
}
