//! Files and folders on their way into a backup and out of it.

use std::path::{Path, PathBuf};

use lifeboat_io::{
    files,
    tree::{self, EntryKind, Tree, TreeError},
};
use lifeboat_model::{Check, Failure, FailureKind, FilesFacts, Timestamp, Tri};
use lifeboat_store::vault::{self, BackupWriter, EntryMeta, Snapshot, Vault};

use super::{
    errors::{path_failure, vault_failure},
    pour::pour,
};
use crate::perform::Context;

/// What was stored of a file or folder.
pub struct Stored {
    /// Bytes of all files.
    pub bytes: u64,
    /// What is in it.
    pub facts: FilesFacts,
    /// What was left out, with the reason.
    pub skipped: Vec<(PathBuf, String)>,
}

pub(super) fn tree_failure(error: &TreeError) -> Failure {
    match error {
        TreeError::Path(error) => path_failure(error),
        TreeError::Stopped(error) => Failure::from_error(FailureKind::Interrupted, error),
    }
}

/// Stores a file or folder under `inside`. Its content is read twice: a digest first, then the bytes; a file that
/// changed in between makes the backup fail rather than lie.
pub fn store(
    writer: &BackupWriter,
    top: &Path,
    exclude: &[String],
    inside: &str,
    context: &Context<'_>,
) -> Result<Stored, Failure> {
    let tree = tree::walk(top, exclude, context.stop).map_err(|error| tree_failure(&error))?;
    let facts = tree::facts(top, &tree, context.stop, &|_, _| ()).map_err(|error| tree_failure(&error))?;
    let total: u64 = tree.entries.iter().map(tree::Entry::bytes).sum();
    if is_folder(top) {
        writer.folder(inside, &meta_of_top(top)?).map_err(|error| vault_failure(&error))?;
    }
    let mut done = 0;
    for entry in &tree.entries {
        let path = joined(inside, &entry.path)?;
        let meta = meta(entry);
        match &entry.kind {
            EntryKind::Folder => writer.folder(&path, &meta).map_err(|error| vault_failure(&error))?,
            EntryKind::Link { target } => {
                writer.link(&path, &target.to_string_lossy(), &meta).map_err(|error| vault_failure(&error))?;
            }
            EntryKind::File { bytes } => {
                let mut file = files::open(&full(top, &entry.path)).map_err(|error| path_failure(&error))?;
                let tell = |now| context.watch.progress(done + now, Some(total));
                let read = pour(writer, &path, &meta, &mut file, &tell)?.bytes;
                if read != *bytes {
                    let message = format!("{} changed while it was read", full(top, &entry.path).display());
                    return Err(Failure::new(FailureKind::Outside, message).hint("run it again, or exclude the file"));
                }
                done += read;
            }
        }
    }
    let skipped = tree.skipped.iter().map(|skipped| (top.join(&skipped.path), skipped.reason.to_owned()));
    Ok(Stored { bytes: total, facts, skipped: skipped.collect() })
}

fn is_folder(path: &Path) -> bool {
    files::is_folder(path)
}

fn full(top: &Path, below: &Path) -> PathBuf {
    if below.as_os_str().is_empty() { top.to_owned() } else { top.join(below) }
}

fn joined(inside: &str, below: &Path) -> Result<String, Failure> {
    let Some(text) = below.to_str() else {
        let message = format!("the name {} is not UTF-8; it cannot be backed up", below.display());
        return Err(Failure::new(FailureKind::Refused, message).hint("rename it, or exclude it"));
    };
    Ok(if text.is_empty() { inside.to_owned() } else { format!("{inside}/{text}") })
}

fn meta(entry: &tree::Entry) -> EntryMeta {
    let (seconds, nanoseconds) = entry.modified;
    let modified = Timestamp::new(seconds, nanoseconds as i32).unwrap_or(Timestamp::UNIX_EPOCH);
    EntryMeta { uid: entry.uid, gid: entry.gid, ..EntryMeta::new(entry.mode, modified) }
}

fn meta_of_top(top: &Path) -> Result<EntryMeta, Failure> {
    let mode = files::mode(top).map_err(|error| path_failure(&error))?;
    let modified = files::modified(top).map_err(|error| path_failure(&error))?;
    Ok(EntryMeta::new(mode, modified))
}

/// Brings a stored file or folder to a new place. Every byte is checked on its way.
pub fn fetch(
    vault: &Vault,
    snapshot: &Snapshot,
    inside: &str,
    into: &Path,
    total: u64,
    context: &Context<'_>,
) -> Result<u64, Failure> {
    let top = vault.entry(snapshot, inside).map_err(|error| vault_failure(&error))?;
    let entries = vault.entries(snapshot).map_err(|error| vault_failure(&error))?;
    let mut done = 0;
    let mut folders = Vec::new();
    for entry in std::iter::once(&top).chain(entries.iter().filter(|entry| entry.path != top.path)) {
        let Ok(below) = entry.path.strip_prefix(&top.path) else { continue };
        let to = full(into, below);
        match &entry.kind {
            vault::EntryKind::Folder { .. } => {
                files::create_folder(&to).map_err(|error| path_failure(&error))?;
                folders.push((to, entry.meta.clone()));
            }
            vault::EntryKind::Link { target } => {
                files::link(Path::new(target), &to).map_err(|error| path_failure(&error))?
            }
            vault::EntryKind::File { .. } => {
                let progress = |now| context.watch.progress(done + now, Some(total));
                let written = files::write_stream(&to, entry.meta.mode, |out| {
                    vault.read_entry(entry, out, &progress, context.stop)
                });
                done += written.map_err(|error| path_failure(&error))?.map_err(|error| vault_failure(&error))?;
                dress(&to, &entry.meta)?;
            }
            vault::EntryKind::Other(what) => {
                context.watch.note(&format!("{} is {what} and is left out.", entry.path.display()));
            }
        }
    }
    // Last, from the inside out: writing into a folder changes its time, and it may not be writable afterwards.
    folders.iter().rev().try_for_each(|(path, meta)| dress(path, meta))?;
    Ok(done)
}

fn dress(path: &Path, meta: &EntryMeta) -> Result<(), Failure> {
    files::dress(path, meta.mode, meta.uid, meta.gid, meta.mtime).map_err(|error| path_failure(&error))
}

/// Compares a fetched file or folder with what was stored.
pub fn compare(at: &Path, expected: &FilesFacts, context: &Context<'_>) -> Result<Vec<Check>, Failure> {
    let tree: Tree = tree::walk(at, &[], context.stop).map_err(|error| tree_failure(&error))?;
    let progress = |done, total| context.watch.progress(done, total);
    let found = tree::facts(at, &tree, context.stop, &progress).map_err(|error| tree_failure(&error))?;
    let counts =
        |facts: &FilesFacts| format!("{} files, {} folders, {} links", facts.files, facts.folders, facts.links);
    let same = (found.files, found.folders, found.links) == (expected.files, expected.folders, expected.links);
    let detail =
        if same { counts(&found) } else { format!("{}, and the manifest says {}", counts(&found), counts(expected)) };
    let content = Tri::from_bool(found.digest == expected.digest);
    Ok(vec![
        Check::new("what is there", Tri::from_bool(same), detail),
        Check::new("content", content, format!("digest {}", &found.digest.get(..16).unwrap_or(&found.digest))),
    ])
}
