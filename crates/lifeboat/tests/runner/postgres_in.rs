//! `lifeboat backups adopt` for PostgreSQL: dumps that others made become backups, or nothing at all.

use std::{path::Path, process::Command};

use lifeboat_model::ExitCode;
use lifeboat_testkit::postgres::{Server, client_programs};

use crate::{
    home::{Home, Ran},
    postgres::{run, shop},
    postgres_out::{around, content},
};

/// A dump as somebody's script would make it, by the clients of that version.
fn pg_dump(server: &Server, clients: u32, words: &[&str], to: &Path) {
    let mut command = Command::new(client_programs(clients).join("pg_dump"));
    command.env("PGHOST", server.socket_folder()).env("PGPORT", server.port.to_string()).env("PGUSER", "postgres");
    let output = command.args(words).arg("-f").arg(to).arg("shop").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn adopt(home: &Home, name: &str, file: &str, more: &[&str]) -> Ran {
    run(home, &[&["backups", "adopt", file, "--for", name, "--vault", "./vault"], more].concat())
}

fn backups(home: &Home, name: &str) -> Vec<serde_json::Value> {
    let told = run(home, &["backups", "list", "--for", name, "--vault", "./vault", "--json"]).ends(ExitCode::Ok).json();
    told["backups"].as_array().unwrap().clone()
}

fn databases(server: &Server) -> String {
    server.sql(
        "postgres",
        "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database WHERE datname LIKE '%shop%'",
    )
}

/// BKP-29, RST-04: every form of a dump becomes a backup that is like all others, and a restore of it is nothing but it.
#[test]
fn rst_04_a_dump_of_any_form_is_adopted_and_what_it_lacks_is_gone_after_its_restore() {
    let (home, server) = (Home::bare(), shop(15));
    let name = format!("postgres:{}", server.url("shop"));
    let was = (content(&server, "shop"), around(&server, "shop"));
    pg_dump(&server, 15, &[], &home.path("cloud_backup_20251104_143000.sql"));
    pg_dump(&server, 18, &["--clean", "--create"], &home.path("new_20251104_143001.sql"));
    pg_dump(&server, 16, &["-Fc"], &home.path("custom-20251104-143002.dump"));
    pg_dump(&server, 15, &["-Fd"], &home.path("folder-20251104-143003"));
    pg_dump(&server, 15, &["-Ft"], &home.path("tar-20251104-143004.tar"));
    pg_dump(&server, 15, &["--inserts", "--disable-triggers"], &home.path("inserts-20251104-143005.sql"));
    pg_dump(&server, 15, &[], &home.path("packed-20251104-143006.sql"));
    assert!(Command::new("gzip").arg(home.path("packed-20251104-143006.sql")).status().unwrap().success());
    server.sql("shop", "CREATE TABLE task_templates (id int); DELETE FROM orders WHERE id > 10");
    for (file, said) in [
        ("cloud_backup_20251104_143000.sql", "is left alone"),
        ("new_20251104_143001.sql", "about roles, databases, tablespaces or the server are left out"),
        ("custom-20251104-143002.dump", "adopt only what you trust"),
        ("folder-20251104-143003", ""),
        ("tar-20251104-143004.tar", ""),
        ("inserts-20251104-143005.sql", ""),
        ("packed-20251104-143006.sql.gz", ""),
    ] {
        adopt(&home, &name, file, &[]).ends(ExitCode::Ok).says(&[said]);
    }
    let all = backups(&home, &name);
    assert_eq!(all.len(), 7);
    assert!(all.iter().all(|one| one["reason"] == "adopted"), "{all:?}");
    assert_eq!(all[0]["recovery_point"], "2025-11-04T14:30:06Z");
    assert_eq!(databases(&server), "shop");
    // All hold the same, whatever form it came in.
    for other in &all[1..] {
        let ids = [all[0]["id"].as_str().unwrap(), other["id"].as_str().unwrap()];
        let words = ["backups", "diff", ids[0], ids[1], "--for", &name, "--vault", "./vault", "--json"];
        let diff = run(&home, &words).ends(ExitCode::Ok).json();
        let text = diff.to_string();
        assert!(!text.contains("public.orders") && !text.contains("public.customers"), "{ids:?} {text}");
    }
    run(&home, &["prove", "--for", &name, "--vault", "./vault"]).ends(ExitCode::Ok).says(&["usable"]);
    let restore =
        ["restore", "shop", "--for", &name, "--vault", "./vault", "--accept-loss", "any", "--confirm", "shop/local"];
    run(&home, &restore).ends(ExitCode::Ok);
    assert_eq!((content(&server, "shop"), around(&server, "shop")), was);
    assert_eq!(server.sql("shop", "SELECT to_regclass('task_templates') IS NULL"), "t");
}

/// RST-03, D-28: the first error ends it; nothing is in the vault, nothing is left on the server, what is live is as it was.
#[test]
fn rst_03_a_bad_statement_in_the_middle_ends_it_and_changes_nothing() {
    let (home, server) = (Home::bare(), shop(15));
    let name = format!("postgres:{}", server.url("shop"));
    let was = (content(&server, "shop"), around(&server, "shop"));
    pg_dump(&server, 15, &[], &home.path("good.sql"));
    let good = std::fs::read_to_string(home.path("good.sql")).unwrap();
    let (head, tail) = good.split_at(good.find("-- Name: orders orders_pkey").unwrap());
    let with = |line: &str| format!("{head}\n{line}\n{tail}");
    let marker = home.path("ran");
    let shell = format!("\\! touch {}", marker.display());
    let program = format!("COPY orders FROM PROGRAM 'touch {}';", marker.display());
    for (line, said) in [
        ("THIS IS NOT SQL;", &["syntax error", "run line", "damaged, or was written for another version"][..]),
        ("SELECT * FROM nowhere;", &["does not exist", "run the app's migrations first and then load the data alone"]),
        (
            "INSERT INTO public.orders (id, customer, cents) VALUES (1, 1, 1), (1, 1, 1); CREATE UNIQUE INDEX twice ON public.orders (id);",
            &["is duplicated", "restore into an empty database"],
        ),
        ("CREATE EXTENSION nobody_has_it;", &["nobody_has_it", "install the extension's package"]),
        ("SET ROLE nobody_is_it;", &["nobody_is_it", "create the role first"]),
        ("ALTER TABLE public.orders ADD CHECK (cents > 100);", &["is violated", "break a rule"]),
        ("SELECT pg_catalog.pg_read_file('/etc/nothing-of-the-kind');", &["run line"]),
        (&shell, &["is a command of psql that is not carried out: \\!"]),
        (&program, &["starts a program on the server"]),
        ("\\connect one\nCREATE TABLE public.a (b int);\n\\connect two", &["second database, two"]),
    ] {
        home.write("bad.sql", with(line));
        let ran = adopt(&home, &name, "bad.sql", &["--at", "2025-11-04"]);
        assert_ne!(ran.code, Some(0), "{line}");
        ran.says(said);
        assert!(!marker.exists(), "{line}");
        assert_eq!(databases(&server), "shop", "{line}");
    }
    assert_eq!((content(&server, "shop"), around(&server, "shop")), was);
    assert_eq!(backups(&home, &name).len(), 0);
}

/// What is known not to matter is left out and told: owners that are not here, lines for a newer psql, removals.
#[test]
fn rst_17_owners_that_are_not_here_and_lines_of_newer_programs_are_no_obstacle() {
    let (home, server) = (Home::bare(), shop(15));
    server.sql("shop", "CREATE ROLE gone; ALTER TABLE orders OWNER TO gone; CREATE ROLE maker LOGIN CREATEDB");
    pg_dump(&server, 18, &["--clean", "--create"], &home.path("old.sql"));
    let dump = std::fs::read_to_string(home.path("old.sql")).unwrap();
    assert!(dump.contains("\\restrict ") && dump.contains("SET transaction_timeout"), "the noise is there");
    server.sql("shop", "ALTER TABLE orders OWNER TO postgres; DROP ROLE gone");
    // As a role that may do little: make databases.
    let name = format!("postgres:{}", server.url_as("maker", "shop"));
    let ran = adopt(&home, &name, "old.sql", &["--at", "2025-11-04"]).ends(ExitCode::Ok);
    ran.says(&["about owners and grants are left out"]);
    let all = backups(&home, &name);
    let id = all[0]["id"].as_str().unwrap();
    run(&home, &["backups", "show", id, "--for", &name, "--vault", "./vault"]).ends(ExitCode::Ok).says(&["5000"]);
}

/// D-26: a schema alone is no backup.
#[test]
fn a_dump_of_the_schema_alone_is_refused() {
    let (home, server) = (Home::bare(), shop(15));
    let name = format!("postgres:{}", server.url("shop"));
    pg_dump(&server, 15, &["-s"], &home.path("schema.sql"));
    pg_dump(&server, 15, &["-s", "-Fc"], &home.path("schema.dump"));
    pg_dump(&server, 15, &["-a"], &home.path("rows.sql"));
    pg_dump(&server, 15, &["-T", "customers"], &home.path("part.sql"));
    for file in ["schema.sql", "schema.dump"] {
        let ran = adopt(&home, &name, file, &[]).ends(ExitCode::FailedUndone);
        ran.says(&["a dump of the schema alone", "supabase db dump"]);
    }
    adopt(&home, &name, "rows.sql", &[]).says(&["does not exist", "migrations first"]);
    adopt(&home, &name, "part.sql", &[]).says(&["customers", "does not exist"]);
    assert_eq!((backups(&home, &name).len(), databases(&server).as_str()), (0, "shop"));
}

/// What was cut is refused, and nothing of it is kept.
#[test]
fn a_dump_that_was_cut_is_refused_and_nothing_of_it_is_kept() {
    let (home, server) = (Home::bare(), shop(15));
    let name = format!("postgres:{}", server.url("shop"));
    pg_dump(&server, 15, &[], &home.path("whole.sql"));
    pg_dump(&server, 16, &["-Fc"], &home.path("whole.dump"));
    let text = std::fs::read(home.path("whole.sql")).unwrap();
    let packed = Command::new("gzip").arg("-c").arg(home.path("whole.sql")).output().unwrap().stdout;
    let archive = std::fs::read(home.path("whole.dump")).unwrap();
    let within_rows = String::from_utf8_lossy(&text).find("COPY public.orders").unwrap() + 500;
    let last_line = text.windows(30).rposition(|window| window.starts_with(b"-- PostgreSQL database dump co")).unwrap();
    for (file, bytes, said) in [
        ("rows.sql", &text[..within_rows], "ends in the middle of a table's rows"),
        ("end.sql", &text[..last_line], "the line that ends every dump is missing"),
        ("packed.sql.gz", &packed[..packed.len() / 2], "packed.sql.gz"),
        ("archive.dump", &archive[..archive.len() / 2], "archive.dump"),
        ("contents.dump", &archive[..200], "contents.dump"),
        ("empty.sql", b"", "it is empty"),
        ("zip.sql", b"PK\x03\x04....", "unzip"),
        ("binary.sql", b"abc\0def", "holds bytes that no text has"),
        ("nothing.sql", b"SELECT 1;\n", "makes no table"),
    ] {
        std::fs::write(home.path(file), bytes).unwrap();
        let ran = adopt(&home, &name, file, &[]);
        assert!(
            ran.code == Some(ExitCode::Damaged as i32)
                || ran.code == Some(ExitCode::Refused as i32)
                || ran.code == Some(1),
            "{file} {:?}",
            ran.code
        );
        ran.says(&[said]);
    }
    assert_eq!((backups(&home, &name).len(), databases(&server).as_str()), (0, "shop"));
}

/// BKP-29: dumps that lie where scripts leave them are listed, with what takes each in; and one is loaded on a server of its own,
/// so that the live one has no database more for a moment.
#[test]
fn bkp_29_dumps_that_lie_about_are_listed_and_are_loaded_on_another_server() {
    let (home, server, scratch) = (Home::bare(), shop(15), Server::start(16));
    let url = |server: &Server, database: &str| {
        let folder = server.socket_folder().display().to_string().replace('/', "%2F");
        format!("postgres://postgres@:{}/{database}?host={folder}", server.port)
    };
    home.write(
        "lifeboat.toml",
        format!(
            "version = 1\n[app]\nname = \"shop\"\n[vault]\nlocation = \"./vault\"\n[environments.production.resources.db]\nkind = \"postgres\"\nurl = \"{}\"\n",
            url(&server, "shop")
        ),
    );
    std::fs::create_dir_all(home.path("backups/migrations")).unwrap();
    pg_dump(&server, 15, &[], &home.path("backups/migrations/cloud_backup_20251104_143000.sql"));
    pg_dump(&server, 15, &["-Fd"], &home.path("backups/shop-20251105-143000"));
    home.write("backups/notes.txt", "nothing of a database");
    let list = || run(&home, &["backups", "list", "-e", "production", "--json"]).ends(ExitCode::Ok).json();
    let told = list();
    let strays: Vec<(String, String, String)> = told["unmanifested"]
        .as_array()
        .unwrap()
        .iter()
        .map(|stray| {
            let word = |name: &str| stray[name].as_str().unwrap_or_default().to_owned();
            (word("path").rsplit('/').next().unwrap().to_owned(), word("kind"), word("adopt_for"))
        })
        .collect();
    let stray = |name: &str, kind: &str| (name.to_owned(), kind.to_owned(), "db".to_owned());
    assert_eq!(strays, [stray("shop-20251105-143000", "archive"), stray("cloud_backup_20251104_143000.sql", "sql")]);
    let before = databases(&server);
    let file = "backups/migrations/cloud_backup_20251104_143000.sql";
    let somewhere = format!("postgres:{}", url(&scratch, "postgres"));
    let adopt = ["backups", "adopt", file, "--for", "db", "-e", "production", "--server", &somewhere];
    let shown = run(&home, &[&adopt[..], &["--dry-run"]].concat()).ends(ExitCode::Ok);
    shown.says(&[&scratch.port.to_string()]);
    run(&home, &adopt).ends(ExitCode::Ok);
    assert_eq!((databases(&server), databases(&scratch).as_str()), (before, ""), "nothing is left on either");
    let told = list();
    assert_eq!(told["backups"].as_array().unwrap().len(), 1);
    assert_eq!(told["unmanifested"].as_array().unwrap().len(), 1);
    let out = ["export", "db", "-e", "production", "--format", "custom", "--to", "shop.dump", "--server", &somewhere];
    run(&home, &out).ends(ExitCode::Ok);
    assert!(home.path("shop.dump").exists() && databases(&scratch).is_empty());
}
