//! The tree of a backup while it is being made: folders that hold files whose content is still coming in.

use std::{collections::BTreeMap, sync::Arc};

use super::{EntryMeta, VaultError, pipeline::Content, tree};

/// A folder.
#[derive(Debug)]
pub(crate) struct Folder {
    /// Nothing when the folder was made only because something lies in it.
    pub meta: Option<EntryMeta>,
    /// Sorted by the bytes of the names, as restic wants it.
    pub children: BTreeMap<String, Child>,
}

/// What lies in a folder.
#[derive(Debug)]
pub(crate) enum Child {
    Folder(Folder),
    File { meta: EntryMeta, content: Arc<Content> },
    Link { meta: EntryMeta, target: String },
}

impl Folder {
    pub fn new() -> Folder {
        Folder { meta: None, children: BTreeMap::new() }
    }

    /// Puts something at a path, relative and separated by `/`. Folders on the way are made.
    pub fn insert(&mut self, path: &str, child: Child) -> Result<(), VaultError> {
        let bad = |why| VaultError::BadPath { path: path.to_owned(), why };
        if !path.split('/').all(|name| tree::is_plain_name(name.as_bytes())) {
            return Err(bad("it must be relative, without empty parts, \".\", \"..\" or null bytes"));
        }
        let (way, name) = path.rsplit_once('/').map_or((None, path), |(way, name)| (Some(way), name));
        let mut folder = self;
        for part in way.into_iter().flat_map(|way| way.split('/')) {
            let next = folder.children.entry(part.to_owned()).or_insert_with(|| Child::Folder(Folder::new()));
            match next {
                Child::Folder(next) => folder = next,
                Child::File { .. } | Child::Link { .. } => return Err(bad("a part of it is a file")),
            }
        }
        match (folder.children.get_mut(name), child) {
            (None, child) => {
                folder.children.insert(name.to_owned(), child);
                Ok(())
            }
            // A folder that was made on the way, and is now described.
            (Some(Child::Folder(known)), Child::Folder(Folder { meta: Some(meta), .. })) if known.meta.is_none() => {
                known.meta = Some(meta);
                Ok(())
            }
            _ => Err(bad("there is something at that path already")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> Child {
        Child::Link { meta: EntryMeta::new(0o777, jiff::Timestamp::UNIX_EPOCH), target: "x".into() }
    }

    fn described() -> Child {
        Child::Folder(Folder {
            meta: Some(EntryMeta::new(0o755, jiff::Timestamp::UNIX_EPOCH)),
            children: BTreeMap::new(),
        })
    }

    #[test]
    fn paths_make_their_folders_once() {
        let mut root = Folder::new();
        root.insert("a/b/c", link()).unwrap();
        root.insert("a/b/d", link()).unwrap();
        root.insert("a", described()).unwrap();
        root.insert("a b", link()).unwrap();
        assert_eq!(root.children.keys().collect::<Vec<_>>(), ["a", "a b"]);
        for taken in ["a/b/c", "a/b/c/d", "a b/x", "a/b"] {
            assert!(matches!(root.insert(taken, link()), Err(VaultError::BadPath { .. })), "{taken}");
        }
        assert!(root.insert("a", described()).is_err(), "described twice");
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        for path in ["", "/", "/a", "a/", "a//b", ".", "a/../b", "a/./b", "a\0b"] {
            assert!(matches!(Folder::new().insert(path, link()), Err(VaultError::BadPath { .. })), "{path:?}");
        }
    }
}
