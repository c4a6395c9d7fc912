//! Where a backup of a PostgreSQL database can go: another environment, another database, a server of its own.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use lifeboat_model::ExitCode;
use lifeboat_testkit::postgres::{Server, client_programs};

use crate::{
    home::{Home, Ran},
    postgres::{run, shop},
    postgres_out::{around, content},
};

/// The address as people write it.
fn url(server: &Server, database: &str) -> String {
    let folder = server.socket_folder().display().to_string().replace('/', "%2F");
    format!("postgres://postgres@:{}/{database}?host={folder}", server.port)
}

fn settings(home: &Home, production: &str, staging: &str) {
    let database = |environment: &str, url: &str| {
        format!("[environments.{environment}.resources.db]\nkind = \"postgres\"\nurl = \"{url}\"\n")
    };
    home.write(
        "lifeboat.toml",
        format!(
            "version = 1\n[app]\nname = \"shop\"\n[vault]\nlocation = \"./vault\"\n{}{}",
            database("production", production),
            database("staging", staging)
        ),
    );
}

/// RST-02, RST-13: staging gets what production had; it keeps what is its own, and production is not touched. Nobody's backup
/// is taken for another's unless that was asked for.
#[test]
fn rst_02_staging_is_restored_from_production_when_that_is_asked_for() {
    let (home, server, other) = (Home::bare(), shop(15), Server::start(15));
    server.sql("postgres", "CREATE DATABASE shop_staging; ALTER DATABASE shop_staging SET work_mem = '9MB'");
    server.sql(
        "shop_staging",
        "CREATE TABLE orders (id int); INSERT INTO orders VALUES (1), (2); CREATE TABLE task_templates (id int)",
    );
    settings(&home, &url(&server, "shop"), &url(&server, "shop_staging"));
    run(&home, &["backup", "-e", "production"]).ends(ExitCode::Ok);
    let was = (content(&server, "shop"), around(&server, "shop"));
    let identity = "SELECT oid FROM pg_database WHERE datname = 'shop'";
    let production = server.sql("postgres", identity);

    let own = run(&home, &["restore", "db", "-e", "staging", "--confirm", "shop/staging"]).ends(ExitCode::Refused);
    own.says(&["there is no backup of db in shop/staging"]);
    let from = ["restore", "db", "-e", "staging", "--from", "production"];
    let with = |more: &[&str]| run(&home, &[&from[..], more].concat());
    let shown = with(&["--dry-run"]).ends(ExitCode::Ok);
    shown.says(&["is a backup of db of shop/production", "public.task_templates", "shop_staging_before_"]);
    with(&[]).ends(ExitCode::NeedsPerson);
    with(&["--confirm", "shop/production"]).ends(ExitCode::NeedsPerson).says(&["this plan works on shop/staging"]);
    with(&["--confirm", "shop/staging"]).ends(ExitCode::Ok);
    assert_eq!((content(&server, "shop_staging"), around(&server, "shop_staging")), was);
    assert_eq!(server.sql("shop_staging", "SHOW work_mem"), "9MB", "settings of staging are its own");
    assert_eq!(server.sql("shop_staging", "SELECT to_regclass('task_templates') IS NULL"), "t");
    assert_eq!((content(&server, "shop"), server.sql("postgres", identity)), (was.0.clone(), production));
    run(&home, &["undo", "-e", "staging", "--confirm", "shop/staging"]).ends(ExitCode::Ok);
    assert_eq!(server.sql("shop_staging", "SELECT count(*) FROM orders"), "2");

    // By its id as well; and onto a server that has none of its roles.
    let told = run(&home, &["backups", "list", "-e", "production", "--json"]).ends(ExitCode::Ok).json();
    let id = told["backups"][0]["id"].as_str().unwrap().to_owned();
    settings(&home, &url(&server, "shop"), &url(&other, "staging"));
    let words = ["restore", "db", "-e", "staging", "--from", &id, "--yes"];
    run(&home, &words).ends(ExitCode::Ok).says(&["Owners and grants are left out", "keeper"]);
    assert_eq!(content(&other, "staging"), was.0);
    run(&home, &["restore", "db", "-e", "staging", "--from", "nowhere"]).ends(ExitCode::Refused);
}

/// What acts by itself in production does not in staging, although it takes the place of staging's own database.
#[test]
fn what_comes_from_another_environment_does_not_act_in_this_one() {
    let (home, server) = (Home::bare(), shop(15));
    server.sql("postgres", "CREATE DATABASE shop_staging");
    server.sql("shop_staging", "CREATE TABLE orders (id int)");
    server.sql(
        "shop",
        "CREATE FUNCTION call() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM net.http_post('https://example.org'); RETURN new; END $$;
         CREATE TRIGGER call AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION call();
         CREATE SCHEMA cron; CREATE TABLE cron.job (jobid int, active boolean); INSERT INTO cron.job VALUES (1, true)",
    );
    settings(&home, &url(&server, "shop"), &url(&server, "shop_staging"));
    run(&home, &["backup", "-e", "production"]).ends(ExitCode::Ok);
    let from = ["restore", "db", "-e", "staging", "--from", "production"];
    let shown = run(&home, &[&from[..], &["--dry-run"]].concat()).ends(ExitCode::Ok);
    shown.says(&["It comes from shop/production", "switched off"]);
    run(&home, &[&from[..], &["--confirm", "shop/staging"]].concat()).ends(ExitCode::Ok).says(&["The trigger call of"]);
    let acts = |database: &str| {
        server.sql(
            database,
            "SELECT (SELECT tgenabled FROM pg_trigger WHERE tgname = 'call'), (SELECT active FROM cron.job)",
        )
    };
    assert_eq!([acts("shop"), acts("shop_staging")], ["O|t", "D|f"]);
    // Its own backup comes back as it was.
    run(&home, &["prove", "-e", "production"]).ends(ExitCode::Ok);
    run(&home, &["restore", "db", "-e", "production", "--confirm", "shop/production"]).ends(ExitCode::Ok);
    assert_eq!(acts("shop"), "O|t");
}

/// Without settings: a database that is not there is made of the only PostgreSQL backup there is, and which one is said.
#[test]
fn a_database_that_is_not_there_is_made_of_the_only_backup_in_the_vault() {
    let (home, server) = (Home::bare(), shop(16));
    run(&home, &["backup", &url(&server, "shop"), "--vault", "./vault"]).ends(ExitCode::Ok);
    let was = (content(&server, "shop"), around(&server, "shop"));
    let name = format!("postgres:{}", url(&server, "newdb"));
    let made = run(&home, &["restore", &name, "--vault", "./vault", "--yes"]).ends(ExitCode::Ok);
    made.says(&["of shop of shop/local"]);
    assert_eq!((content(&server, "newdb"), around(&server, "newdb")), was);
    // One that is there goes through the swap.
    server.sql("newdb", "DELETE FROM orders WHERE id > 100; CREATE TABLE mine (id int)");
    let again = ["restore", &name, "--vault", "./vault"];
    run(&home, &again).ends(ExitCode::NeedsPerson);
    run(&home, &[&again[..], &["--confirm", "newdb/local"]].concat()).ends(ExitCode::Ok);
    assert_eq!(content(&server, "newdb"), was.0);
    // From now on it has a backup of its own - what was there before, which is not chosen by itself - and is still asked which.
    server.sql("postgres", "CREATE DATABASE books");
    server.sql("books", "CREATE TABLE book (id int); INSERT INTO book VALUES (1)");
    run(&home, &["backup", &url(&server, "books"), "--vault", "./vault"]).ends(ExitCode::Ok);
    let third = format!("postgres:{}", url(&server, "third"));
    let several = run(&home, &["restore", &third, "--vault", "./vault", "--yes"]).ends(ExitCode::Usage);
    several.says(&["several PostgreSQL databases", "shop of shop/local", "books of books/local", "--from BACKUP"]);
    let told = run(&home, &["backups", "list", "--for", &url(&server, "books"), "--vault", "./vault", "--json"]);
    let id = told.ends(ExitCode::Ok).json()["backups"][0]["id"].as_str().unwrap().to_owned();
    run(&home, &["restore", &third, "--vault", "./vault", "--from", &id, "--yes"]).ends(ExitCode::Ok);
    assert_eq!(server.sql("third", "SELECT count(*) FROM book"), "1");
}

/// The quick start of the documentation, line by line, as a person types it.
#[test]
fn the_quick_start_of_the_documentation_works() {
    let (home, server) = (Home::bare(), shop(15));
    let text = include_str!("../../../../docs/postgres.md");
    let block =
        text.split("## Quick start").nth(1).unwrap().split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let was = content(&server, "shop");
    let ran = shell(&home, block, &[("DATABASE_URL", url(&server, "shop")), ("COPY_URL", url(&server, "shop_copy"))]);
    ran.ends(ExitCode::Ok);
    assert_eq!((content(&server, "shop"), content(&server, "shop_copy")), (was.clone(), was));
    assert!(home.path("shop.sql.gz").exists());
}

/// Runs a script in the app's folder, with the program and its clients on its path; the first failure ends it.
fn shell(home: &Home, script: &str, variables: &[(&str, String)]) -> Ran {
    let program = Path::new(env!("CARGO_BIN_EXE_lifeboat")).parent().unwrap().to_owned();
    let usual = std::env::var_os("PATH").unwrap();
    let path = std::env::join_paths([program, client_programs(16)].into_iter().chain(std::env::split_paths(&usual)));
    let mut command = Command::new("bash");
    command.args(["-euc", script]).current_dir(home.app()).stdin(Stdio::null()).env_clear();
    let as_always = home.command(&[]);
    command.envs(as_always.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("PATH", path.unwrap());
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    home.ran(&[script], command.output().unwrap())
}
