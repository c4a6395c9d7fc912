//! Files: errors carry the path; what is written is written beside, synced and renamed.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

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
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).at(path)
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

/// The file's length in bytes.
pub fn size(path: &Path) -> Result<u64, PathError> {
    fs::metadata(path).map(|meta| meta.len()).at(path)
}
