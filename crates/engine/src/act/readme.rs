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

/// How a PostgreSQL database comes back with `psql` and nothing else. `%` in the names of files stands for what no file
/// name can have; the first line of each part is no header: the columns are in `manifest.json`.
pub(crate) fn postgres(name: &lifeboat_model::ResourceName, folder: &str) -> String {
    let folder = quote(folder);
    format!(
        "\n# {name}: roles first (psql -f {folder}/globals.sql, as a superuser), then a new database\n\
         createdb restored\n\
         psql -v ON_ERROR_STOP=1 -d restored -f {folder}/pre-data.sql\n\
         python3 - {folder} <<'END' | psql -v ON_ERROR_STOP=1 -d restored\n\
         import json, sys\n\
         manifest = json.load(open(sys.argv[1] + '/../../manifest.json'))\n\
         facts = next(r for r in manifest['resources'] if r['name'] == '{name}')\n\
         for table, about in facts['tables'].items():\n\
         \x20   for part in about['parts']:\n\
         \x20       if about['columns']: print('\\\\copy %s (%s) FROM %s' % (table, ', '.join(about['columns']), sys.argv[1] + '/' + part['path']))\n\
         for sequence, at in facts['sequences'].items():\n\
         \x20   print(\"SELECT setval('%s', %d, %s);\" % (sequence.replace(\"'\", \"''\"), at['last_value'], 'true' if at['is_called'] else 'false'))\n\
         END\n\
         psql -v ON_ERROR_STOP=1 -d restored -f {folder}/post-data.sql\n"
    )
}
