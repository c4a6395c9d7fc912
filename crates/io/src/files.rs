//! Files: errors carry the path; what is written is written beside, synced and renamed.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::behind::Behind;

/// A file operation that failed, and on what.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {}", path.display())]
pub struct PathError {
    /// The file or folder.
    pub path: PathBuf,
    /// What the operating system said.
    pub source: io::Error,
}

/// Attaches a path to an I/O error where the call is.
pub trait AtPath<T> {
    /// The same result, with the path in its error.
    fn at(self, path: &Path) -> Result<T, PathError>;
}

impl<T> AtPath<T> for io::Result<T> {
    fn at(self, path: &Path) -> Result<T, PathError> {
        self.map_err(|source| PathError { path: path.to_owned(), source })
    }
}

/// Makes names in a folder durable: without it a rename or a new file may be gone after a power cut.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    fs::File::open(folder)?.sync_all()
}

/// The folder a path lies in; `.` for a bare name.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// The whole file.
pub fn read(path: &Path) -> Result<Vec<u8>, PathError> {
    fs::read(path).at(path)
}

/// The whole file as text.
pub fn read_text(path: &Path) -> Result<String, PathError> {
    fs::read_to_string(path).at(path)
}

/// Writes a file so that a reader, or a crash, sees the old or the new one, never half: beside, sync, rename, sync.
pub fn write(path: &Path, body: &[u8]) -> Result<(), PathError> {
    write_with_mode(path, body, 0o644)
}

/// [`write`] with the file's permissions; secrets get `0o600` from their first byte on.
pub fn write_with_mode(path: &Path, body: &[u8], mode: u32) -> Result<(), PathError> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.lifeboat-partial", std::process::id()));
    let beside = path.with_file_name(name);
    let written = (|| {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&beside)?;
        file.write_all(body)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        sync_folder(parent(path))
    })();
    if written.is_err() {
        let _ = fs::remove_file(&beside); // the write's error is the one worth telling
    }
    written.at(path)
}

/// Makes a folder and those above it.
pub fn create_folder(path: &Path) -> Result<(), PathError> {
    fs::create_dir_all(path).at(path)
}

/// Removes a file; one that is not there is fine.
pub fn remove_file(path: &Path) -> Result<(), PathError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).at(path),
        _ => Ok(()),
    }
}

/// Removes a folder with all that is in it; one that is not there is fine.
pub fn remove_folder(path: &Path) -> Result<(), PathError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).at(path),
        _ => Ok(()),
    }
}

/// Removes a folder when nothing is in it; one that is not there is fine.
pub fn remove_folder_if_empty(path: &Path) -> Result<(), PathError> {
    match fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.at(path),
    }
}

/// Bytes a person without special rights can still write to the file system that `path` (or its nearest existing folder) is on.
pub fn free_bytes(path: &Path) -> Result<u64, PathError> {
    let mut place = path;
    while !place.exists() {
        place = parent(place);
    }
    let stats = rustix::fs::statvfs(place).map_err(io::Error::from).at(path)?;
    Ok(stats.f_bavail * stats.f_frsize)
}

/// The path from the root of the file system on, links left as they are.
pub fn absolute(path: &Path) -> Result<PathBuf, PathError> {
    std::path::absolute(path).at(path)
}

/// Makes a folder that only its owner may look into, and those above it.
pub fn create_private_folder(path: &Path) -> Result<(), PathError> {
    private_folders(path).at(path)
}

pub(crate) fn private_folders(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The path with links followed; as it is when there is nothing, or a link that leads nowhere.
pub fn resolved(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_nothing_there| path.to_owned())
}

/// Names of the entries of a folder, sorted; none when there is no such folder.
pub fn list_folder(path: &Path) -> Result<Vec<PathBuf>, PathError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).at(path),
    };
    let mut found: Vec<PathBuf> =
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>().at(path)?;
    found.sort();
    Ok(found)
}

/// Puts text at the end of a file that others may write to as well, and makes the file and its folder when they are not
/// there. It is on disk when this returns.
pub fn append_text(path: &Path, text: &str) -> Result<(), PathError> {
    create_folder(parent(path))?;
    let new = !exists(path);
    let mut file = fs::OpenOptions::new().append(true).create(true).open(path).at(path)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_data()).at(path)?;
    if new { sync_folder(parent(path)).at(path) } else { Ok(()) }
}

/// A file that only grows, each piece on disk before `append` returns.
#[derive(Debug)]
pub struct AppendFile {
    file: fs::File,
    path: PathBuf,
    /// Length up to the last piece that is certainly whole.
    whole: u64,
}

impl AppendFile {
    /// Makes a new file for its owner's eyes only; one that exists is an error.
    pub fn create_new(path: &Path) -> Result<AppendFile, PathError> {
        use std::os::unix::fs::OpenOptionsExt;
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).at(path)?;
        sync_folder(parent(path)).at(path)?;
        Ok(AppendFile { file, path: path.to_owned(), whole: 0 })
    }

    /// Goes on with a file after its first `whole` bytes; what comes after them is cut off.
    pub fn open_at(path: &Path, whole: u64) -> Result<AppendFile, PathError> {
        let file = fs::OpenOptions::new().write(true).open(path).at(path)?;
        let mut opened = AppendFile { file, path: path.to_owned(), whole };
        opened.cut().at(path)?;
        Ok(opened)
    }

    /// Writes a piece. When that fails (a full disk), the half of it that got through is cut off again, so that a
    /// later piece does not follow a torn one.
    pub fn append(&mut self, piece: &[u8]) -> Result<(), PathError> {
        match self.file.write_all(piece).and_then(|()| self.file.sync_data()) {
            Ok(()) => {
                self.whole += piece.len() as u64;
                Ok(())
            }
            Err(error) => {
                let _ = self.cut(); // the write's error is the one worth telling; `open_at` cuts too
                Err(error).at(&self.path)
            }
        }
    }

    fn cut(&mut self) -> io::Result<()> {
        use std::io::{Seek, SeekFrom};
        self.file.set_len(self.whole)?;
        self.file.seek(SeekFrom::Start(self.whole))?;
        self.file.sync_data()
    }
}

/// A new file for its owner's eyes only, written piece by piece. It counts when it was [`NewFile::finish`]ed.
#[derive(Debug)]
pub struct NewFile {
    file: io::BufWriter<fs::File>,
    path: PathBuf,
}

impl NewFile {
    /// Makes it; one that exists is an error.
    pub fn create(path: &Path) -> Result<NewFile, PathError> {
        use std::os::unix::fs::OpenOptionsExt;
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).at(path)?;
        Ok(NewFile { file: io::BufWriter::with_capacity(256 << 10, file), path: path.to_owned() })
    }

    /// Has all of it on disk.
    pub fn finish(mut self) -> Result<(), PathError> {
        self.file.flush().and_then(|()| self.file.get_ref().sync_all()).at(&self.path)?;
        sync_folder(parent(&self.path)).at(&self.path)
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The file's length in bytes.
pub fn size(path: &Path) -> Result<u64, PathError> {
    fs::metadata(path).map(|meta| meta.len()).at(path)
}

/// Whether there is anything at a path, a broken link included.
pub fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Whether there is a file that can be read to its end: no folder, no pipe, no device. Links are followed.
pub fn is_file(path: &Path) -> bool {
    path.is_file()
}

/// A file that is locked as long as this lives. The kernel lets go of it when the process ends, however it does.
#[derive(Debug)]
pub struct LockedFile {
    _file: std::fs::File,
}

/// Locks a file, making it when it is not there; nothing when another process has it.
///
/// # Errors
/// When it cannot be opened or locked.
pub fn lock_file(path: &Path) -> Result<Option<LockedFile>, PathError> {
    let opened = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(path);
    let file = opened.at(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(LockedFile { _file: file })),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(error)) => Err(error).at(path),
    }
}

/// Device and inode of what is at a path; nothing when nothing is.
pub fn identity(path: &Path) -> Result<Option<(u64, u64)>, PathError> {
    use std::os::unix::fs::MetadataExt;
    match fs::symlink_metadata(path) {
        Ok(meta) => Ok(Some((meta.dev(), meta.ino()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).at(path),
    }
}

/// Identity, size and time of change as text: different as soon as somebody touched the file.
pub fn untouched(path: &Path) -> String {
    use std::os::unix::fs::MetadataExt;
    match fs::symlink_metadata(path) {
        Ok(meta) => {
            format!(
                "device {} inode {} size {} changed {}.{:09}",
                meta.dev(),
                meta.ino(),
                meta.len(),
                meta.mtime(),
                meta.mtime_nsec()
            )
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => "nothing there".to_owned(),
        Err(error) => format!("cannot be looked at: {error}"),
    }
}

/// Bytes of a file, or of all files below a folder; links count nothing.
pub fn size_of_tree(path: &Path) -> Result<u64, PathError> {
    let meta = fs::symlink_metadata(path).at(path)?;
    if meta.is_dir() {
        return list_folder(path)?.iter().map(|child| size_of_tree(child)).sum();
    }
    Ok(if meta.is_file() { meta.len() } else { 0 })
}

/// Whether a file or folder can be opened for reading.
pub fn can_read(path: &Path) -> Result<(), PathError> {
    fs::File::open(path).map(|_| ()).at(path)
}

/// Opens a file for reading.
pub fn open(path: &Path) -> Result<fs::File, PathError> {
    fs::File::open(path).at(path)
}

/// Permission bits of a file.
pub fn mode(path: &Path) -> Result<u32, PathError> {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).map(|meta| meta.permissions().mode() & 0o7777).at(path)
}

/// Gives a file or folder its permissions.
pub fn set_mode(path: &Path, mode: u32) -> Result<(), PathError> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).at(path)
}

/// Makes one new folder that only its owner may look into; one that exists is an error.
pub fn create_new_private_folder(path: &Path) -> Result<(), PathError> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().mode(0o700).create(path).at(path)
}

/// When a file's content last changed.
pub fn modified(path: &Path) -> Result<lifeboat_model::Timestamp, PathError> {
    let time = fs::metadata(path).and_then(|meta| meta.modified()).at(path)?;
    lifeboat_model::Timestamp::try_from(time).map_err(io::Error::other).at(path)
}

/// Removes a file, a link, or a folder with all that is in it; what is not there is fine.
pub fn remove_any(path: &Path) -> Result<(), PathError> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => remove_folder(path),
        Ok(_) => remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).at(path),
    }
}

/// Gives a file another name in its folder; what has that name goes.
pub fn rename_file(from: &Path, to: &Path) -> Result<(), PathError> {
    fs::rename(from, to).and_then(|()| sync_folder(parent(to))).at(to)
}

/// Copies a file's content.
pub fn copy(from: &Path, to: &Path) -> Result<u64, PathError> {
    fs::copy(from, to).at(to)
}

/// Copies a file so that whoever looks at `to` sees the old or the new one, never half: beside, sync, rename, sync.
/// Permissions come with it.
pub fn copy_over(from: &Path, to: &Path) -> Result<(), PathError> {
    let mut name = std::ffi::OsString::from(".");
    name.push(to.file_name().unwrap_or_default());
    name.push(format!(".{}.lifeboat-partial", std::process::id()));
    let beside = to.with_file_name(name);
    let copied = (|| {
        fs::copy(from, &beside)?;
        fs::File::open(&beside)?.sync_all()?;
        fs::rename(&beside, to)?;
        sync_folder(parent(to))
    })();
    if copied.is_err() {
        let _ = fs::remove_file(&beside); // the copy's error is the one worth telling
    }
    copied.at(to)
}

/// Writes a new file piece by piece and has it on disk before returning; a large one begins to go there while it is still
/// being written, and not through the system's cache. The writer's own error comes back inside; the half-written file is removed then.
pub fn write_stream<T, E>(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut dyn Write) -> Result<T, E>,
) -> Result<Result<T, E>, PathError> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).at(path)?;
    let (written, synced) = std::thread::scope(|scope| {
        let mut to = Behind::new(&file, path, scope);
        let written = write(&mut to);
        (written, to.finish())
    });
    if written.is_err() {
        let _ = fs::remove_file(path); // the writer's error is the one worth telling
        return Ok(written);
    }
    // The system tells a failed sync once, and it may have told the thread.
    synced.at(path)?;
    file.set_permissions(fs::Permissions::from_mode(mode)).at(path)?;
    file.sync_all().at(path)?;
    sync_folder(parent(path)).at(path)?;
    Ok(written)
}

/// Whether there is a folder at a path.
pub fn is_folder(path: &Path) -> bool {
    path.is_dir()
}

/// Makes a symbolic link.
pub fn link(target: &Path, at: &Path) -> Result<(), PathError> {
    std::os::unix::fs::symlink(target, at).at(at)
}

/// Where a symbolic link leads; nothing when there is none, or something else is there.
pub fn link_target(at: &Path) -> Option<PathBuf> {
    fs::read_link(at).ok()
}

/// Makes a symbolic link lead elsewhere, or makes it: whoever follows it meanwhile finds the one or the other place.
pub fn lead_link_to(target: &Path, at: &Path) -> Result<(), PathError> {
    let beside = at.with_file_name(format!(".{}.partial", at.file_name().unwrap_or_default().to_string_lossy()));
    remove_file(&beside)?;
    link(target, &beside)?;
    fs::rename(&beside, at).at(at)?;
    sync_folder(parent(at)).at(parent(at))
}

/// Gives a file or folder its permissions and time of change; its owner too when we may (root), else it stays ours.
pub fn dress(path: &Path, mode: u32, uid: u32, gid: u32, modified: lifeboat_model::Timestamp) -> Result<(), PathError> {
    use std::os::unix::fs::PermissionsExt;
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(path, Some(uid), Some(gid)).at(path)?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).at(path)?;
    let file = fs::File::open(path).at(path)?;
    file.set_modified(modified.into()).at(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::behind::CACHED_BYTES;

    /// A file of so many bytes, no two stretches of which are alike, given in pieces that fit nowhere.
    fn fill(bytes: u64, to: &mut dyn Write) -> io::Result<()> {
        let all: Vec<u8> = (0..bytes.div_ceil(8)).flat_map(|number| (number * 0x9E37_79B9).to_le_bytes()).collect();
        all[..bytes as usize].chunks(100_003).try_for_each(|piece| to.write_all(piece))
    }

    #[test]
    fn a_large_file_that_goes_to_disk_while_it_is_written_is_whole_or_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large");
        let block = 1 << 20;
        for bytes in [0, 1, CACHED_BYTES - 1, CACHED_BYTES, CACHED_BYTES + 1, CACHED_BYTES + block]
            .into_iter()
            .chain([CACHED_BYTES + 9 * block - 1, CACHED_BYTES + 9 * block + 4097])
        {
            write_stream(&path, 0o640, |to| fill(bytes, to)).unwrap().unwrap();
            assert_eq!(mode(&path).unwrap(), 0o640);
            let mut expected = Vec::new();
            fill(bytes, &mut expected).unwrap();
            assert!(fs::read(&path).unwrap() == expected, "{bytes} bytes");
            fs::remove_file(&path).unwrap();
        }

        // It breaks off after the disk has begun.
        let much = CACHED_BYTES + 20 * block;
        let broken = write_stream(&path, 0o640, |to| fill(much, to).and(Err::<(), _>(io::Error::other("no more"))));
        assert_eq!(broken.unwrap().unwrap_err().to_string(), "no more");
        assert!(!exists(&path));
    }
}
