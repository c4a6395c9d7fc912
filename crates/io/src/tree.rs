//! Files and folders as a resource: a walk in a fixed order, and a digest of what was found.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::{ffi::OsStrExt, fs::FileTypeExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use lifeboat_model::manifest::FilesFacts;
use sha2::{Digest, Sha256};

use crate::{
    files::{AtPath, PathError},
    stop::{Stop, Stopped},
};

/// What a walk found below a file or folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// Everything that can be kept, a folder before what is in it, by the bytes of their paths. A single file is one
    /// entry with an empty path; a folder itself is not listed.
    pub entries: Vec<Entry>,
    /// What cannot be kept, with the reason.
    pub skipped: Vec<Skipped>,
}

/// One file, folder or link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where, below the top.
    pub path: PathBuf,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits.
    pub mode: u32,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// Time of the last change: seconds and nanoseconds since 1970.
    pub modified: (i64, i64),
}

/// The kinds of things that can be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File {
        /// Its size.
        bytes: u64,
    },
    /// A folder.
    Folder,
    /// A symbolic link, kept as such.
    Link {
        /// What it points to, as written.
        target: PathBuf,
    },
}

/// Something that was left out although nobody asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Where, below the top.
    pub path: PathBuf,
    /// Why: `a socket`.
    pub reason: &'static str,
}

/// Why a tree could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A file or folder could not be read.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Broken off on request.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Walks a file or a folder. A pattern of `exclude` is a path below the top, `/` between names, where `*` stands for
/// anything within one name; what it fits is left out with everything below. Links are not followed, except the top.
///
/// # Errors
/// [`TreeError`]; a file that vanishes meanwhile is left out.
pub fn walk(top: &Path, exclude: &[String], stop: &Stop) -> Result<Tree, TreeError> {
    let patterns: Vec<Vec<&[u8]>> = exclude.iter().map(|pattern| names(pattern.as_bytes())).collect();
    let facts = fs::metadata(top).at(top)?;
    let mut tree = Tree::default();
    if !facts.is_dir() {
        add(&mut tree, top, Path::new(""), &facts)?;
        return Ok(tree);
    }
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        stop.check()?;
        let full = top.join(&folder);
        let listed = match fs::read_dir(&full) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && folder != Path::new("") => continue,
            listed => listed.at(&full)?,
        };
        for entry in listed {
            let path = folder.join(entry.at(&full)?.file_name());
            if patterns.iter().any(|pattern| fits(pattern, &names(path.as_os_str().as_bytes()))) {
                continue;
            }
            let full = top.join(&path);
            match fs::symlink_metadata(&full) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                facts => {
                    let facts = facts.at(&full)?;
                    if facts.is_dir() {
                        folders.push(path.clone());
                    }
                    add(&mut tree, &full, &path, &facts)?;
                }
            }
        }
    }
    tree.entries.sort_by(|a, b| by_names(&a.path, &b.path));
    tree.skipped.sort_by(|a, b| by_names(&a.path, &b.path));
    Ok(tree)
}

/// A digest over a tree's paths, kinds, sizes and contents, in the order of the walk. Owners, permissions and times are
/// not in it: they may change on the way without the content being another. Progress is told in bytes.
///
/// # Errors
/// [`TreeError`]; also when a file is no longer there or has another size than the walk found.
pub fn facts(
    top: &Path,
    tree: &Tree,
    stop: &Stop,
    progress: &dyn Fn(u64, Option<u64>),
) -> Result<FilesFacts, TreeError> {
    let total: u64 = tree.entries.iter().map(|entry| entry.bytes()).sum();
    let mut facts = FilesFacts::default();
    let mut hash = Sha256::new();
    let mut done = 0;
    for entry in &tree.entries {
        stop.check()?;
        feed(&mut hash, entry.path.as_os_str().as_bytes());
        match &entry.kind {
            EntryKind::Folder => {
                facts.folders += 1;
                hash.update(b"d");
            }
            EntryKind::Link { target } => {
                facts.links += 1;
                hash.update(b"l");
                feed(&mut hash, target.as_os_str().as_bytes());
            }
            EntryKind::File { bytes } => {
                facts.files += 1;
                hash.update(b"f");
                hash.update(bytes.to_le_bytes());
                let full = if entry.path == Path::new("") { top.to_owned() } else { top.join(&entry.path) };
                hash_content(&mut hash, &full, *bytes, stop, &mut |piece| {
                    done += piece;
                    progress(done, Some(total));
                })?;
            }
        }
    }
    facts.digest = hex::encode(hash.finalize());
    Ok(facts)
}

impl Entry {
    /// Bytes of content: a file's size, else 0.
    pub fn bytes(&self) -> u64 {
        match self.kind {
            EntryKind::File { bytes } => bytes,
            EntryKind::Folder | EntryKind::Link { .. } => 0,
        }
    }
}

fn add(tree: &mut Tree, full: &Path, path: &Path, facts: &fs::Metadata) -> Result<(), TreeError> {
    let special = facts.file_type();
    let skipped = match () {
        () if special.is_socket() => Some("a socket"),
        () if special.is_fifo() => Some("a named pipe"),
        () if special.is_block_device() || special.is_char_device() => Some("a device"),
        () => None,
    };
    if let Some(reason) = skipped {
        tree.skipped.push(Skipped { path: path.to_owned(), reason });
        return Ok(());
    }
    let kind = match () {
        () if facts.is_symlink() => EntryKind::Link { target: fs::read_link(full).at(full)? },
        () if facts.is_dir() => EntryKind::Folder,
        () => EntryKind::File { bytes: facts.len() },
    };
    tree.entries.push(Entry {
        path: path.to_owned(),
        kind,
        mode: facts.mode() & 0o7777,
        uid: facts.uid(),
        gid: facts.gid(),
        modified: (facts.mtime(), facts.mtime_nsec()),
    });
    Ok(())
}

fn feed(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

fn hash_content(
    hash: &mut Sha256,
    path: &Path,
    bytes: u64,
    stop: &Stop,
    told: &mut dyn FnMut(u64),
) -> Result<(), TreeError> {
    use io::Read;
    let mut file = fs::File::open(path).at(path)?;
    let mut piece = vec![0; 1 << 20];
    let mut seen = 0;
    loop {
        stop.check()?;
        let read = file.read(&mut piece).at(path)?;
        if read == 0 {
            break;
        }
        hash.update(&piece[..read]);
        seen += read as u64;
        told(read as u64);
    }
    if seen != bytes {
        let changed = io::Error::other(format!("it changed while it was read: {seen} bytes instead of {bytes}"));
        return Err(changed).at(path).map_err(TreeError::from);
    }
    Ok(())
}

fn names(path: &[u8]) -> Vec<&[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".").collect()
}

/// A folder comes right before what is in it: compared name by name, not letter by letter.
fn by_names(a: &Path, b: &Path) -> std::cmp::Ordering {
    names(OsStr::as_bytes(a.as_os_str())).cmp(&names(OsStr::as_bytes(b.as_os_str())))
}

fn fits(pattern: &[&[u8]], path: &[&[u8]]) -> bool {
    !pattern.is_empty()
        && pattern.len() == path.len()
        && pattern.iter().zip(path).all(|(part, name)| fits_name(part, name))
}

/// `*` stands for any bytes, also none. Goes back to the last star only, hence never slow.
fn fits_name(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut seen) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while seen < name.len() {
        if pattern.get(at) == Some(&b'*') {
            star = Some((at, seen));
            at += 1;
        } else if pattern.get(at) == Some(&name[seen]) {
            at += 1;
            seen += 1;
        } else if let Some((star_at, star_seen)) = star {
            star = Some((star_at, star_seen + 1));
            (at, seen) = (star_at + 1, star_seen + 1);
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(tree: &Tree) -> Vec<String> {
        tree.entries.iter().map(|entry| entry.path.display().to_string()).collect()
    }

    #[test]
    fn the_walk_has_one_order_leaves_out_what_was_asked_and_tells_what_it_cannot_keep() {
        let top = tempfile::tempdir().unwrap();
        let at = |path: &str| top.path().join(path);
        for folder in ["a", "a-b", "cache/deep", "logs"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        for file in ["a/z", "a-b/x", "cache/deep/1", "logs/1.log", "logs/keep", "\u{1f600}\n"] {
            fs::write(at(file), file).unwrap();
        }
        std::os::unix::fs::symlink("../outside", at("link")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("app.sock")).unwrap();
        let exclude = ["cache".to_owned(), "logs/*.log".to_owned()];
        let tree = walk(top.path(), &exclude, &Stop::default()).unwrap();
        assert_eq!(paths(&tree), ["a", "a/z", "a-b", "a-b/x", "link", "logs", "logs/keep", "\u{1f600}\n"]);
        assert_eq!(tree.skipped, [Skipped { path: "app.sock".into(), reason: "a socket" }]);
        let found = facts(top.path(), &tree, &Stop::default(), &|_, _| ()).unwrap();
        assert_eq!((found.files, found.folders, found.links), (4, 3, 1));
    }

    #[test]
    fn the_digest_changes_with_content_names_and_kinds_and_not_with_times() {
        let digest = |make: &dyn Fn(&Path)| {
            let top = tempfile::tempdir().unwrap();
            make(top.path());
            let tree = walk(top.path(), &[], &Stop::default()).unwrap();
            facts(top.path(), &tree, &Stop::default(), &|_, _| ()).unwrap().digest
        };
        let base = digest(&|top| fs::write(top.join("a"), "1").unwrap());
        assert_eq!(base, digest(&|top| fs::write(top.join("a"), "1").unwrap()));
        let others: [&dyn Fn(&Path); 5] = [
            &|top| fs::write(top.join("a"), "2").unwrap(),
            &|top| fs::write(top.join("b"), "1").unwrap(),
            &|top| fs::create_dir(top.join("a")).unwrap(),
            &|top| std::os::unix::fs::symlink("1", top.join("a")).unwrap(),
            &|top| {
                fs::write(top.join("a"), "1").unwrap();
                fs::write(top.join("b"), "").unwrap();
            },
        ];
        for other in others {
            assert_ne!(base, digest(other));
        }
    }

    #[test]
    fn a_star_stays_within_one_name() {
        let cases = [
            ("*.log", "a.log", true),
            ("*.log", "x/a.log", false),
            ("x/*", "x/a", true),
            ("x/*", "x", false),
            ("*a*b", "xxaxxab", true),
            ("*a*b", "xxaxxac", false),
            ("/x/", "x", true),
            ("", "x", false),
            ("*", "", false),
        ];
        for (pattern, path, wanted) in cases {
            assert_eq!(fits(&names(pattern.as_bytes()), &names(path.as_bytes())), wanted, "{pattern} {path}");
        }
    }

    #[test]
    fn a_single_file_is_one_entry() {
        let top = tempfile::tempdir().unwrap();
        fs::write(top.path().join("x"), "abc").unwrap();
        let tree = walk(&top.path().join("x"), &[], &Stop::default()).unwrap();
        assert_eq!((paths(&tree), tree.entries[0].bytes()), (vec![String::new()], 3));
        let found = facts(&top.path().join("x"), &tree, &Stop::default(), &|_, _| ()).unwrap();
        assert_eq!(found.files, 1);
    }
}
