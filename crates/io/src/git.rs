//! What is checked out in a folder under git, read from its files: no program is started for it. And how the program is
//! called where something is changed.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{Invocation, files};

/// A call of git in a folder. It asks nobody for a password, and runs no hooks of the repository's.
pub fn call(folder: &Path, words: &[&str], limit: Duration) -> Invocation {
    Invocation::new("git", limit)
        .args(["-c", "core.hooksPath=/dev/null", "-c", "advice.detachedHead=false"])
        .args(words)
        .env("GIT_TERMINAL_PROMPT", "0")
        .folder(folder)
}

/// More than any of the small files that are read here.
const BYTES_MAX: u64 = 32 << 20;

/// What is checked out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The commit, hex.
    pub commit: String,
    /// The branch; nothing when a commit was checked out by itself.
    pub branch: Option<String>,
    /// Tags of that commit, sorted.
    pub tags: Vec<String>,
}

/// What is checked out in the folder, or the nearest one above it that is under git; nothing when that cannot be told.
pub fn head(folder: &Path) -> Option<Head> {
    let top = folder.ancestors().find(|folder| files::exists(&folder.join(".git")))?;
    let own = git_folder(&top.join(".git"))?;
    // A worktree keeps what all share elsewhere.
    let common = small(&own.join("commondir")).map_or_else(|| own.clone(), |text| own.join(text.trim()));
    let head = small(&own.join("HEAD"))?;
    let packed = small(&common.join("packed-refs")).unwrap_or_default();
    let (commit, branch) = match head.trim().strip_prefix("ref: ") {
        Some(reference) => {
            let loose = small(&common.join(reference)).map(|text| text.trim().to_owned());
            let commit = loose.or_else(|| packed_commit(&packed, reference))?;
            (commit, Some(reference.strip_prefix("refs/heads/").unwrap_or(reference).to_owned()))
        }
        None => (head.trim().to_owned(), None),
    };
    let is_commit = commit.len() >= 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_commit.then(|| Head { tags: tags(&common, &packed, &commit), commit, branch })
}

/// The folder itself, or where the file of a worktree or submodule says it is.
fn git_folder(place: &Path) -> Option<PathBuf> {
    if files::is_folder(place) {
        return Some(place.to_owned());
    }
    let text = small(place)?;
    Some(files::parent(place).join(text.trim().strip_prefix("gitdir: ")?))
}

fn small(path: &Path) -> Option<String> {
    (files::size(path).ok()? <= BYTES_MAX).then(|| files::read_text(path).ok())?
}

fn packed_commit(packed: &str, reference: &str) -> Option<String> {
    let lines = packed.lines().filter_map(|line| line.split_once(' '));
    lines.filter(|(_, name)| *name == reference).map(|(commit, _)| commit.to_owned()).next()
}

/// Tags that lie in files of their own, and those packed together; of an annotated one the line after it tells the commit.
fn tags(common: &Path, packed: &str, commit: &str) -> Vec<String> {
    let mut found = Vec::new();
    for path in files::list_folder(&common.join("refs/tags")).unwrap_or_default() {
        if small(&path).is_some_and(|text| text.trim() == commit) {
            found.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    let mut tag = None;
    for line in packed.lines() {
        match (line.strip_prefix('^'), line.split_once(' ')) {
            (Some(peeled), _) if peeled == commit => found.extend(tag.take()),
            (Some(_), _) => {}
            (None, Some((of, name))) => {
                tag = name.strip_prefix("refs/tags/").map(str::to_owned);
                if of == commit {
                    found.extend(tag.clone());
                }
            }
            (None, None) => {}
        }
    }
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    #[test]
    fn a_branch_a_commit_by_itself_packed_references_and_tags_are_read() {
        let loose = folder(&[
            (".git/HEAD", "ref: refs/heads/main\n"),
            (".git/refs/heads/main", COMMIT),
            (".git/refs/tags/v1", COMMIT),
            (".git/refs/tags/old", "ffff"),
            ("app/deep/file", ""),
        ]);
        let head_of_loose = head(&loose.path().join("app/deep")).unwrap();
        assert_eq!((head_of_loose.commit.as_str(), head_of_loose.branch.as_deref()), (COMMIT, Some("main")));
        assert_eq!(head_of_loose.tags, ["v1"]);
        let other = COMMIT.replace('0', "9");
        let packed =
            format!("# pack-refs\n{COMMIT} refs/heads/x\n{other} refs/tags/v2\n^{COMMIT}\n{other} refs/tags/v3\n");
        let packed = folder(&[(".git/HEAD", "ref: refs/heads/x"), (".git/packed-refs", &packed)]);
        assert_eq!(head(packed.path()).unwrap().tags, ["v2"]);
        let detached = folder(&[(".git/HEAD", COMMIT)]);
        assert_eq!(head(detached.path()).unwrap().branch, None);
    }

    #[test]
    fn what_is_not_git_or_is_broken_tells_nothing() {
        for files in [&[("a", "")][..], &[(".git/HEAD", "ref: refs/heads/new")], &[(".git/HEAD", "rubbish")]] {
            assert_eq!(head(folder(files).path()), None);
        }
    }
}
