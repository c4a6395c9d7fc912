//! `lifeboat export`.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use lifeboat_model::ExitCode;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::home::{Home, collect};

/// A shop whose database holds every storage class, with files and an env file beside it.
fn shop() -> Home {
    let home = Home::bare();
    home.write(
        "lifeboat.toml",
        "version = 1\n[app]\nname = \"shop\"\n[vault]\nlocation = \"./vault\"\n\
         password = { env = \"LIFEBOAT_VAULT_PASSWORD\" }\n[environments.local.resources]\n\
         db = { kind = \"sqlite\", path = \"./shop.db\" }\nuploads = { kind = \"files\", path = \"./uploads\" }\n\
         env = { kind = \"env\", path = \"./.env\" }\n",
    );
    std::fs::create_dir_all(home.path("uploads/2026")).unwrap();
    home.write("uploads/2026/it's \"odd\"\n.txt", "hello");
    home.write(".env", "API_KEY=sk_live_x\n");
    home.db()
        .execute_batch(
            "CREATE TABLE mix (id INTEGER PRIMARY KEY, what);
             INSERT INTO mix (what) VALUES (NULL), (''), ('NULL'), ('a \"b\",c' || char(13, 10) || 'd' || char(10)), (-7), (0.1),
                                           (1e300), (x'00ff'), (x''), ('\\x00'), ('42'), ('🦀');
             CREATE INDEX by_what ON mix (what);
             CREATE TRIGGER loud AFTER INSERT ON mix BEGIN INSERT INTO mix (what) VALUES ('trigger'); END;
             DROP TRIGGER loud; PRAGMA user_version = 7;",
        )
        .unwrap();
    home.run(&["backup"]).ends(ExitCode::Ok);
    home
}

fn document(folder: &Path) -> Value {
    let told: Value = serde_json::from_slice(&std::fs::read(folder.join("export.json")).unwrap()).unwrap();
    assert_eq!(told["schema"], "lifeboat/export@1");
    told
}

/// Everything below a folder is described in its document, with its true size and hash, and nothing else is.
fn must_be_as_described(folder: &Path) {
    let mut found = Vec::new();
    collect(folder, &mut found);
    let mut told: Vec<(PathBuf, String, u64)> = vec![];
    for resource in document(folder)["resources"].as_array().unwrap() {
        for file in resource["files"].as_array().unwrap() {
            let text = |key: &str| file[key].as_str().unwrap().to_owned();
            told.push((folder.join(text("path")), text("sha256"), file["bytes"].as_u64().unwrap()));
        }
    }
    told.sort();
    let mut found: Vec<_> =
        found.into_iter().map(|(path, body)| (path, hex(&Sha256::digest(&body)), body.len() as u64)).collect();
    found.retain(|(path, ..)| path != &folder.join("export.json"));
    found.sort();
    assert_eq!(told, found);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn sqlite3(database: &Path, script: &str) -> String {
    let output = Command::new("sqlite3").arg("-bail").arg(database).arg(script).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// EXP-06, EXP-11.
#[test]
fn everything_comes_out_for_its_owner_alone_and_can_be_used_as_it_is() {
    let home = shop();
    let ran = home.run(&["export", "--all", "--to", "./out"]).ends(ExitCode::Ok).says(&["personal data"]);
    assert!(ran.err.contains("warning:"), "{}", ran.err);
    let out = home.path("out");
    must_be_as_described(&out);
    assert_eq!((mode(&out), mode(&out.join("export.json")), mode(&out.join("db/shop.db"))), (0o700, 0o600, 0o600));
    assert_eq!(mode(&out.join("env/.env")), 0o600);
    assert_eq!(std::fs::read_to_string(out.join("env/.env")).unwrap(), "API_KEY=sk_live_x\n");
    assert_eq!(std::fs::read(out.join("uploads/uploads/2026/it's \"odd\"\n.txt")).unwrap(), b"hello");
    let told = document(&out);
    assert_eq!(told["resources"][0]["files"][0]["tables"]["orders"], 40);
    // Put where the app expects it, a new backup of it says the same of every table.
    let digests = |id: &str| {
        let shown = home.run(&["backups", "show", id, "--json"]).ends(ExitCode::Ok).json();
        let parts = shown["manifest"]["resources"].as_array().unwrap().clone();
        parts.into_iter().find(|part| part["name"] == "db").unwrap()["tables"].clone()
    };
    let backup = told["resources"][0]["backup"].as_str().unwrap().to_owned();
    std::fs::remove_file(home.path("shop.db")).unwrap();
    std::fs::copy(out.join("db/shop.db"), home.path("shop.db")).unwrap();
    assert_eq!(digests(&home.backup()), digests(&backup));
}

/// EXP-07: what RFC 4180 says, with `sqlite3` as the reader.
#[test]
fn tables_come_out_as_csv_that_another_program_reads() {
    let home = shop();
    home.run(&["export", "db", "--to", "./out", "--format", "csv"]).ends(ExitCode::Ok);
    let folder = home.path("out/db");
    must_be_as_described(&home.path("out"));
    let text = std::fs::read_to_string(folder.join("mix.csv")).unwrap();
    let expected = "\"id\",\"what\"\r\n1,\r\n2,\"\"\r\n3,\"NULL\"\r\n4,\"a \"\"b\"\",c\r\nd\n\"\r\n5,-7\r\n6,0.1\r\n7,1e300\r\n\
                    8,\\x00ff\r\n9,\\x\r\n10,\"\\x00\"\r\n11,\"42\"\r\n12,\"🦀\"\r\n";
    assert_eq!(text, expected);
    // The odd table's name is made fit for a file, and the document says which is which.
    let told = document(&home.path("out"));
    let files = told["resources"][0]["files"].as_array().unwrap();
    let odd = files.iter().find(|file| file["table"] == "quote\"d\n🦀").unwrap();
    assert_eq!((odd["path"].as_str().unwrap(), &odd["rows"]), ("db/quote%22d%0A%F0%9F%A6%80.csv", &1.into()));
    // Read into an empty database made from the exported schema, every row is there again.
    let copy = home.path("copy.db");
    sqlite3(&copy, &std::fs::read_to_string(folder.join("schema.sql")).unwrap());
    for (table, file) in [("orders", "orders.csv"), ("mix", "mix.csv"), ("empty", "empty.csv")] {
        let import = format!(".import --csv --skip 1 {} {table}", folder.join(file).display());
        sqlite3(&copy, &import);
    }
    sqlite3(&copy, &std::fs::read_to_string(folder.join("schema-after.sql")).unwrap());
    let all = |path: &Path| sqlite3(path, "SELECT id, quote(what), quote(created_at) FROM orders ORDER BY id");
    assert_eq!(all(&copy), all(&home.path("shop.db")));
    assert_eq!(sqlite3(&copy, "PRAGMA user_version; SELECT count(*) FROM empty"), "7\n0\n");
    // `sqlite3` does not look at quotes: NULL and the empty text are one to it, and everything is text.
    let loose = "SELECT id, quote(CASE WHEN typeof(what) = 'blob' THEN '\\x' || lower(hex(what)) ELSE coalesce(what, '') || '' END)
                 FROM mix ORDER BY id";
    let texts = |path: &Path| sqlite3(path, loose).replace("1.0e+300", "1e300");
    assert_eq!(texts(&copy), texts(&home.path("shop.db")));
    let objects =
        |path: &Path| sqlite3(path, "SELECT type, name FROM sqlite_schema WHERE type <> 'table' ORDER BY 1, 2");
    assert_eq!(objects(&copy), objects(&home.path("shop.db")));
}

/// EXP-03 for one database: exactly the tables that were named.
#[test]
fn only_the_named_tables_come_out() {
    let home = shop();
    let export = ["export", "db", "--to", "./out", "--format", "csv", "--table"];
    home.run(&[&export[..], &["ORDERS"]].concat()).ends(ExitCode::Ok);
    let names: Vec<_> = std::fs::read_dir(home.path("out/db")).unwrap().map(|one| one.unwrap().file_name()).collect();
    assert_eq!(names, ["orders.csv"]);
    let other = ["export", "db", "--to", "./other", "--format", "csv", "--table", "order"];
    home.run(&other).ends(ExitCode::Usage).says(&["no table of the backup is called \"order\"", "orders"]);
    home.run(&["export", "db", "--to", "./other", "--table", "orders"]).ends(ExitCode::Usage).says(&["--format csv"]);
    assert!(!home.path("other").exists());
}

#[test]
fn the_backup_is_chosen_as_for_a_restore() {
    let (home, first) = Home::protected();
    home.sell(5);
    home.backup();
    let rows = |folder: &str| document(&home.path(folder))["resources"][0]["files"][0]["tables"]["orders"].clone();
    home.run(&["export", "db", "--to", "./old", "--from", &first]).ends(ExitCode::Ok);
    home.run(&["export", "db", "--to", "./new"]).ends(ExitCode::Ok);
    assert_eq!((rows("old"), rows("new")), (40.into(), 45.into()));
    home.run(&["export", "db", "--to", "./none", "--before", "2020-01-01"])
        .ends(ExitCode::Refused)
        .says(&["from before"]);
}

#[test]
fn nothing_is_written_over_and_nothing_half_made_stays() {
    let (home, id) = Home::protected();
    std::fs::create_dir(home.path("mine")).unwrap();
    home.write("mine/file", "mine");
    let before = home.everything();
    home.run(&["export", "db", "--to", "./mine"]).ends(ExitCode::Refused).says(&["exists already"]);
    home.run(&["export", "db", "--to", "./no/such/folder"]).ends(ExitCode::Refused).says(&["there is no folder"]);
    home.run(&["export", "--to", "./out"]).ends(ExitCode::Usage);
    home.run(&["export", "db", "--all", "--to", "./out"]).ends(ExitCode::Usage);
    home.run(&["export", "nothing", "--to", "./out"]).ends(ExitCode::Usage);
    home.run(&["export", "db", "--to", "./out", "--dry-run"]).ends(ExitCode::Ok).says(&["Nothing was changed."]);
    assert!(home.everything() == before, "an export that was refused changed a file");
    // Damage in the vault is found before a folder gets its name.
    let mut packs = Vec::new();
    collect(&home.path("vault/data"), &mut packs);
    for (path, body) in packs {
        let mut body = body;
        let middle = body.len() / 2;
        body[middle] ^= 1;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, body).unwrap();
    }
    let ran = home.run(&["export", "db", "--to", "./out", "--from", &id]);
    assert!(![Some(0), Some(2)].contains(&ran.code), "{ran:?}");
    let left: Vec<_> = std::fs::read_dir(home.app()).unwrap().map(|one| one.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("out")), "{left:?}");
}

#[test]
fn exp_11_an_encrypted_export_is_read_with_the_key_and_by_nobody_else() {
    let (home, _backup) = Home::protected();
    let age = |program: &str, arguments: &[&str]| {
        let ran = std::process::Command::new(program).args(arguments).current_dir(home.app()).output();
        ran.unwrap_or_else(|error| panic!("{program} is needed: {error}"))
    };
    let public = |name: &str| {
        let made = age("age-keygen", &["-o", name]);
        assert!(made.status.success(), "{made:?}");
        let text = std::fs::read_to_string(home.path(name)).unwrap();
        text.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap().to_owned()
    };
    let (key, _other) = (public("key.txt"), public("other.txt"));
    home.run(&["export", "db", "--to", "out", "--encrypt", &key])
        .ends(ExitCode::Ok)
        .says(&["Only who has the secret key"]);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(home.path("out")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o700);
    let mut files = Vec::new();
    crate::home::collect(&home.path("out"), &mut files);
    let names: Vec<String> =
        files.iter().map(|(path, _)| path.strip_prefix(home.path("out")).unwrap().display().to_string()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    for (path, body) in &files {
        let clear = path.ends_with("README.txt");
        assert_eq!(body.starts_with(b"age-encryption.org/v1"), !clear, "{}", path.display());
    }
    assert!(!age("age", &["-d", "-i", "other.txt", "-o", "no.db", "out/db/shop.db.age"]).status.success());
    assert!(age("age", &["-d", "-i", "key.txt", "-o", "back.db", "out/db/shop.db.age"]).status.success());
    let back = rusqlite::Connection::open(home.path("back.db")).unwrap();
    assert_eq!(back.query_row("SELECT count(*) FROM orders", [], |row| row.get::<_, u32>(0)).unwrap(), 40);
    let left = std::fs::read_dir(home.app()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(!left.into_iter().any(|name| name.contains(".lifeboat-")), "nothing in the clear stays");
    home.run(&["export", "db", "--to", "other", "--encrypt", "age1nonsense"])
        .ends(ExitCode::Usage)
        .says(&["no public key of age"]);
}
