//! `README-RESTORE.md`: how to get the data back without Lifeboat, written into every backup.

use std::fmt::Write;

use lifeboat_model::{Content, Manifest};

use crate::kit::quote;

/// The text for one backup, with its real names.
pub fn text(manifest: &Manifest) -> String {
    let mut text = format!(
        "# How to restore this backup without Lifeboat\n\n\
         Backup {} of {}, complete up to {}.\n\n\
         The vault is a restic repository (format version 2). You need `restic` 0.14 or newer, the vault's location and\n\
         its password. In place of VAULT write the folder, or `s3:https://host/bucket/path` with AWS_ACCESS_KEY_ID and\n\
         AWS_SECRET_ACCESS_KEY set.\n\n\
         ```sh\n\
         export RESTIC_REPOSITORY=VAULT\n\
         restic snapshots --tag id={}          # asks for the password\n\
         restic restore --tag id={} --target ./restored latest\n\
         ```\n",
        manifest.backup, manifest.scope, manifest.recovery_point, manifest.backup, manifest.backup,
    );
    for part in &manifest.resources {
        // Writing into a String cannot fail.
        let _ = match &part.content {
            Content::Sqlite(_) => write!(
                text,
                "\n## {} (SQLite, {} bytes)\n\n\
                 1. Stop every program that has the database open.\n\
                 2. Move the old file away together with its `-wal` and `-shm`. A `-wal` that stays behind is replayed over the\n\
                    restored file and silently brings the old state back.\n\
                 3. Put the copy in its place and look at it:\n\n\
                 ```sh\n\
                 sqlite3 {} 'PRAGMA integrity_check; PRAGMA foreign_key_check;'\n\
                 ```\n\n\
                 It was at {}. Row counts and digests of its tables are in `manifest.json`.\n",
                part.name,
                part.bytes,
                quote(&format!("./restored/{}", part.path)),
                quote(&part.origin),
            ),
            Content::Files(facts) => write!(
                text,
                "\n## {} ({} files, {} bytes)\n\nCopy {} back to {}.\n",
                part.name,
                facts.files,
                part.bytes,
                quote(&format!("./restored/{}", part.path)),
                quote(&part.origin),
            ),
            Content::Env(_) => write!(
                text,
                "\n## {} (environment file)\n\n```sh\ninstall -m 600 {} {}\n```\n",
                part.name,
                quote(&format!("./restored/{}", part.path)),
                quote(&part.origin),
            ),
            Content::Postgres(facts) => write!(
                text,
                "\n## {} (PostgreSQL {}, {} bytes)\n\nIt was {}. Into a new database, with `psql` alone:\n\n```sh\n{}```\n\n\
                 Rows and digests of its tables, and where its sequences stood, are in `manifest.json`.\n",
                part.name,
                facts.server_version / 10_000,
                part.bytes,
                part.origin,
                postgres(&part.name, &format!("./restored/{}", part.path)),
            ),
        };
    }
    text
}

/// How a PostgreSQL database comes back with `psql` and nothing else.
pub(crate) fn postgres(name: &lifeboat_model::ResourceName, folder: &str) -> String {
    let folder = quote(folder);
    format!(
        "\n# {name}: if its roles are not there, first: psql -f {folder}/globals.sql postgres\n\
         createdb restored\n\
         (cd {folder} && for part in pre-data data post-data; do psql -qv ON_ERROR_STOP=1 -d restored -f $part.sql; done)\n"
    )
}

/// The script that loads the rows of a captured database with `psql`, run in the folder they lie in.
pub(crate) fn data_sql(facts: &lifeboat_model::PostgresFacts) -> String {
    use std::fmt::Write;
    let literal = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let mut text = String::from(
        "-- Rows, large objects and sequences. Run it in this folder: psql -v ON_ERROR_STOP=1 -f data.sql\n",
    );
    for (table, about) in facts.tables.iter().filter(|(_, about)| !about.columns.is_empty()) {
        for part in &about.parts {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "\\copy {table} ({}) FROM {}", about.columns.join(", "), literal(&part.path));
        }
    }
    if let Some(objects) = &facts.large_objects {
        let (made, dressed): (Vec<&String>, Vec<&String>) =
            objects.statements.iter().partition(|statement| statement.starts_with("SELECT "));
        made.iter().for_each(|statement| text += &format!("{statement};\n"));
        let _ = writeln!(
            text,
            "CREATE TEMP TABLE lifeboat_objects (id oid, place bigint, bytes bytea);\n\
             \\copy lifeboat_objects FROM {}\n\
             SELECT count(pg_catalog.lo_put(id, place, bytes)) FROM lifeboat_objects;",
            literal(&objects.part.path)
        );
        dressed.iter().for_each(|statement| text += &format!("{statement};\n"));
    }
    for (sequence, at) in &facts.sequences {
        let _ = writeln!(text, "SELECT pg_catalog.setval({}, {}, {});", literal(sequence), at.last_value, at.is_called);
    }
    text
}
