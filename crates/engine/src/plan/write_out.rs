//! Planning how a PostgreSQL database leaves a backup: as text straight from the vault, or as an archive that `pg_dump`
//! writes of a database filled and compared for it, which is dropped again.

use std::path::{Path, PathBuf};

use lifeboat_io::database::postgres::subset;
use lifeboat_model::{
    Action, Backup, Content, ExportFormat, Failure, FailureKind, PgAction, Phase, Request, Resource, ResourceKind,
    ResourceManifest, StepClass, Undo, export::database_file,
};

use super::{
    databases,
    steps::{guess, phase, step},
};
use crate::{
    Engine,
    act::{postgres::definitions, postgres_failure, summary},
    facts::Common,
};

type Chosen = (Resource, Backup, ResourceManifest);

fn is_database(part: &ResourceManifest) -> bool {
    matches!(part.content, Content::Postgres(_))
}

/// Refuses words that do not fit together, and says what single tables leave out.
///
/// # Errors
/// Such words; a name that no table has; a backup that cannot be read.
pub(crate) fn gather(engine: &Engine, request: &Request, parts: &[Chosen]) -> Result<Vec<String>, Failure> {
    let Request::Export { format, tables, data_only, gzip, .. } = request else { return Ok(Vec::new()) };
    let usage = |message: &str, hint: &str| Err(Failure::new(FailureKind::Usage, message).hint(hint));
    let databases = parts.iter().filter(|(_, _, part)| is_database(part)).count();
    match format {
        ExportFormat::Sql | ExportFormat::Custom if databases == 0 => {
            return usage(
                "no PostgreSQL database is among them",
                "--format sqlite or csv; or name a PostgreSQL database",
            );
        }
        ExportFormat::Sql | ExportFormat::Custom | ExportFormat::Csv | ExportFormat::Sqlite => {}
    }
    if (*data_only || *gzip) && *format != ExportFormat::Sql {
        return usage("rows alone, and compressed, come out as SQL only", "add --format sql");
    }
    if tables.is_empty() || databases == 0 {
        return Ok(Vec::new());
    }
    if matches!(format, ExportFormat::Custom | ExportFormat::Sqlite) {
        return usage("single tables of a PostgreSQL database come out as SQL or CSV only", "--format sql, or csv");
    }
    let [(_, backup, part)] = parts else {
        return usage("tables are meant, and more than one resource is named", "name the database they are in");
    };
    let Content::Postgres(facts) = &part.content else { return Ok(Vec::new()) };
    let vault = engine.vaults.open(&engine.setup().vault)?;
    let snapshot = summary::snapshot_of(&vault, &backup.id)?;
    let entries = definitions(vault, snapshot, part)?;
    let found = subset(&entries, facts, tables)
        .map_err(|error| Failure { kind: FailureKind::Usage, ..postgres_failure(&error) })?;
    Ok(if *format == ExportFormat::Sql && !data_only { found.left_out } else { Vec::new() })
}

/// Whether the place that is named is the one file that a database becomes.
///
/// # Errors
/// When it is such a file, and more than one database would go into it.
pub(crate) fn is_one_file(request: &Request, parts: &[Chosen]) -> Result<bool, Failure> {
    let Request::Export { to, format, encrypt_to, .. } = request else { return Ok(false) };
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    if !format.is_file_name(&name) {
        return Ok(false);
    }
    match parts {
        [(_, _, part)] if is_database(part) && encrypt_to.is_empty() => Ok(true),
        _ => {
            let message = format!("{name} is the name of one file, and a folder is needed");
            Err(Failure::new(FailureKind::Usage, message).hint("name a folder: --to FOLDER"))
        }
    }
}

/// The file that a database becomes, in the folder of its resource.
pub(crate) fn file_of(folder: &Path, part: &ResourceManifest, request: &Request) -> PathBuf {
    match (&part.content, request) {
        (Content::Postgres(facts), Request::Export { format, gzip, .. }) => {
            folder.join(database_file(&facts.database.name, *format, *gzip))
        }
        _ => folder.to_owned(),
    }
}

/// How a database comes out; nothing when it comes out as the files it is in the vault.
pub(crate) fn bring(
    common: &Common,
    request: &Request,
    folder: &Path,
    (resource, backup, part): (&Resource, &Backup, &ResourceManifest),
) -> Option<Vec<Phase>> {
    let Request::Export { format, tables, data_only, gzip, server, .. } = request else { return None };
    let (Content::Postgres(facts), ResourceKind::Postgres { url, .. }) = (&part.content, &resource.kind) else {
        return None;
    };
    let (vault, name) = (common.vault.clone(), &resource.name);
    match format {
        ExportFormat::Sqlite => None,
        ExportFormat::Sql | ExportFormat::Csv => {
            let action = Action::Postgres(PgAction::WriteOut {
                vault: vault.clone(),
                backup: backup.id.clone(),
                resource: name.clone(),
                into: folder.to_owned(),
                format: *format,
                tables: tables.clone(),
                data_only: *data_only,
                gzip: *gzip,
            });
            let how = match (format, data_only) {
                (ExportFormat::Csv, _) => "one CSV file a table",
                (_, true) => "the rows as SQL",
                (_, false) => "one file of SQL",
            };
            let title = format!("write {name} as {how}; rows and digests are compared as they pass");
            let expected = common.predict("fetch", &format!("{vault} {name}"), part.bytes, guess::FETCH / 2.0);
            let step = step(format!("fetch.{name}"), title, StepClass::Idempotent, action, Undo::Nothing);
            Some(vec![phase(common, "restore", vec![expected], vec![step])])
        }
        ExportFormat::Custom => {
            let url = server.as_ref().unwrap_or(url);
            let (mut phases, database) = databases::fill_for(common, backup, resource, part, url, &facts.database.name);
            let into = file_of(folder, part, request);
            let archive = PgAction::Archive { url: url.clone(), database: database.clone(), into };
            let drop = PgAction::Drop { url: url.clone(), database: database.clone() };
            let title = format!("have pg_dump write {name} as an archive");
            let steps = vec![
                step(format!("archive.{name}"), title, StepClass::Idempotent, Action::Postgres(archive), Undo::Nothing),
                step(
                    format!("drop.{name}"),
                    format!("drop database {database}"),
                    StepClass::Idempotent,
                    Action::Postgres(drop),
                    Undo::Nothing,
                ),
            ];
            let expected = common.predict("archive", name.as_str(), part.bytes, guess::FETCH / 10.0);
            phases.push(phase(common, "archive", vec![expected], steps));
            Some(phases)
        }
    }
}
