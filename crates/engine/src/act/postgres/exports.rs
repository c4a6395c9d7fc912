//! Writing a captured database out: as SQL or CSV straight from the vault, as an archive by `pg_dump`.

use std::{
    io::{BufWriter, Write},
    path::Path,
};

use lifeboat_io::{
    database::postgres::{self, PgError, Plain, SchemaEntry, Subset},
    files, gzip,
};
use lifeboat_model::{
    ExportFormat, ExportedFile, Failure, FailureKind, PostgresFacts, ResourceManifest,
    export::{database_file, table_file},
};
use lifeboat_store::vault::{Snapshot, Vault};
use serde_json::{Value, json};

use super::{
    SCHEMA, Stored,
    streams::{self, OutOfVault},
};
use crate::{
    act::{
        Hands,
        errors::{path_failure, postgres_failure},
        summary,
    },
    perform::Context,
};

/// In which form a database is written out.
pub struct Form<'a> {
    pub format: ExportFormat,
    pub tables: &'a [String],
    pub data_only: bool,
    pub gzip: bool,
}

/// The definitions of a captured database, one by one.
pub(crate) fn definitions(
    vault: std::sync::Arc<Vault>,
    snapshot: Snapshot,
    part: &ResourceManifest,
) -> Result<Vec<SchemaEntry>, Failure> {
    let stop = lifeboat_io::Stop::default();
    parsed(&OutOfVault::new(vault, snapshot, part.path.clone(), stop), &part.name)
}

fn parsed(sources: &OutOfVault, name: &lifeboat_model::ResourceName) -> Result<Vec<SchemaEntry>, Failure> {
    serde_json::from_slice(&sources.small(SCHEMA)?).map_err(|error| {
        let message = format!("the definitions of {name} cannot be understood");
        Failure::new(FailureKind::Damaged, message).because(error.to_string())
    })
}

fn text(sources: &OutOfVault, path: &str) -> Result<String, Failure> {
    let bytes = sources.small(path)?;
    String::from_utf8(bytes).map_err(|_| Failure::new(FailureKind::Damaged, format!("{path} is not UTF-8")))
}

/// Writes a database out; rows are compared with the manifest as they pass.
pub(super) fn write_out(
    hands: &Hands,
    stored: &Stored<'_>,
    into: &Path,
    form: &Form<'_>,
    context: &Context<'_>,
) -> Result<Value, Failure> {
    let (part, facts) = stored.manifest(hands)?;
    let vault = hands.vaults.open(stored.vault)?;
    let snapshot = summary::snapshot_of(&vault, stored.backup)?;
    let sources = streams::OutOfVault::new(vault, snapshot, part.path.clone(), context.stop.clone());
    let entries = parsed(&sources, stored.resource)?;
    let (pre_data, post_data) = (text(&sources, "pre-data.sql")?, text(&sources, "post-data.sql")?);
    let subset = match form.tables {
        [] => None,
        tables => Some(postgres::subset(&entries, &facts, tables).map_err(|error| postgres_failure(&error))?),
    };
    let title = format!(
        "{} of PostgreSQL {}, out of backup {}, complete up to {}",
        facts.database.name,
        facts.server_version / 10_000,
        stored.backup,
        part.recovery_point
    );
    let (facts, entries) = (&facts, &entries[..]);
    let what =
        Plain { facts, entries, pre_data: &pre_data, post_data: &post_data, subset: subset.as_ref(), title: &title };
    files::remove_any(into).map_err(|error| path_failure(&error))?;
    files::create_private_folder(into).map_err(|error| path_failure(&error))?;
    match form.format {
        ExportFormat::Csv => csv(&what, &sources, into, context)?,
        ExportFormat::Sql | ExportFormat::Sqlite | ExportFormat::Custom => sql(&what, &sources, into, form, context)?,
    }
    Ok(json!({ "bytes": part.bytes, "tables": chosen(facts, subset.as_ref()).count() }))
}

fn chosen<'a>(facts: &'a PostgresFacts, subset: Option<&'a Subset>) -> impl Iterator<Item = &'a String> {
    facts.tables.keys().filter(move |title| subset.is_none_or(|subset| subset.tables.contains(*title)))
}

fn sql(
    what: &Plain<'_>,
    sources: &OutOfVault,
    into: &Path,
    form: &Form<'_>,
    context: &Context<'_>,
) -> Result<(), Failure> {
    let progress = |done, total| context.watch.progress(done, total);
    let write = |to: &mut dyn Write| match form.data_only {
        true => postgres::write_data_sql(what, sources, to, context.stop, &progress),
        false => postgres::write_sql(what, sources, to, context.stop, &progress),
    };
    let file = into.join(database_file(&what.facts.database.name, ExportFormat::Sql, form.gzip));
    written(&file, |to| match form.gzip {
        true => gzip::compressed(to, |source| PgError::Ours { doing: "compress".into(), source }, write),
        false => write(to),
    })
}

fn csv(what: &Plain<'_>, sources: &OutOfVault, into: &Path, context: &Context<'_>) -> Result<(), Failure> {
    let tables =
        || what.facts.tables.iter().filter(|(title, _)| what.subset.is_none_or(|one| one.tables.contains(*title)));
    let total: u64 = tables().flat_map(|(_, table)| &table.parts).map(|part| part.bytes).sum();
    let mut behind = 0;
    // A table without columns of its own has rows, and nothing in them.
    for (title, table) in tables().filter(|(_, table)| !table.columns.is_empty()) {
        let progress = |done| context.watch.progress(behind + done, Some(total));
        written(&into.join(table_file(title)), |to| {
            postgres::write_csv(title, table, sources, to, context.stop, &progress)
        })?;
        behind += table.parts.iter().map(|part| part.bytes).sum::<u64>();
    }
    if what.subset.is_none() {
        let sequences = postgres::sequences_sql(what.facts);
        for (name, body) in
            [("schema.sql", what.pre_data), ("schema-after.sql", what.post_data), ("sequences.sql", sequences.as_str())]
        {
            files::write_with_mode(&into.join(name), body.as_bytes(), 0o600).map_err(|error| path_failure(&error))?;
        }
        if let Some(objects) = &what.facts.large_objects {
            let count = objects.objects;
            context
                .watch
                .note(&format!("{count} large objects belong to no table and are left out; --format sql has them."));
        }
    }
    Ok(())
}

/// Writes a file for its owner alone.
fn written<T>(file: &Path, write: impl FnOnce(&mut dyn Write) -> Result<T, PgError>) -> Result<(), Failure> {
    let failed = |source| PgError::Ours { doing: format!("write {}", file.display()), source };
    let done = files::write_stream(file, 0o600, |to| {
        let mut buffered = BufWriter::with_capacity(1 << 20, to);
        let done = write(&mut buffered)?;
        buffered.flush().map_err(failed)?;
        Ok(done)
    });
    done.map_err(|error| path_failure(&error))?.map(drop).map_err(|error| postgres_failure(&error))
}

/// An archive of a database that was filled from a backup.
pub(super) fn archive(
    hands: &Hands,
    url: &str,
    database: &str,
    into: &Path,
    context: &Context<'_>,
) -> Result<Value, Failure> {
    let failed = |error: PgError| postgres_failure(&error);
    let address = hands.vaults.database(url)?.with_database(database);
    let major = postgres::Session::open(&address, context.stop).map_err(failed)?.major();
    let clients = super::clients(hands, major, context)?;
    files::remove_any(into).map_err(|error| path_failure(&error))?;
    files::create_private_folder(files::parent(into)).map_err(|error| path_failure(&error))?;
    // Made for its owner alone before there is anything in it.
    files::write_with_mode(into, b"", 0o600).map_err(|error| path_failure(&error))?;
    postgres::run_client(&*hands.io.exec, &postgres::dump_archive(&clients, &address, into), context.stop)
        .map_err(failed)?;
    files::set_mode(into, 0o600).map_err(|error| path_failure(&error))?;
    let bytes = files::size(into).map_err(|error| path_failure(&error))?;
    Ok(json!({ "bytes": bytes, "client": clients.version }))
}

/// Says which tables the files of an export hold.
pub(crate) fn tables_of_files(
    files: Vec<ExportedFile>,
    facts: &PostgresFacts,
    format: ExportFormat,
    only: &[String],
) -> Vec<ExportedFile> {
    let named = |path: &str, title: &String| path.rsplit('/').next() == Some(table_file(title).as_str());
    let rows = || facts.tables.iter().map(|(title, table)| (title.clone(), table.rows.rows));
    let told = |file: ExportedFile| match format {
        ExportFormat::Csv => match rows().find(|(title, _)| named(&file.path, title)) {
            Some((title, rows)) => ExportedFile { table: Some(title), rows: Some(rows), ..file },
            None => file,
        },
        ExportFormat::Sql | ExportFormat::Custom if only.is_empty() => {
            ExportedFile { tables: Some(rows().collect()), ..file }
        }
        ExportFormat::Sql | ExportFormat::Custom | ExportFormat::Sqlite => file,
    };
    files.into_iter().map(told).collect()
}
