//! Bringing a resource out of a backup, and comparing what came with its manifest.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use lifeboat_io::{Stop, database::sqlite, digest::QuickDigest, files};
use lifeboat_model::{
    Action, BackupId, Check, Content, Failure, FailureKind, Manifest, ProofLevel, Resource, ResourceManifest,
    ResourceName, SqliteFacts, Tri,
    compare::{TablePolicy, compare_sqlite},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    Hands,
    captures::{is_about_values, look_at_copy, output, unsound},
    errors::{path_failure, sqlite_failure, vault_failure},
    proofs::CheckOutput,
    stores, summary,
};
use crate::{perform::Context, setup::Vaults};

/// A fetched copy, and what it must be.
pub struct Fetched<'a> {
    pub vault: &'a str,
    pub backup: &'a BackupId,
    pub resource: &'a Resource,
    pub at: &'a Path,
}

pub fn fetch(
    hands: &Hands,
    location: &str,
    backup: &BackupId,
    resource: &ResourceName,
    into: &Path,
    context: &Context<'_>,
) -> Result<Value, Failure> {
    let vault = hands.vaults.open(location)?;
    let manifest = summary::manifest(&vault, backup)?;
    let part = part(&manifest, backup, resource)?;
    let snapshot = summary::snapshot_of(&vault, backup)?;
    files::remove_any(into).map_err(|error| path_failure(&error))?;
    files::create_folder(files::parent(into)).map_err(|error| path_failure(&error))?;
    if matches!(part.content, Content::Files(_) | Content::Postgres(_)) {
        let bytes = super::trees::fetch(&vault, &snapshot, &part.path, into, part.bytes, context)?;
        return Ok(json!({ "bytes": bytes }));
    }
    let entry = vault.entry(&snapshot, &part.path).map_err(|error| vault_failure(&error))?;
    let total = Some(part.bytes);
    let progress = |done| context.watch.progress(done, total);
    let mode = if matches!(part.content, Content::Env(_)) { 0o600 } else { entry.meta.mode };
    // What has a digest of the whole is compared with that; name by name only when it differs, to tell what is wrong.
    let mut whole = match &part.content {
        Content::Sqlite(facts) if !facts.quick_digest.is_empty() => Some(facts.quick_digest.as_str()),
        Content::Sqlite(_) | Content::Env(_) | Content::Files(_) | Content::Postgres(_) => None,
    };
    loop {
        let mut digest = Digest::for_comparing(&part.content);
        let written = files::write_stream(into, mode, |to| {
            let to = &mut Digested { to, digest: &mut digest };
            match whole {
                Some(_) => vault.read_entry_by_seals(&entry, to, &progress, context.stop),
                None => vault.read_entry(&entry, to, &progress, context.stop),
            }
        });
        let bytes = written.map_err(|error| path_failure(&error))?.map_err(|error| vault_failure(&error))?;
        let digest = digest.finish();
        if whole.is_none_or(|whole| whole == digest) {
            return output(&FetchOutput { bytes, digest, untouched: files::untouched(into) });
        }
        whole = None;
        files::remove_any(into).map_err(|error| path_failure(&error))?;
    }
}

/// What bringing a single file leaves behind: while the file is untouched, it need not be read again to be compared.
#[derive(Serialize, Deserialize)]
struct FetchOutput {
    bytes: u64,
    /// Of all bytes, on their way to the file; empty where nothing is compared with it.
    #[serde(default)]
    digest: String,
    /// What the file was when all of it was on disk.
    #[serde(default)]
    untouched: String,
}

/// The digest that the manifest has of a file.
enum Digest {
    Quick(Box<QuickDigest>),
    /// Manifests of 0.1 have no other.
    Sha256(Sha256),
    None,
}

impl Digest {
    fn for_comparing(content: &Content) -> Digest {
        match content {
            Content::Sqlite(facts) if facts.quick_digest.is_empty() => Digest::Sha256(Sha256::new()),
            Content::Sqlite(_) => Digest::Quick(Box::default()),
            Content::Env(_) | Content::Files(_) | Content::Postgres(_) => Digest::None,
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Digest::Quick(digest) => digest.update(bytes),
            Digest::Sha256(digest) => digest.update(bytes),
            Digest::None => {}
        }
    }

    fn finish(self) -> String {
        match self {
            Digest::Quick(digest) => digest.finish(),
            Digest::Sha256(digest) => hex::encode(digest.finalize()),
            Digest::None => String::new(),
        }
    }
}

/// Digests what passes.
struct Digested<'a> {
    to: &'a mut dyn Write,
    digest: &'a mut Digest,
}

impl Write for Digested<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.digest.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

pub(super) fn part<'a>(
    manifest: &'a Manifest,
    backup: &BackupId,
    resource: &ResourceName,
) -> Result<&'a ResourceManifest, Failure> {
    manifest.resource(resource).ok_or_else(|| {
        Failure::new(FailureKind::Damaged, format!("the manifest of {backup} says nothing about {resource}"))
    })
}

/// Compares the copy with the manifest. In a restore the first thing that does not pass is a failure; in a rehearsal
/// (`writes`) everything found is the result.
pub fn check_fetched(hands: &Hands, what: &Fetched<'_>, writes: bool, context: &Context<'_>) -> Result<Value, Failure> {
    // What came whole is not read again, and nothing below might look whether this was broken off.
    context.stop.check().map_err(|stopped| Failure::from_error(FailureKind::Interrupted, &stopped))?;
    let vault = hands.vaults.open(what.vault)?;
    let manifest = summary::manifest(&vault, what.backup)?;
    let part = part(&manifest, what.backup, &what.resource.name)?;
    if let (Content::Sqlite(expected), false) = (&part.content, writes)
        && (came_whole(what.at, expected, context) || same_bytes(what.at, expected, part.bytes, context)?)
    {
        // Every byte is what it was when it was captured and looked at: looking again would tell nothing new.
        let same = Check::new("bytes", Tri::Pass, "every byte as captured, by its digest; what was found then holds");
        return output(&CheckOutput { bytes: part.bytes, checks: vec![(ProofLevel::Consistent, same)] });
    }
    let mut checks = match &part.content {
        Content::Sqlite(_) => check_sqlite(what, part, writes, context)?,
        Content::Env(facts) => {
            let body = files::read(what.at).map_err(|error| path_failure(&error))?;
            let key = summary::env_key(&vault, &summary::snapshot_of(&vault, what.backup)?);
            let same = stores::env_facts(&body, &key) == *facts;
            vec![Check::new("content", Tri::from_bool(same), format!("{} variables", facts.names.len()))]
        }
        Content::Files(facts) => super::trees::compare(what.at, facts, context)?,
        // Taken out as files, whose every byte was compared with its name in the vault on the way.
        Content::Postgres(facts) => {
            vec![Check::new("parts", Tri::Pass, format!("{} tables", facts.tables.len()))]
        }
    };
    if !writes {
        if Tri::worst(checks.iter().map(|check| check.outcome)) != Tri::Pass {
            return Err(unsound(&checks).while_doing(format!("what came out of {} is not what went in", what.backup)));
        }
        return output(&CheckOutput { bytes: part.bytes, checks: at_level(ProofLevel::Consistent, checks) });
    }
    let mut found = at_level(ProofLevel::Consistent, std::mem::take(&mut checks));
    let usable = match &part.content {
        Content::Sqlite(_) => sqlite::try_writes(what.at, context.stop),
        Content::Env(_) | Content::Files(_) | Content::Postgres(_) => {
            vec![Check::new("takes writes", Tri::Pass, "plain files")]
        }
    };
    found.extend(at_level(ProofLevel::Usable, usable));
    output(&CheckOutput { bytes: part.bytes, checks: found })
}

/// Whether the bytes that went to the file were the captured ones, and nobody has touched it since it was on disk.
fn came_whole(at: &Path, expected: &SqliteFacts, context: &Context<'_>) -> bool {
    let operation = context.operation;
    let fetch = operation.plan.steps().find(|step| matches!(&step.action, Action::Fetch { into, .. } if into == at));
    let came = fetch.and_then(|step| context.output::<FetchOutput>(&step.id).ok());
    let wanted = if expected.quick_digest.is_empty() { &expected.sha256 } else { &expected.quick_digest };
    came.is_some_and(|came| came.digest == *wanted && came.untouched == files::untouched(at))
}

fn same_bytes(file: &Path, expected: &SqliteFacts, total: u64, context: &Context<'_>) -> Result<bool, Failure> {
    let progress = |done| context.watch.progress(done, Some(total));
    let same = match expected.quick_digest.is_empty() {
        true => sqlite::sha256(file, context.stop, &progress).map(|found| found == expected.sha256),
        false => sqlite::quick_digest(file, context.stop, &progress).map(|found| found == expected.quick_digest),
    };
    same.map_err(|error| sqlite_failure(&error))
}

fn at_level(level: ProofLevel, checks: Vec<Check>) -> Vec<(ProofLevel, Check)> {
    checks.into_iter().map(|check| (level, check)).collect()
}

fn check_sqlite(
    what: &Fetched<'_>,
    part: &ResourceManifest,
    rehearsal: bool,
    context: &Context<'_>,
) -> Result<Vec<Check>, Failure> {
    let Content::Sqlite(expected) = &part.content else {
        return Err(Failure::new(FailureKind::Bug, "not a database"));
    };
    let (facts, mut checks) = look_at_copy(what.at, context)?;
    let facts = match facts {
        Ok(facts) => facts,
        Err(failure) => {
            checks.push(Check::new("content", Tri::Fail, failure.to_string()));
            return Ok(checks);
        }
    };
    // A rehearsal judges the backup: is it empty where it should not be? A restore brings back what was, empty or not.
    let any = ["*".to_owned()];
    let policy = if rehearsal {
        TablePolicy::of(what.resource)
    } else {
        TablePolicy { critical_tables: &[], may_be_empty: &any }
    };
    if !rehearsal {
        // Rows and digests are compared with what was captured; what the app's own rules refuse was refused then too.
        checks.retain(|check| !is_about_values(check));
    }
    checks.extend(compare_sqlite(expected, &facts, policy));
    if rehearsal {
        let asked = what.resource.checks.iter();
        checks.extend(asked.map(|(name, question)| sqlite::ask(what.at, name, question, context.stop)));
    }
    Ok(checks)
}

/// Damages a second copy and looks whether the checks notice. Checks that cannot fail prove nothing.
pub fn check_the_checks(hands: &Hands, what: &Fetched<'_>, seed: u64, context: &Context<'_>) -> Result<Value, Failure> {
    let vault = hands.vaults.open(what.vault)?;
    let manifest = summary::manifest(&vault, what.backup)?;
    let part = part(&manifest, what.backup, &what.resource.name)?;
    let copy: PathBuf = crate::facts::path_with(what.at, ".damaged");
    let noticed = notice(what, part, &copy, seed, context);
    files::remove_any(&copy).map_err(|error| path_failure(&error))?;
    let (damage, noticed) = noticed?;
    let detail = if noticed { format!("noticed: {damage}") } else { format!("not noticed: {damage}") };
    let checks = vec![(ProofLevel::Consistent, Check::new("a damaged copy fails", Tri::from_bool(noticed), detail))];
    output(&CheckOutput { bytes: part.bytes, checks })
}

fn notice(
    what: &Fetched<'_>,
    part: &ResourceManifest,
    copy: &Path,
    seed: u64,
    context: &Context<'_>,
) -> Result<(String, bool), Failure> {
    files::copy(what.at, copy).map_err(|error| path_failure(&error))?;
    let damage = sqlite::damage_copy(copy, seed).map_err(|error| sqlite_failure(&error))?;
    let damaged = Fetched { at: copy, ..*what };
    let quiet = crate::perform::Unwatched;
    let silent = Context { operation: context.operation, step: context.step, stop: context.stop, watch: &quiet };
    let checks = check_sqlite(&damaged, part, false, &silent)?;
    let worst = Tri::worst(checks.iter().map(|check| check.outcome));
    Ok((damage.to_string(), worst == Tri::Fail))
}

/// Looks at a backup as a whole, from the outside: used by `backups verify`.
///
/// # Errors
/// Damage in the vault, or in what comes out of it.
pub fn read_all(
    vaults: &dyn Vaults,
    location: &str,
    backup: &BackupId,
    stop: &Stop,
    progress: &dyn Fn(u64),
) -> Result<u64, Failure> {
    let vault = vaults.open(location)?;
    let snapshot = summary::snapshot_of(&vault, backup)?;
    let mut bytes = 0;
    for entry in vault.entries(&snapshot).map_err(|error| vault_failure(&error))? {
        if let lifeboat_store::vault::EntryKind::File { .. } = entry.kind {
            let before = bytes;
            let read = vault.read_entry(&entry, &mut std::io::sink(), &|done| progress(before + done), stop);
            bytes += read.map_err(|error| vault_failure(&error))?;
        }
    }
    Ok(bytes)
}
