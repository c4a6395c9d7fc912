//! Writing what was fetched into the folder of an export, with the document that describes it.

use std::{io::Read, path::Path};

use lifeboat_io::{
    database::sqlite,
    files, sealed,
    tree::{self, EntryKind},
};
use lifeboat_model::{
    Content, Export, ExportFormat, ExportPart, ExportedFile, ExportedResource, Failure, FailureKind, ResourceManifest,
    SqliteFacts,
    export::{EXPORT_FILE, EXPORT_SCHEMA, table_file},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    Hands,
    errors::{path_failure, sqlite_failure},
    summary, trees,
};
use crate::perform::Context;

/// What stands in every export and is said after it.
pub const WARNING: &str = "This is a copy in the clear. It holds whatever personal data and secrets the app holds; delete it when it is not needed any more.";

/// Which export to write.
pub struct What<'a> {
    pub at: &'a Path,
    pub format: ExportFormat,
    pub tables: &'a [String],
    pub parts: &'a [ExportPart],
}

pub fn make_folder(path: &Path) -> Result<Value, Failure> {
    files::remove_any(path).map_err(|error| path_failure(&error))?;
    files::create_new_private_folder(path).map_err(|error| path_failure(&error))?;
    Ok(json!({}))
}

/// Writes every file of a folder into a new one, encrypted, with `.age` behind its name; folders and links as they are, since
/// they hold nothing but names.
pub fn encrypt(from: &Path, into: &Path, recipients: &[String], context: &Context<'_>) -> Result<Value, Failure> {
    make_folder(into)?;
    let tree = tree::walk(from, &[], context.stop).map_err(|error| trees::tree_failure(&error))?;
    let total = tree.entries.iter().map(|entry| match entry.kind {
        EntryKind::File { bytes } => bytes,
        EntryKind::Folder | EntryKind::Link { .. } => 0,
    });
    let (mut done, total) = (0, total.sum());
    for entry in tree.entries.iter().filter(|entry| entry.path != Path::new("")) {
        let to = into.join(&entry.path);
        match &entry.kind {
            EntryKind::Folder => files::create_private_folder(&to).map_err(|error| path_failure(&error))?,
            EntryKind::Link { target } => files::link(target, &to).map_err(|error| path_failure(&error))?,
            EntryKind::File { .. } => {
                let sealed = crate::facts::path_with(&to, ".age");
                let bytes = sealed::encrypt(&from.join(&entry.path), &sealed, recipients, context.stop);
                done += bytes.map_err(|error| sealed_failure(&error))?;
                context.watch.progress(done, Some(total));
            }
        }
    }
    let text =
        "Every file here is encrypted with age. To open one: age --decrypt --identity KEY-FILE export.json.age\n";
    files::write_with_mode(&into.join("README.txt"), text.as_bytes(), 0o600).map_err(|error| path_failure(&error))?;
    Ok(json!({ "bytes": done }))
}

/// What a failed encryption means for a person.
pub(crate) fn sealed_failure(error: &sealed::SealError) -> Failure {
    match error {
        sealed::SealError::Path(error) => path_failure(error),
        sealed::SealError::Stopped(error) => Failure::from_error(FailureKind::Interrupted, error),
        sealed::SealError::Recipient { .. } => {
            let hint = "it begins with age1; age-keygen -o KEY-FILE makes a secret key and prints its public one";
            Failure::from_error(FailureKind::Usage, error).hint(hint)
        }
    }
}

pub fn write(hands: &Hands, what: &What<'_>, context: &Context<'_>) -> Result<Value, Failure> {
    let resources = what.parts.iter().map(|part| write_part(hands, what, part, context));
    let resources = resources.collect::<Result<Vec<ExportedResource>, Failure>>()?;
    let plan = &context.operation.plan;
    let export = Export {
        schema: EXPORT_SCHEMA.to_owned(),
        scope: plan.scope.clone(),
        plan: plan.id.clone(),
        made_at: plan.made_at,
        operator: context.operation.by.clone(),
        format: what.format,
        warning: WARNING.to_owned(),
        resources,
    };
    let body = serde_json::to_vec_pretty(&export)
        .map_err(|error| Failure::new(FailureKind::Bug, "the export cannot be described").because(error.to_string()))?;
    files::write_with_mode(&what.at.join(EXPORT_FILE), &body, 0o600).map_err(|error| path_failure(&error))?;
    let all = || export.resources.iter().flat_map(|resource| &resource.files);
    Ok(json!({ "files": all().count(), "bytes": all().map(|file| file.bytes).sum::<u64>() }))
}

fn write_part(
    hands: &Hands,
    what: &What<'_>,
    part: &ExportPart,
    context: &Context<'_>,
) -> Result<ExportedResource, Failure> {
    let vault = hands.vaults.open(&part.vault)?;
    let manifest = summary::manifest(&vault, &part.backup)?;
    let about = super::fetches::part(&manifest, &part.backup, &part.resource)?;
    let (kind, files) = match (&about.content, what.format) {
        (Content::Sqlite(facts), ExportFormat::Sqlite | ExportFormat::Sql | ExportFormat::Custom) => {
            ("sqlite", vec![database(what, part, facts, context)?])
        }
        (Content::Sqlite(facts), ExportFormat::Csv) => ("sqlite", tables(what, part, facts, context)?),
        (Content::Files(_), _) => ("files", tree_files(what, part, context)?),
        (Content::Env(_), _) => ("env", vec![private(what, &part.fetched, context)?]),
        (Content::Postgres(facts), format) => {
            let files = tree_files(what, part, context)?;
            ("postgres", super::postgres::tables_of_files(files, facts, format, what.tables))
        }
    };
    let ResourceManifest { name, origin, recovery_point, .. } = about;
    Ok(ExportedResource {
        name: name.clone(),
        kind: kind.to_owned(),
        backup: part.backup.clone(),
        recovery_point: *recovery_point,
        origin: origin.clone(),
        files,
    })
}

fn database(
    what: &What<'_>,
    part: &ExportPart,
    facts: &SqliteFacts,
    context: &Context<'_>,
) -> Result<ExportedFile, Failure> {
    let file = private(what, &part.fetched, context)?;
    let rows = facts.tables.iter().filter(|(name, _)| !name.starts_with("sqlite_"));
    Ok(ExportedFile { tables: Some(rows.map(|(name, table)| (name.clone(), table.rows)).collect()), ..file })
}

fn tables(
    what: &What<'_>,
    part: &ExportPart,
    facts: &SqliteFacts,
    context: &Context<'_>,
) -> Result<Vec<ExportedFile>, Failure> {
    let folder = what.at.join(part.resource.as_str());
    // Begun again after a crash, nothing half-written stays.
    make_folder(&folder)?;
    let bad = |error| sqlite_failure(&error);
    let wanted = |name: &String| what.tables.is_empty() || what.tables.iter().any(|one| one.eq_ignore_ascii_case(name));
    let mut written = Vec::new();
    for table in sqlite::table_names(&part.fetched, context.stop).map_err(bad)?.into_iter().filter(wanted) {
        let into = folder.join(table_file(&table));
        let progress = |done| context.watch.progress(done, None);
        let rows = sqlite::write_csv(&part.fetched, &table, &into, context.stop, &progress).map_err(bad)?;
        if facts.tables.get(&table).is_none_or(|known| known.rows != rows) {
            let message = format!("table {table} came out with {rows} rows, which is not what its manifest says");
            return Err(Failure::new(FailureKind::Damaged, message));
        }
        written.push(ExportedFile { table: Some(table), rows: Some(rows), ..described(what, &into, context)? });
    }
    if what.tables.is_empty() {
        let schema = sqlite::schema_sql(&part.fetched, context.stop).map_err(bad)?;
        for (name, text) in [("schema.sql", schema.before_rows), ("schema-after.sql", schema.after_rows)] {
            let into = folder.join(name);
            files::write_with_mode(&into, text.as_bytes(), 0o600).map_err(|error| path_failure(&error))?;
            written.push(described(what, &into, context)?);
        }
    }
    Ok(written)
}

fn tree_files(what: &What<'_>, part: &ExportPart, context: &Context<'_>) -> Result<Vec<ExportedFile>, Failure> {
    if !files::is_folder(&part.fetched) {
        return Ok(vec![private(what, &part.fetched, context)?]);
    }
    let tree = tree::walk(&part.fetched, &[], context.stop).map_err(|error| trees::tree_failure(&error))?;
    let plain = tree.entries.iter().filter(|entry| matches!(entry.kind, EntryKind::File { .. }));
    plain.map(|entry| described(what, &part.fetched.join(&entry.path), context)).collect()
}

/// A file that only its owner may read from now on.
fn private(what: &What<'_>, path: &Path, context: &Context<'_>) -> Result<ExportedFile, Failure> {
    files::set_mode(path, 0o600).map_err(|error| path_failure(&error))?;
    described(what, path, context)
}

fn described(what: &What<'_>, path: &Path, context: &Context<'_>) -> Result<ExportedFile, Failure> {
    let mut file = files::open(path).map_err(|error| path_failure(&error))?;
    let (mut hash, mut piece, mut bytes) = (Sha256::new(), vec![0; 1 << 20], 0);
    loop {
        context.stop.check().map_err(|error| Failure::from_error(FailureKind::Interrupted, &error))?;
        let read = file
            .read(&mut piece)
            .map_err(|source| path_failure(&lifeboat_io::PathError { path: path.to_owned(), source }))?;
        if read == 0 {
            break;
        }
        hash.update(&piece[..read]);
        bytes += read as u64;
    }
    let below = path.strip_prefix(what.at).unwrap_or(path).to_string_lossy().into_owned();
    let sha256 = hex::encode(hash.finalize());
    Ok(ExportedFile { path: below, bytes, sha256, table: None, rows: None, tables: None })
}
