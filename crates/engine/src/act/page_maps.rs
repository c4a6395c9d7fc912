//! What backups of SQLite databases remember of pages, so that the next one stores and walks over what changed.

use std::{io, path::PathBuf};

use lifeboat_io::database::sqlite::{ChangedReader, MapOf, NewMap, PageMap, Pages, Scanned, Seen, SqliteError};
use lifeboat_model::{Part, SqliteFacts};
use lifeboat_store::vault::{Patched, Snapshot, Vault};

use super::Hands;
use crate::perform::Context;

/// The map of a database that is being stored. It counts when the backup is in the vault.
pub(super) struct Noted {
    map: NewMap,
    seen: Seen,
    facts: SqliteFacts,
    inside: String,
}

impl Noted {
    pub fn new(map: NewMap, seen: Seen, facts: &SqliteFacts, inside: &str) -> Noted {
        Noted { map, seen, facts: facts.clone(), inside: inside.to_owned() }
    }

    /// The backup is this snapshot.
    pub fn finish(self, vault: &Vault, snapshot: &Snapshot) {
        self.map.finish(of(vault, snapshot, &self.inside), &self.facts, self.seen);
    }
}

fn of(vault: &Vault, snapshot: &Snapshot, inside: &str) -> MapOf {
    MapOf { vault: vault.id().to_owned(), snapshot: snapshot.id.to_string(), inside: inside.to_owned() }
}

/// Where maps are, and which backup they should be of.
pub(super) struct Maps<'a> {
    pub hands: &'a Hands,
    pub vault: &'a Vault,
    pub previous: Option<&'a Snapshot>,
}

/// What is known of pages before they are stored.
pub(super) struct Known {
    pub new: NewMap,
    pub earlier: Option<(PageMap, Scanned)>,
}

impl Maps<'_> {
    /// Compares pages with what the previous backup saw of them.
    ///
    /// # Errors
    /// [`SqliteError`] when they cannot be read; SQLite tells that better, on a copy.
    pub fn compare(
        &self,
        pages: &Pages,
        part: &Part,
        inside: &str,
        context: &Context<'_>,
        progress: &dyn Fn(u64),
    ) -> Result<Known, SqliteError> {
        let path = self.path(part, context);
        let earlier = self.previous.and_then(|previous| PageMap::open(&path, &of(self.vault, previous, inside)));
        let mut new = NewMap::create(&path, pages.page_size(), earlier.as_ref(), &*self.hands.io.random);
        let Some(earlier) = earlier else { return Ok(Known { new, earlier: None }) };
        let scanned = pages.scan(&earlier, &mut new, context.stop, progress)?;
        Ok(Known { new, earlier: scanned.map(|scanned| (earlier, scanned)) })
    }

    /// One for each vault: who backs up into two by turns has both.
    fn path(&self, part: &Part, context: &Context<'_>) -> PathBuf {
        self.hands.state.page_map(&context.operation.plan.scope, &part.resource.name, self.vault.id())
    }
}

/// A database as a patch of its earlier version.
pub(super) struct Changes<'a> {
    pub reader: ChangedReader<'a>,
    pub scanned: &'a Scanned,
    /// Asked before each read.
    pub go_on: &'a dyn Fn(u64) -> io::Result<()>,
}

impl Patched for Changes<'_> {
    fn run(&self, at: u64) -> (bool, u64) {
        self.scanned.run(at)
    }

    fn read(&mut self, at: u64, into: &mut [u8]) -> io::Result<()> {
        (self.go_on)(at)?;
        self.reader.read(at, into)
    }
}
