//! Putting backups into a vault, looking that they are whole, taking them off its list.

use std::{collections::BTreeMap, io::Read, path::Path, sync::Arc};

use lifeboat_io::files;
use lifeboat_model::{
    BackupId, BackupReason, Check, Content, Deploy, EnvFacts, Failure, FailureKind, Found, Manifest, Migrated,
    OperationId, Part, ProofLevel, ResourceKind, ResourceManifest, ResourceName, Timestamp, Tri,
    manifest::MANIFEST_SCHEMA, time::show_bytes,
};
use lifeboat_store::Catalog;
use lifeboat_store::vault::{
    BackupOptions, BackupWriter, EntryMeta, ForgottenSnapshot, Id, LockKind, PruneOptions, PruneReport, SnapshotMeta,
    Tally, Vault,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    Hands,
    captures::{CaptureOutput, output},
    databases::{Trouble, Way, meta_of},
    errors::{path_failure, vault_failure},
    page_maps::{Maps, Noted},
    pour::pour,
    proofs::CheckOutput,
    summary::{self, MANIFEST, Summary},
};
use crate::perform::Context;

/// What a stored backup leaves behind.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoreOutput {
    /// The snapshot's name in the vault, hex.
    pub snapshot: String,
    /// Bytes of the data.
    pub bytes: u64,
    /// Bytes that were read for it, where that are others: tables of a database may be taken over from an earlier backup. What
    /// it took is measured against these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_read: Option<u64>,
    /// Bytes added to the vault.
    pub bytes_added: u64,
    /// The instant up to which it is complete.
    pub recovery_point: Timestamp,
}

/// Which backup to store.
pub struct What<'a> {
    pub backup: &'a BackupId,
    pub vault: &'a str,
    pub reason: BackupReason,
    pub label: Option<&'a str>,
    pub parts: &'a [Part],
    pub deploy: Option<&'a Deploy>,
}

pub fn create_vault(hands: &Hands, location: &str) -> Result<Value, Failure> {
    let is_copy = location != hands.setup.vault && hands.setup.copies.iter().any(|copy| copy.location == location);
    let vault = match is_copy {
        true => hands.vaults.create_like(location, &*hands.vaults.open(&hands.setup.vault)?)?,
        false => hands.vaults.create(location)?,
    };
    Ok(json!({ "vault": vault.id() }))
}

pub fn store_backup(hands: &Hands, what: &What<'_>, context: &Context<'_>) -> Result<Value, Failure> {
    let vault = hands.vaults.open(what.vault)?;
    if let Some(stored) = stored_before(&vault, what.backup)? {
        return output(&stored); // repeated: one name is one snapshot
    }
    match store_once(hands, what, &vault, false, context) {
        Ok(stored) => output(&stored),
        Err(Trouble::Failed(failure)) => Err(failure),
        Err(Trouble::AskSqlite(why)) => {
            context.watch.note(&format!("A copy is made for SQLite to look at: {why}."));
            match store_once(hands, what, &vault, true, context) {
                Ok(stored) => output(&stored),
                Err(Trouble::Failed(failure)) => Err(failure),
                Err(Trouble::AskSqlite(why)) => Err(Failure::new(FailureKind::Bug, "SQLite was asked").because(why)),
            }
        }
    }
}

/// One try, with databases read by pages, or looked at by SQLite. What an earlier try has put into the vault is found
/// there.
fn store_once(
    hands: &Hands,
    what: &What<'_>,
    vault: &Arc<Vault>,
    ask_sqlite: bool,
    context: &Context<'_>,
) -> Result<StoreOutput, Trouble> {
    let previous = summary::newest_alike(vault, &context.operation.plan.scope, what.parts)?;
    let maps = Maps { hands, vault, previous: previous.as_ref() };
    let options = BackupOptions { stop: context.stop.clone(), previous: previous.clone(), ..BackupOptions::default() };
    let writer = vault.begin(options).map_err(|error| vault_failure(&error))?;
    let begun = hands.io.clock.now();
    let mut storing = Storing {
        hands,
        vault,
        writer: &writer,
        maps: &maps,
        context,
        ask_sqlite,
        done: 0,
        total: total(what, context),
        migrations: BTreeMap::new(),
        samples: BTreeMap::new(),
        noted: Vec::new(),
    };
    let parts: Result<Vec<ResourceManifest>, Trouble> = what.parts.iter().map(|part| storing.part(part)).collect();
    let parts = parts?;
    let manifest = manifest(hands, what, &context.operation.id, begun, parts, &storing);
    storing.small(MANIFEST, &pretty(&manifest)?)?;
    storing.small("README-RESTORE.md", crate::act::readme::text(&manifest).as_bytes())?;
    if let Some(settings) = &hands.setup.settings_file {
        // Settings hold references to secrets, never secrets; without them a new host would have to be told everything again.
        storing.small(summary::SETTINGS, &files::read(settings).map_err(|error| path_failure(&error))?)?;
    }
    let (bytes, bytes_read) = bytes_of(&manifest);
    let summary = Summary {
        schema: "lifeboat/summary@1".to_owned(),
        backup: manifest.backup.clone(),
        scope: manifest.scope.clone(),
        resources: manifest.resources.iter().map(|part| part.name.clone()).collect(),
        recovery_point: manifest.recovery_point,
        taken_at: hands.io.clock.now(),
        reason: manifest.reason,
        label: manifest.label.clone(),
        bytes,
        bytes_added: writer.bytes_added(),
        env_key: None,
    };
    let meta = SnapshotMeta {
        time: manifest.recovery_point,
        hostname: manifest.host.clone(),
        username: manifest.operator.clone(),
        paths: manifest.resources.iter().map(|part| part.origin.clone()).collect(),
        tags: summary::tags(&summary),
        extra: output(&summary)?,
    };
    let noted = storing.noted;
    let committed = writer.commit(meta).map_err(|error| vault_failure(&error))?;
    noted.into_iter().for_each(|noted| noted.finish(vault, &committed.snapshot));
    Ok(StoreOutput {
        snapshot: committed.snapshot.id.to_string(),
        bytes,
        bytes_read,
        bytes_added: committed.bytes_added,
        recovery_point: manifest.recovery_point,
    })
}

/// Bytes of the data, and those that were read for it where that are others.
fn bytes_of(manifest: &Manifest) -> (u64, Option<u64>) {
    let bytes = manifest.resources.iter().map(|part| part.bytes).sum();
    let read: u64 = manifest.resources.iter().map(ResourceManifest::bytes_read).sum();
    (bytes, (read != bytes).then_some(read))
}

fn pretty(manifest: &Manifest) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec_pretty(manifest)
        .map_err(|error| Failure::new(FailureKind::Bug, "the manifest cannot be written").because(error.to_string()))
}

fn total(what: &What<'_>, context: &Context<'_>) -> Option<u64> {
    let sizes = what.parts.iter().map(|part| match &part.captured_by {
        Some(step) => context.output::<CaptureOutput>(step).map(|captured| captured.bytes).ok(),
        None => part.resource.kind.path().and_then(|path| files::size_of_tree(path).ok()),
    });
    sizes.sum()
}

fn manifest(
    hands: &Hands,
    what: &What<'_>,
    operation: &OperationId,
    begun: Timestamp,
    resources: Vec<ResourceManifest>,
    storing: &Storing<'_>,
) -> Manifest {
    let context = storing.context;
    let started = what.parts.iter().filter_map(|part| part.captured_by.as_ref());
    let started =
        started.filter_map(|step| context.output::<CaptureOutput>(step).ok()).map(|captured| captured.started_at);
    let tools = [("lifeboat", env!("CARGO_PKG_VERSION")), ("sqlite", lifeboat_io::database::sqlite::library_version())];
    Manifest {
        schema: MANIFEST_SCHEMA.to_owned(),
        backup: what.backup.clone(),
        operation: operation.clone(),
        scope: context.operation.plan.scope.clone(),
        reason: what.reason,
        label: what.label.map(str::to_owned),
        started_at: started.chain([begun]).min().unwrap_or(begun),
        captured_at: hands.io.clock.now(),
        recovery_point: resources.iter().map(|part| part.recovery_point).min().unwrap_or(begun),
        operator: context.operation.by.clone(),
        host: hands.io.env.host(),
        tools: tools
            .into_iter()
            .map(|(name, version)| (name.to_owned(), version.to_owned()))
            .collect::<BTreeMap<_, _>>(),
        deploy: what.deploy.cloned(),
        migrations: storing.migrations.clone(),
        samples: storing.samples.clone(),
        resources,
    }
}

/// Digests of the rows that questions of the settings chose, by the question's name.
pub(super) type Samples = BTreeMap<String, String>;

/// A backup on its way into the vault.
struct Storing<'a> {
    hands: &'a Hands,
    vault: &'a Arc<Vault>,
    writer: &'a BackupWriter,
    maps: &'a Maps<'a>,
    context: &'a Context<'a>,
    /// Whether databases are copied and looked at by SQLite, rather than read by pages.
    ask_sqlite: bool,
    done: u64,
    total: Option<u64>,
    migrations: BTreeMap<ResourceName, Vec<Migrated>>,
    samples: BTreeMap<ResourceName, Samples>,
    noted: Vec<Noted>,
}

impl Storing<'_> {
    fn part(&mut self, part: &Part) -> Result<ResourceManifest, Trouble> {
        let resource = &part.resource;
        let folder = format!("{}/{}", resource.kind.word(), resource.name);
        Ok(match &resource.kind {
            ResourceKind::Sqlite { path } => self.sqlite(part, path, &folder)?,
            ResourceKind::Env { path } => self.env(part, path, &folder)?,
            ResourceKind::Files { path, exclude } => self.files(part, path, exclude, &folder)?,
            ResourceKind::Postgres { url, schemas } => self.postgres(part, (url, schemas), &folder)?,
        })
    }

    fn sqlite(&mut self, part: &Part, path: &Path, folder: &str) -> Result<ResourceManifest, Trouble> {
        let inside = format!("{folder}/{}", name_of(path));
        let (base, total, watch) = (self.done, self.total, self.context.watch);
        let progress = |bytes| watch.progress(base + bytes, total);
        let (hands, writer, context) = (self.hands, self.writer, self.context);
        let way = Way { hands, writer, maps: self.maps, context, progress: &progress };
        let stored = match self.ask_sqlite {
            false => way.pages(part, path, &inside)?,
            true => way.asking_sqlite(part, path, &inside)?,
        };
        self.done += stored.manifest.bytes;
        self.noted.extend(stored.noted);
        let name = &part.resource.name;
        if !stored.migrations.is_empty() {
            self.migrations.insert(name.clone(), stored.migrations);
        }
        if !stored.samples.is_empty() {
            self.samples.insert(name.clone(), stored.samples);
        }
        Ok(stored.manifest)
    }

    /// Straight from the server into the vault; its bytes on the server's disk are another number than those of its rows.
    fn postgres(&mut self, part: &Part, source: (&str, &[String]), folder: &str) -> Result<ResourceManifest, Failure> {
        let watch = self.context.watch;
        let progress = |done, total| watch.progress(done, total);
        let stored = super::postgres::store(
            self.hands,
            (self.vault, self.writer),
            part,
            source,
            folder,
            self.context,
            &progress,
        )?;
        self.done += stored.bytes;
        Ok(stored)
    }

    fn env(&mut self, part: &Part, path: &Path, folder: &str) -> Result<ResourceManifest, Failure> {
        let recovery_point = self.hands.io.clock.now();
        let body = files::read(path).map_err(|error| path_failure(&error))?;
        let inside = format!("{folder}/{}", name_of(path));
        let meta = EntryMeta { mode: 0o600, ..meta_of(path, recovery_point) };
        self.write(&inside, &meta, &mut body.as_slice())?;
        Ok(ResourceManifest {
            name: part.resource.name.clone(),
            origin: path.display().to_string(),
            recovery_point,
            path: inside,
            bytes: body.len() as u64,
            content: Content::Env(env_facts(&body, &summary::own_env_key(self.vault))),
        })
    }

    fn files(
        &mut self,
        part: &Part,
        path: &Path,
        exclude: &[String],
        folder: &str,
    ) -> Result<ResourceManifest, Failure> {
        let recovery_point = self.hands.io.clock.now();
        let inside = format!("{folder}/{}", name_of(path));
        let stored = super::trees::store(self.writer, path, exclude, &inside, self.context)?;
        for (skipped, why) in &stored.skipped {
            self.context.watch.note(&format!("{} is left out: {why}.", skipped.display()));
        }
        self.done += stored.bytes;
        Ok(ResourceManifest {
            name: part.resource.name.clone(),
            origin: path.display().to_string(),
            recovery_point,
            path: inside,
            bytes: stored.bytes,
            content: Content::Files(stored.facts),
        })
    }

    fn write(&mut self, inside: &str, meta: &EntryMeta, from: &mut dyn Read) -> Result<(), Failure> {
        let (base, total, watch) = (self.done, self.total, self.context.watch);
        let poured = pour(self.writer, inside, meta, from, &|done| watch.progress(base + done, total))?;
        self.done += poured.bytes;
        Ok(())
    }

    fn small(&mut self, inside: &str, body: &[u8]) -> Result<(), Failure> {
        let meta = EntryMeta::new(0o644, self.hands.io.clock.now());
        pour(self.writer, inside, &meta, &mut &*body, &|_| ()).map(|_| ())
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Names of the variables, and a digest that only who has the key can make.
pub(crate) fn env_facts(body: &[u8], key: &summary::EnvKey) -> EnvFacts {
    let text = String::from_utf8_lossy(body);
    let mut names: Vec<String> = text
        .lines()
        .map(|line| line.trim_start().trim_start_matches("export "))
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(name, _value)| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .collect();
    names.sort();
    names.dedup();
    let mut hash = Sha256::new();
    hash.update(key);
    hash.update(body);
    EnvFacts { names, digest: hex::encode(hash.finalize()) }
}

pub fn verify(hands: &Hands, location: &str, backup: &BackupId) -> Result<Value, Failure> {
    let vault = hands.vaults.open(location)?;
    let snapshot = summary::snapshot_of(&vault, backup)?;
    let whole = vault.verify_snapshot(&snapshot).map_err(|error| vault_failure(&error))?;
    let manifest = summary::manifest(&vault, backup)?;
    let bytes: u64 = manifest.resources.iter().map(|part| part.bytes).sum();
    for part in &manifest.resources {
        if matches!(part.content, Content::Files(_) | Content::Postgres(_)) {
            continue; // a folder has no size of its own; its files are compared when it is fetched
        }
        let entry = vault.entry(&snapshot, &part.path).map_err(|error| vault_failure(&error))?;
        if entry.size() != part.bytes {
            let message = format!(
                "{} is {} in {backup}, and its manifest says {}",
                part.path,
                show_bytes(entry.size()),
                show_bytes(part.bytes)
            );
            return Err(Failure::new(FailureKind::Damaged, message));
        }
    }
    let detail = format!("{} blobs in {} packs, {}", whole.blobs, whole.packs, show_bytes(whole.bytes));
    let checks = vec![(ProofLevel::Stored, Check::new("every blob is in the vault", Tri::Pass, detail))];
    output(&CheckOutput { bytes, checks })
}

pub fn drop_backup(hands: &Hands, location: &str, backup: &BackupId) -> Result<Value, Failure> {
    let vault = hands.vaults.open(location)?;
    while let Some(snapshot) = summary::find_snapshot(&vault, backup)? {
        vault.forget(&[snapshot.id]).map_err(|error| vault_failure(&error))?;
    }
    Ok(json!({}))
}

/// What storing this backup left behind, when it has been stored.
fn stored_before(vault: &Arc<Vault>, backup: &BackupId) -> Result<Option<StoreOutput>, Failure> {
    let Some(snapshot) = summary::find_snapshot(vault, backup)? else { return Ok(None) };
    let known =
        summary::backup_of(&snapshot).ok_or_else(|| Failure::new(FailureKind::Bug, "a backup without summary"))?;
    Ok(Some(StoreOutput {
        snapshot: snapshot.id.to_string(),
        bytes: known.bytes,
        bytes_read: summary::manifest(vault, backup).ok().and_then(|manifest| bytes_of(&manifest).1),
        bytes_added: known.bytes_added,
        recovery_point: known.recovery_point,
    }))
}

pub fn probe_store(hands: &Hands, location: &str, backup: &BackupId) -> Result<(Found, Value), Failure> {
    let vault = hands.vaults.open(location)?;
    match stored_before(&vault, backup)? {
        Some(stored) => Ok((Found::Done, output(&stored)?)),
        // What was stored without its snapshot is found again by the next try.
        None => Ok((Found::NotStarted, Value::Null)),
    }
}

/// Takes backups off the list. First what brings them back is on disk, then they go: repeatable at any point.
pub fn forget(hands: &Hands, location: &str, backups: &[BackupId]) -> Result<Value, Failure> {
    let vault = hands.vaults.open(location)?;
    let lock = vault.lock(LockKind::Exclusive, &lifeboat_io::Stop::default()).map_err(|error| vault_failure(&error))?;
    for backup in backups {
        if let Some(snapshot) = summary::find_snapshot(&vault, backup)? {
            let raw = vault.raw_snapshot(snapshot.id).map_err(|error| vault_failure(&error))?;
            let mut body = snapshot.id.to_string().into_bytes();
            body.push(b'\n');
            body.extend_from_slice(&raw.raw);
            files::write_with_mode(&hands.state.forgotten(backup), &body, 0o600)
                .map_err(|error| path_failure(&error))?;
            lock.check().map_err(|error| vault_failure(&error))?;
            vault.forget(&[snapshot.id]).map_err(|error| vault_failure(&error))?;
        }
    }
    Ok(json!({ "forgotten": backups }))
}

pub fn probe_forget(hands: &Hands, location: &str, backups: &[BackupId]) -> Result<(Found, Value), Failure> {
    let vault = hands.vaults.open(location)?;
    let mut there = 0;
    for backup in backups {
        there += usize::from(summary::find_snapshot(&vault, backup)?.is_some());
    }
    let found = match there {
        0 => Found::Done,
        some if some == backups.len() => Found::NotStarted,
        _some => Found::Partial,
    };
    Ok((found, json!({ "forgotten": backups })))
}

/// Puts backups back on the list, after a look that their bytes are still there.
pub fn unforget(hands: &Hands, location: &str, backups: &[BackupId]) -> Result<Value, Failure> {
    let vault = hands.vaults.open(location)?;
    for backup in backups {
        if summary::find_snapshot(&vault, backup)?.is_some() {
            continue;
        }
        let body = files::read(&hands.state.forgotten(backup)).map_err(|error| {
            path_failure(&error).while_doing(format!("what brings {backup} back is not on this host"))
        })?;
        let forgotten = parse_forgotten(backup, &body)?;
        vault.unforget(std::slice::from_ref(&forgotten)).map_err(|error| vault_failure(&error))?;
        let snapshot = summary::snapshot_of(&vault, backup)?;
        if let Err(error) = vault.verify_snapshot(&snapshot) {
            vault.forget(&[snapshot.id]).map_err(|error| vault_failure(&error))?;
            return Err(vault_failure(&error).while_doing(format!("the bytes of {backup} have been pruned already")));
        }
    }
    Ok(json!({ "back": backups }))
}

fn parse_forgotten(backup: &BackupId, body: &[u8]) -> Result<ForgottenSnapshot, Failure> {
    let damaged = || Failure::new(FailureKind::Damaged, format!("what brings {backup} back is damaged on this host"));
    let line = body.iter().position(|byte| *byte == b'\n').ok_or_else(damaged)?;
    let id = std::str::from_utf8(&body[..line]).ok().and_then(Id::from_hex).ok_or_else(damaged)?;
    Ok(ForgottenSnapshot { id, raw: bytes::Bytes::copy_from_slice(&body[line + 1..]) })
}

pub fn snapshot_name(hands: &Hands, location: &str, backup: &BackupId) -> Result<String, Failure> {
    let vault = hands.vaults.open(location)?;
    Ok(summary::find_snapshot(&vault, backup)?
        .map_or_else(|| "not there".to_owned(), |snapshot| snapshot.id.to_string()))
}

/// A digest over all backups of the environment: changes when one comes or goes, is marked or unmarked, is proven or fails.
pub fn list_digest(hands: &Hands, location: &str) -> Result<String, Failure> {
    let vault = hands.vaults.open(location)?;
    let catalog = Catalog::open(&hands.state).map_err(|error| Failure::from_error(FailureKind::Outside, &error))?;
    let mut lines = Vec::new();
    for mut backup in summary::backups(&vault)?.into_iter().filter(|backup| backup.scope == hands.setup.scope) {
        crate::facts::decorate(&mut backup, &catalog)?;
        lines.push(format!("{} {:?} {:?} {:?}\n", backup.id, backup.held, backup.suspect, backup.proven_at));
    }
    lines.sort();
    Ok(format!("{} backups, {}", lines.len(), hex::encode(&Sha256::digest(lines.concat())[..8])))
}

pub fn prune(hands: &Hands, location: &str, grace_ms: u64, context: &Context<'_>) -> Result<Value, Failure> {
    let vault = hands.vaults.open(location)?;
    let grace = lifeboat_model::Duration::from_millis(grace_ms);
    let options = PruneOptions { grace, stop: context.stop.clone(), ..PruneOptions::default() };
    let report = vault.prune(&options).map_err(|error| vault_failure(&error))?;
    let sentences = prune_sentences(&report);
    sentences.iter().for_each(|sentence| context.watch.note(sentence));
    Ok(json!({
        "deleted_bytes": report.deleted.bytes, "marked_bytes": report.marked.bytes, "kept_bytes": report.kept.bytes,
        "waiting_bytes": report.waiting.bytes, "sentences": sentences,
    }))
}

/// What a prune does, or did, for people.
pub fn prune_sentences(report: &PruneReport) -> Vec<String> {
    let size = |tally: Tally| format!("{} packs, {}", tally.count, show_bytes(tally.bytes));
    let mut sentences = vec![format!("{} snapshots need {}.", report.snapshots, size(report.kept))];
    let told = [
        (report.deleted, "were marked long enough ago and are deleted"),
        (report.marked, "are not needed and are marked; a later prune deletes them"),
        (report.repacked, "of the marked ones hold needed data too, which is copied first"),
        (report.waiting, "were marked before and wait for the end of their grace period"),
        (report.revived, "were marked before and are needed again"),
    ];
    sentences.extend(
        told.iter().filter(|(tally, _)| tally.count > 0).map(|(tally, what)| format!("{} {what}.", size(*tally))),
    );
    if report.half_written.count > 0 {
        let (count, bytes) = (report.half_written.count, show_bytes(report.half_written.bytes));
        sentences
            .push(format!("{count} files, {bytes}, were left half-written by writers that died, and are deleted."));
    }
    sentences
}
