//! The shipped examples: each is right, the long one has every setting, the documentation holds it, and none of what they
//! are about is in the code.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use lifeboat::{cli::ConfigCommand, settings, wire};
use lifeboat_engine::Unwatched;
use lifeboat_io::Stop;
use lifeboat_model::{BackupChoice, BackupReason, ExitCode, OperationState, Request};
use serde_json::Value;

use crate::world::{World, workspace};

const APPS: &[&str] = &["collisionos", "hotdash", "service-center", "atomic-crm", "learnplay"];

/// A file of its own; or a folder with an app in it.
fn example(name: &str) -> PathBuf {
    let folder = workspace().join("examples");
    let file = folder.join(format!("{name}.toml"));
    if file.exists() { file } else { folder.join(name).join("lifeboat.toml") }
}

#[test]
fn every_shipped_example_is_right() {
    for app in APPS {
        let mut world = World::new();
        let name = if *app == "atomic-crm" { "DATABASE_URL_PRODUCTION" } else { "SUPABASE_DB_URL" };
        world.var(name, "postgres://postgres@localhost/postgres");
        world.global.config = Some(example(app));
        let (code, told) = world.config(ConfigCommand::Check);
        assert_eq!(code.unwrap_or_else(|failure| panic!("{failure}")), ExitCode::Ok);
        assert!(told.contains(&format!("is right: {app}, ")), "{told}");
        assert_eq!(world.config(ConfigCommand::Show).0.unwrap(), ExitCode::Ok);
    }
    let shipped = std::fs::read_dir(workspace().join("examples")).unwrap().count();
    assert_eq!(shipped, APPS.len(), "each example is in this list");
}

#[test]
fn collisionos_shows_its_database_and_tables() {
    let mut world = World::new();
    world.var("SUPABASE_DB_URL", "postgres://postgres@localhost/postgres");
    world.global.config = Some(example("collisionos"));
    let (_, told) = world.json().config(ConfigCommand::Show);
    let document: Value = serde_json::from_str(&told).unwrap();
    let values = document["environments"][0]["values"].as_array().unwrap();
    let value =
        |key: &str| values.iter().find(|value| value["key"] == key).unwrap()["value"].as_str().unwrap().to_owned();
    assert!(value("resources.db.path").ends_with("/database.sqlite"));
    assert_eq!(value("resources.db.stop"), "pm2 stop collision-os");
    // BKP-07: the document's three lines of cron.
    let times = ["backup", "retention", "copy"].map(|job| value(&format!("schedule.{job}")));
    assert_eq!(times, ["0 2 * * *", "0 3 * * *", "0 4 * * *"]);
    assert!(value("resources.db.send_to").ends_with("/backups/collision-os-YYYYMMDD.sqlite"));
    let tables = format!("{} {}", value("resources.db.critical_tables"), value("resources.db.may_be_empty"));
    assert_eq!(tables, "customers vehicles repair_orders parts purchase_orders");
}

#[test]
fn the_long_example_has_every_setting() {
    let path = workspace().join("lifeboat.example.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    settings::check(&text, workspace()).unwrap_or_else(|problems| panic!("{problems:#?}"));
    let example: Value = serde_json::to_value(text.parse::<toml::Table>().unwrap()).unwrap();
    let (mut all, mut shown) = (BTreeSet::new(), BTreeSet::new());
    compare(settings::schema().as_value(), &[&example], "", &mut all, &mut shown);
    let missing: Vec<&String> = all.difference(&shown).collect();
    assert!(missing.is_empty(), "lifeboat.example.toml does not show: {missing:#?}");
}

/// Collects all settings, and those that stand in some place. What an environment says for itself is the same setting as
/// what is said for all.
fn compare(schema: &Value, places: &[&Value], at: &str, all: &mut BTreeSet<String>, shown: &mut BTreeSet<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let inside: Vec<&Value> = places.iter().filter_map(|place| place.get(name)).collect();
        let path = format!("{at}{name}");
        let own = path.strip_prefix("environments.*.").filter(|rest| rest.contains('.')).unwrap_or(&path);
        // A copy's retention is the same setting too, and so is its password.
        let copy = own.strip_prefix("vault.copies.*.");
        let own = match copy.and_then(|rest| rest.split_once('.')) {
            Some(("keep", rest)) => format!("keep.{rest}"),
            Some(("password", rest)) => format!("vault.password.{rest}"),
            Some(_) | None => own.to_owned(),
        };
        // Where a secret is to be found is said in the same way everywhere.
        let own = match own.rsplit_once('.') {
            Some((place, way)) if place.ends_with(".password") || place.ends_with(".url_from") => {
                format!("vault.password.{way}")
            }
            Some(_) | None => own,
        };
        if !inside.is_empty() {
            shown.insert(own.clone());
        }
        all.insert(own);
        compare(property, &inside, &format!("{path}."), all, shown);
    }
    if schema["additionalProperties"].is_object() {
        let inside: Vec<&Value> = places.iter().flat_map(|place| place.as_object().unwrap().values()).collect();
        compare(&schema["additionalProperties"], &inside, &format!("{at}*."), all, shown);
    }
}

#[test]
fn the_documentation_holds_the_long_example() {
    let example = std::fs::read_to_string(workspace().join("lifeboat.example.toml")).unwrap();
    let document = std::fs::read_to_string(workspace().join("docs/settings.md")).unwrap();
    let (_, rest) = document.split_once("```toml lifeboat.example.toml\n").expect("the block of the example");
    let (block, _) = rest.split_once("```\n").unwrap();
    assert!(
        block == example,
        "docs/settings.md: put lifeboat.example.toml into its block `toml lifeboat.example.toml`"
    );
}

/// CFG-02: what belongs to one app is in its settings, never in the code.
#[test]
fn nothing_of_one_app_is_in_the_code() {
    let words = [
        "task_templates",
        "service_ticket",
        "repair_orders",
        "purchase_orders",
        "hotdash",
        "collisionos",
        "collision-os",
        "atomic-crm",
        "atomiccrm",
        "learnplay",
        "course_versions",
        "org-config",
        "is_principal",
        "SHOPIFY",
        "CHATWOOT",
        "service-center",
    ];
    let mut found = Vec::new();
    let mut seen = 0;
    for krate in std::fs::read_dir(workspace().join("crates")).unwrap() {
        look(&krate.unwrap().path().join("src"), &words, &mut found, &mut seen);
    }
    assert!(seen > 30, "only {seen} files were looked at");
    assert!(found.is_empty(), "{found:#?}");
}

fn look(folder: &Path, words: &[&str], found: &mut Vec<String>, seen: &mut usize) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            look(&path, words, found, seen);
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            *seen += 1;
            let named = words.iter().filter(|word| text.contains(**word));
            found.extend(named.map(|word| format!("{}: {word}", path.display())));
        }
    }
}

/// CFG-01: a sixth app, made up here, is backed up, proven and restored without a line of code for it.
#[test]
fn a_made_up_sixth_app_works() {
    let mut world = World::with(
        "version = 1\n[app]\nname = \"greenhouse\"\n[vault]\nlocation = \"./elsewhere/vault\"\n[budgets]\nrestore = \"5m\"\n\
         [environments.field.resources.sensors]\nkind = \"sqlite\"\npath = \"./data/sensors.dat\"\ncritical_tables = [\"orders\"]\n\
         checks.some = { sql = \"select count(*) from orders\", min = 2 }\n\
         [environments.field.resources.photos]\nkind = \"files\"\npath = \"./photos\"\nexclude = [\"*.tmp\"]\n",
    );
    world.var("LIFEBOAT_VAULT_PASSWORD", "correct horse");
    let database = world.database("data/sensors.dat");
    world.write("photos/one.jpg", "a picture");
    let resolved = world.resolve(&[]).unwrap();
    let engine = wire::engine(&resolved, &world.io).unwrap();
    let perform = |request: Request| {
        let plan = engine.plan(&request).unwrap_or_else(|failure| panic!("{failure}"));
        let operation =
            engine.run(&plan, "tester", &Unwatched, &Stop::default()).unwrap_or_else(|error| panic!("{error}"));
        assert!(matches!(operation.state, OperationState::Done), "{:?}", operation.state);
    };
    perform(Request::Backup { resources: Vec::new(), reason: BackupReason::Manual, label: None });
    perform(Request::Prove { backup: BackupChoice::Latest, resources: Vec::new() });
    std::fs::write(&database, "ruined").unwrap();
    let sensors =
        resolved.setup.resources.iter().find(|resource| resource.name.as_str() == "sensors").unwrap().name.clone();
    perform(Request::Restore {
        resource: sensors,
        from: BackupChoice::Latest,
        into: None,
        tablespaces: std::collections::BTreeMap::new(),
        without_emergency_backup: None,
        accept_loss: lifeboat_model::AcceptLoss::Shown,
        urgent: None,
        ack: None,
    });
    let rows: i64 = rusqlite::Connection::open(&database)
        .unwrap()
        .query_row("SELECT count(*) FROM orders", [], |row| row.get(0))
        .unwrap();
    assert_eq!(rows, 2);
}
