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
        };
    }
    text
}
