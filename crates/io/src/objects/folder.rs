//! Objects as files in a folder: written beside, synced, renamed, and the folder synced too.

use std::{
    fs,
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};

use bytes::Bytes;

use super::{HalfWritten, ObjectError, ObjectErrorKind, ObjectInfo, ObjectStore, parts::InParts};
use crate::{behind, files};

/// Files whose name ends so are half-written: they are never listed.
const PARTIAL: &str = ".lifeboat-partial";

/// Half-written files of one process have names of their own, whichever `Folder` writes them: two may be open on the
/// same place.
static NEXT_PARTIAL: AtomicU64 = AtomicU64::new(0);

/// A folder of objects.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    /// A store on `root`. The folder is made by the first `put`.
    pub fn new(root: impl Into<PathBuf>) -> Folder {
        Folder { root: root.into() }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    fn error(&self, doing: &'static str, key: &str, source: io::Error) -> ObjectError {
        ObjectError {
            kind: kind_of(&source),
            place: self.place(),
            key: key.to_owned(),
            doing,
            source: Box::new(source),
        }
    }

    /// A name for what is not whole yet, in the folder of what it becomes, which is made.
    fn beside(path: &Path) -> io::Result<PathBuf> {
        let folder = files::parent(path);
        files::private_folders(folder)?;
        let number = NEXT_PARTIAL.fetch_add(1, Ordering::Relaxed);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Ok(folder.join(format!(".{name}.{}.{number}{PARTIAL}", std::process::id())))
    }

    /// Writes the body under a name of its own and returns that name's path, synced.
    fn write_beside(&self, path: &Path, body: &[u8]) -> io::Result<PathBuf> {
        let beside = Folder::beside(path)?;
        let written = (|| {
            use std::os::unix::fs::OpenOptionsExt;
            let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
            behind::write_whole(&file, &beside, body)?;
            file.sync_all()
        })();
        if let Err(error) = written {
            let _ = fs::remove_file(&beside); // the write's error is the one worth telling
            return Err(error);
        }
        Ok(beside)
    }
}

fn kind_of(error: &io::Error) -> ObjectErrorKind {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ObjectErrorKind::Missing,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            ObjectErrorKind::Full
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ObjectErrorKind::Denied,
        io::ErrorKind::UnexpectedEof => ObjectErrorKind::Damaged,
        _ => ObjectErrorKind::Other,
    }
}

/// Whether a name is one that [`Folder::write_beside`] gives: `.name.process.number.lifeboat-partial`.
fn is_partial(name: &str) -> bool {
    let Some(inner) = name.strip_prefix('.').and_then(|name| name.strip_suffix(PARTIAL)) else { return false };
    let mut parts = inner.rsplitn(3, '.');
    let is_number = |part: Option<&str>| {
        part.is_some_and(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
    };
    is_number(parts.next()) && is_number(parts.next()) && parts.next().is_some_and(|name| !name.is_empty())
}

/// Looks at every file below a folder, by its key. Files that vanish meanwhile are not there.
fn each_file(root: &Path, first: PathBuf, visit: &mut dyn FnMut(&str, String, &fs::Metadata)) -> io::Result<()> {
    let mut folders = vec![first];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            // No folder, no objects; but a root that has gone is an error, not an empty vault.
            Err(error) if error.kind() == io::ErrorKind::NotFound && root.is_dir() => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                folders.push(path);
                continue;
            }
            let key = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            match entry.metadata() {
                Ok(meta) => visit(&entry.file_name().to_string_lossy(), key, &meta),
                // Deleted between the listing and the look: it is not there.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// File systems of one host, by the numbers of `statfs(2)`: what one process puts there, all others see. Those of networks
/// remember listings for seconds.
const LOCAL: [i64; 7] = [
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // xfs
    0x9123_683e, // btrfs
    0x0102_1994, // tmpfs
    0x2fc1_2fc1, // zfs
    0xf2f5_2010, // f2fs
    0xca45_1a4e, // bcachefs
];

impl ObjectStore for Folder {
    fn in_parts(&self) -> Option<&dyn InParts> {
        Some(self)
    }

    fn lists_at_once(&self) -> bool {
        rustix::fs::statfs(&self.root).is_ok_and(|about| LOCAL.contains(&about.f_type))
    }

    fn place(&self) -> String {
        self.root.display().to_string()
    }

    fn put(&self, key: &str, body: Bytes) -> Result<(), ObjectError> {
        let path = self.path(key);
        let put = self.write_beside(&path, &body).and_then(|beside| {
            if let Err(error) = fs::rename(&beside, &path) {
                let _ = fs::remove_file(&beside); // the rename's error is the one worth telling
                return Err(error);
            }
            files::sync_folder(files::parent(&path))
        });
        put.map_err(|error| self.error("write", key, error))
    }

    fn put_new(&self, key: &str, body: Bytes) -> Result<bool, ObjectError> {
        let path = self.path(key);
        let put = self.write_beside(&path, &body).and_then(|beside| {
            // A hard link fails when the name is taken, where a rename would replace it.
            let linked = fs::hard_link(&beside, &path);
            fs::remove_file(&beside)?;
            match linked {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
                Err(error) => Err(error),
                Ok(()) => files::sync_folder(files::parent(&path)).map(|()| true),
            }
        });
        put.map_err(|error| self.error("write", key, error))
    }

    fn get(&self, key: &str) -> Result<Bytes, ObjectError> {
        fs::read(self.path(key)).map(Bytes::from).map_err(|error| self.error("read", key, error))
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, ObjectError> {
        let read = || {
            let mut file = fs::File::open(self.path(key))?;
            // The size first: a range made from damaged numbers must not become a huge allocation.
            if range.end > file.metadata()?.len() || range.start > range.end {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the object ends before the wanted part"));
            }
            file.seek(SeekFrom::Start(range.start))?;
            let length = range.end - range.start;
            // Not filled with zeros first: most of what a restore reads comes through here.
            let mut body = Vec::with_capacity(length as usize);
            if file.take(length).read_to_end(&mut body)? as u64 != length {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the object ends before the wanted part"));
            }
            Ok(Bytes::from(body))
        };
        read().map_err(|error: io::Error| self.error("read", key, error))
    }

    fn size(&self, key: &str) -> Result<u64, ObjectError> {
        fs::metadata(self.path(key)).map(|meta| meta.len()).map_err(|error| self.error("read", key, error))
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, ObjectError> {
        let mut found = Vec::new();
        let listed = each_file(&self.root, self.path(prefix), &mut |name, key, meta| {
            if !name.ends_with(PARTIAL) {
                found.push(ObjectInfo { key, size: meta.len() });
            }
        });
        listed.map_err(|error| self.error("list", prefix, error))?;
        Ok(found)
    }

    fn half_written(&self) -> Result<Vec<HalfWritten>, ObjectError> {
        let now = SystemTime::now();
        let mut found = Vec::new();
        let listed = each_file(&self.root, self.root.clone(), &mut |name, key, meta| {
            if is_partial(name) && meta.is_file() {
                // A time that cannot be told, or lies ahead, is now: then it is young.
                let age = meta.modified().ok().and_then(|at| now.duration_since(at).ok()).unwrap_or_default();
                found.push(HalfWritten { key, size: meta.len(), age });
            }
        });
        listed.map_err(|error| self.error("list", "half-written files", error))?;
        found.sort();
        Ok(found)
    }

    fn delete(&self, key: &str) -> Result<(), ObjectError> {
        match fs::remove_file(self.path(key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.error("delete", key, error)),
            _ => Ok(()),
        }
    }
}

/// A half-written file that grows, and takes its name when it is whole.
impl InParts for Folder {
    fn begin(&self, key: &str) -> Result<String, ObjectError> {
        let begin = || {
            use std::os::unix::fs::OpenOptionsExt;
            let beside = Folder::beside(&self.path(key))?;
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
            Ok(beside.file_name().unwrap_or_default().to_string_lossy().into_owned())
        };
        begin().map_err(|error: io::Error| self.error("write", key, error))
    }

    fn part(&self, key: &str, upload: &str, number: usize, body: Bytes) -> Result<String, ObjectError> {
        use std::io::Write;
        let beside = self.path(key).with_file_name(upload);
        let write = || {
            let mut file = fs::OpenOptions::new().append(true).open(&beside)?;
            let whole = file.metadata()?.len();
            file.write_all(&body).inspect_err(|_error| {
                let _ = file.set_len(whole); // half a part must not lie before the same one again
            })
        };
        write().map_err(|error: io::Error| self.error("write", key, error))?;
        Ok(number.to_string())
    }

    fn finish(&self, key: &str, upload: &str, _parts: &[String]) -> Result<(), ObjectError> {
        let path = self.path(key);
        let finish = || {
            let beside = path.with_file_name(upload);
            fs::File::open(&beside)?.sync_all()?;
            fs::rename(&beside, &path)?;
            files::sync_folder(files::parent(&path))
        };
        finish().map_err(|error: io::Error| self.error("write", key, error))
    }

    fn give_up(&self, key: &str, upload: &str) -> Result<(), ObjectError> {
        match fs::remove_file(self.path(key).with_file_name(upload)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.error("delete", key, error)),
            _ => Ok(()),
        }
    }
}
