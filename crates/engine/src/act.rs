//! Actors: small hands, one per kind of action. They carry out what a plan says and decide nothing.

mod captures;
mod commands;
mod copies;
mod databases;
mod errors;
mod exports;
mod features;
mod fetches;
mod incidents;
pub(crate) mod losses;
mod mirror;
mod page_maps;
mod places;
pub(crate) mod postgres;
mod pour;
mod proofs;
pub(crate) mod readme;
mod releases;
mod sends;
mod stores;
pub mod summary;
mod sync;
mod target;
mod trees;
mod variables;

use std::sync::Arc;

use lifeboat_io::Io;
use lifeboat_model::{Action, Fact, Failure, Found, Operation};
use lifeboat_store::StateFolder;
use serde_json::Value;

pub(crate) use fetches::read_all;

pub use errors::{path_failure, postgres_failure, sqlite_failure, vault_failure};
pub use exports::WARNING as EXPORT_WARNING;
pub(crate) use exports::sealed_failure;
pub use mirror::is_journals;
pub use postgres::salvage::{is_chosen as is_chosen_table, is_meant as is_meant_table};
pub use stores::prune_sentences;

use crate::{
    facts, messages,
    perform::{Context, Perform},
    setup::{Setup, Vaults},
};

/// The real hands.
#[derive(Clone)]
pub struct Hands {
    io: Io,
    state: StateFolder,
    setup: Setup,
    vaults: Arc<dyn Vaults>,
}

impl Hands {
    /// Hands that reach the world through these doors.
    pub fn new(io: Io, state: StateFolder, setup: Setup, vaults: Arc<dyn Vaults>) -> Hands {
        Hands { io, state, setup, vaults }
    }

    fn outbox(&self) -> messages::Outbox<'_> {
        messages::Outbox { io: &self.io, root: self.state.root(), vaults: &*self.vaults }
    }
}

impl Perform for Hands {
    fn perform(&self, action: &Action, context: &Context<'_>) -> Result<Value, Failure> {
        match action {
            Action::CheckSpace { path, bytes } => captures::check_space(path, *bytes),
            Action::CreateVault { vault } => stores::create_vault(self, vault),
            Action::CheckBackup { vault, backup } | Action::VerifyStored { vault, backup } => {
                stores::verify(self, vault, backup)
            }
            Action::CheckUnused { path } => places::check_unused(path, context),
            Action::CaptureSqlite { source, into, as_of } => {
                captures::capture_sqlite(self, source, into, *as_of, context)
            }
            Action::InspectSqlite { file, accept_unsound } => {
                captures::inspect_sqlite(file, *accept_unsound, &|_| (), context).map(|_facts| Value::Null)
            }
            Action::StoreBackup { backup, vault, reason, label, parts, deploy } => {
                let (reason, deploy) = (*reason, deploy.as_ref());
                let what = stores::What { backup, vault, reason, label: label.as_deref(), parts, deploy };
                stores::store_backup(self, &what, context)
            }
            Action::DropBackup { vault, backup } => stores::drop_backup(self, vault, backup),
            Action::Fetch { vault, backup, resource, into } => {
                fetches::fetch(self, vault, backup, resource, into, context)
            }
            Action::CheckFetched { vault, backup, resource, at, writes } => {
                let what = fetches::Fetched { vault, backup, resource, at };
                fetches::check_fetched(self, &what, *writes, context)
            }
            Action::CheckTheChecks { vault, backup, resource, at, seed } => {
                let what = fetches::Fetched { vault, backup, resource, at };
                fetches::check_the_checks(self, &what, *seed, context)
            }
            Action::CompareLoss { live, restored, shown, accepted } => {
                let what = losses::What { live, restored, shown: shown.as_deref(), accepted: *accepted };
                losses::compare(&what, context)
            }
            Action::RecordProof { proof, backup, resource, fetched_by, checked_by } => {
                let what = proofs::What { proof, backup, resource, fetched_by, checked_by };
                proofs::record(self, &what, context)
            }
            Action::MakeFolder { path } => exports::make_folder(path),
            Action::WriteExport { at, format, tables, parts } => {
                exports::write(self, &exports::What { at, format: *format, tables, parts }, context)
            }
            Action::EncryptFolder { from, into, recipients } => exports::encrypt(from, into, recipients, context),
            Action::SetAside { database, live, kept } => places::set_aside(*database, live, kept, context),
            Action::BringBack { database, live, kept } => places::bring_back(*database, live, kept, context),
            Action::PutInPlace { database, aside, live, like } => {
                places::put_in_place(*database, aside, live, like.as_deref(), context)
            }
            Action::TakeAway { database, aside, live } => places::take_away(*database, aside, live, context),
            Action::Command { argv, limit_ms } => commands::run(self, argv, *limit_ms, context),
            Action::Remove { paths } => places::remove(self, paths),
            Action::Forget { vault, backups } => stores::forget(self, vault, backups),
            Action::Unforget { vault, backups } => stores::unforget(self, vault, backups),
            Action::Prune { vault, grace_ms } => stores::prune(self, vault, *grace_ms, context),
            Action::Mark { backup, mark } => proofs::mark(backup, mark),
            Action::CopyBackup { from, to, backup } => copies::copy_backup(self, from, to, backup, context),
            Action::CopyJournals { from, to } => copies::copy_journals(self, from, to, context),
            Action::Send { file, to, of } => sends::send(self, file, to, *of, context),
            Action::Postgres(action) => postgres::perform(self, action, context),
            Action::Sync { link, action } => sync::perform(self, link, action, context),
            Action::Target { target, action } => target::perform(self, target, action, context),
            Action::Env(action) => variables::perform(self, action, context),
            Action::Due { items } => Ok(serde_json::json!({ "due": items.len() })),
            Action::Feature(seen) => features::see(self, seen, context),
            Action::Release(record) => releases::record(record),
            Action::Notify { channels, notice } => {
                let (sent, waiting) =
                    messages::tell(&self.outbox(), &context.operation.id, channels, notice, context.stop);
                Ok(serde_json::json!({ "sent": sent, "waiting": waiting }))
            }
            Action::Say { lines } => Ok(serde_json::json!({ "said": lines })),
        }
    }

    fn probe(&self, action: &Action, context: &Context<'_>) -> Result<(Found, Value), Failure> {
        match action {
            Action::StoreBackup { backup, vault, .. } => stores::probe_store(self, vault, backup),
            Action::Postgres(action) => postgres::probe(self, action, context),
            Action::Forget { vault, backups } => stores::probe_forget(self, vault, backups),
            Action::SetAside { database, live, kept } => Ok(places::probe_set_aside(*database, live, kept)),
            Action::BringBack { database, live, kept } => Ok(places::probe_bring_back(*database, live, kept)),
            Action::PutInPlace { aside, live, .. } => Ok(places::probe_put_in_place(aside, live)),
            Action::TakeAway { database, aside, live } => Ok(places::probe_set_aside(*database, live, aside)),
            // These may simply be run again: nothing is lost by it.
            Action::CheckSpace { .. } | Action::CreateVault { .. } | Action::CheckBackup { .. } => again(context),
            Action::VerifyStored { .. } | Action::CheckUnused { .. } | Action::CaptureSqlite { .. } => again(context),
            Action::InspectSqlite { .. } | Action::DropBackup { .. } | Action::Fetch { .. } => again(context),
            Action::CheckFetched { .. } | Action::CheckTheChecks { .. } | Action::RecordProof { .. } => again(context),
            Action::CompareLoss { .. } | Action::Sync { .. } => again(context),
            Action::Target { target, action } => target::probe(self, target, action, context),
            Action::Release(_) | Action::Env(_) | Action::Feature(_) | Action::Due { .. } | Action::Notify { .. } => {
                again(context)
            }
            Action::Command { .. } | Action::Remove { .. } | Action::Unforget { .. } => again(context),
            Action::Prune { .. } | Action::Mark { .. } => again(context),
            Action::MakeFolder { .. } | Action::WriteExport { .. } | Action::EncryptFolder { .. } => again(context),
            Action::CopyBackup { .. } | Action::CopyJournals { .. } | Action::Say { .. } => again(context),
            Action::Send { .. } => again(context),
        }
    }

    fn look_at(&self, fact: &Fact) -> Result<String, Failure> {
        match fact {
            Fact::Identity { path } => Ok(facts::identity(path)),
            Fact::Untouched { path } => Ok(lifeboat_io::files::untouched(path)),
            Fact::Settings { resource } => Ok(self
                .setup
                .resource(resource)
                .map_or_else(|_unknown| "not in the settings".to_owned(), facts::settings_digest)),
            Fact::BackupIsThere { vault, backup } => stores::snapshot_name(self, vault, backup),
            Fact::Backups { vault } => stores::list_digest(self, vault),
            Fact::Database { url, database } => postgres::look_at(self, url, database),
            Fact::Schemas { url, schemas } => postgres::schemas::look_at(self, url, schemas),
        }
    }

    fn after_pause(&self, operation: &Operation) {
        messages::tell_of_failure(&self.outbox(), operation);
    }

    fn after_close(&self, operation: &Operation) -> Result<(), Failure> {
        messages::tell_of_failure(&self.outbox(), operation);
        let told = incidents::tell(self, operation);
        mirror::copy_journals(self, operation).and(told)
    }
}

fn again(_context: &Context<'_>) -> Result<(Found, Value), Failure> {
    Ok((Found::NotStarted, Value::Null))
}
