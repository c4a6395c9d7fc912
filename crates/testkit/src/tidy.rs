//! The rules of the house that no compiler keeps: which crate may know which, how long a file may grow, what a document
//! must agree with. Each rule is a function from texts to complaints; `tests/tidy.rs` applies each to the whole tree.
//!
//! A complaint is one sentence that begins with the file and says what to do.

pub mod documents;
pub mod manifests;
pub mod sources;

use std::path::{Path, PathBuf};

use lifeboat_io::files;

/// One text file of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Relative to the root of the workspace, with `/` between its parts.
    pub path: String,
    /// All of it.
    pub text: String,
}

impl SourceFile {
    /// A file out of its two halves; for small cases in tests.
    pub fn new(path: &str, text: &str) -> SourceFile {
        SourceFile { path: path.into(), text: text.into() }
    }

    /// Whether this is Rust code.
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// The file of that path, or a complaint that it is missing.
pub fn find<'a>(tree: &'a [SourceFile], path: &str) -> Result<&'a SourceFile, String> {
    tree.iter().find(|file| file.path == path).ok_or_else(|| format!("{path}: this file is missing."))
}

/// The root of the workspace these tests were built from.
pub fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Reads every text file under `root`, in order of path, without what `.gitignore` at the root names. Files that are
/// not UTF-8 (archived vaults, images) are left out.
///
/// # Errors
/// A folder or a file that cannot be read, with its path.
pub fn load(root: &Path) -> Result<Vec<SourceFile>, String> {
    let ignore_file = root.join(".gitignore");
    let ignored = files::read_text(&ignore_file).map_err(|error| error.to_string())?;
    let ignored: Vec<&str> = ignored.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let mut tree = Vec::new();
    load_folder(root, "", &ignored, &mut tree)?;
    tree.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(tree)
}

fn load_folder(root: &Path, folder: &str, ignored: &[&str], tree: &mut Vec<SourceFile>) -> Result<(), String> {
    let here = root.join(folder);
    let complain = |error: std::io::Error| format!("{}: cannot be listed: {error}", here.display());
    for entry in std::fs::read_dir(&here).map_err(complain)? {
        let entry = entry.map_err(complain)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        // In a linked worktree `.git` is a file.
        if name == ".git" || ignored.iter().any(|pattern| ignores(pattern, &path)) {
            continue;
        }
        let kind = entry.file_type().map_err(complain)?;
        if kind.is_dir() {
            load_folder(root, &path, ignored, tree)?;
        } else if kind.is_file() {
            let bytes = files::read(&entry.path()).map_err(|error| error.to_string())?;
            if let Ok(text) = String::from_utf8(bytes) {
                tree.push(SourceFile { path, text });
            }
        }
    }
    Ok(())
}

/// Whether a line of `.gitignore` names this path. Understands what ours uses: `/name` at the root, `name` anywhere,
/// `*.ending` anywhere.
fn ignores(pattern: &str, path: &str) -> bool {
    let pattern = pattern.trim_end_matches('/');
    let name = path.rsplit('/').next().unwrap_or(path);
    if let Some(ending) = pattern.strip_prefix('*') {
        name.ends_with(ending)
    } else if let Some(from_root) = pattern.strip_prefix('/') {
        path == from_root
    } else {
        name == pattern
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignore_patterns() {
        assert!(ignores("/target", "target"));
        assert!(!ignores("/target", "crates/io/target"));
        assert!(ignores("node_modules/", "web/node_modules"));
        assert!(ignores("*.snap.new", "crates/engine/src/a.snap.new"));
        assert!(!ignores("*.snap.new", "crates/engine/src/a.snap"));
    }

    #[test]
    fn load_takes_texts_and_leaves_out_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, body: &[u8]| {
            files::create_folder(files::parent(&folder.path().join(path))).unwrap();
            files::write(&folder.path().join(path), body).unwrap();
        };
        write(".gitignore", b"# built\n/target\n");
        write("target/debug/a.rs", b"built");
        write(".git/config", b"not ours");
        write("src/lib.rs", b"//! Text.");
        write("fixture.pack", &[0xff, 0xfe, 0x00]);
        let paths: Vec<String> = load(folder.path()).unwrap().into_iter().map(|file| file.path).collect();
        assert_eq!(paths, [".gitignore", "src/lib.rs"]);
    }
}
