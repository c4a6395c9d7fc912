//! `init` on folders of several kinds: what it finds, what it leaves out, and that it never writes over a file.

use lifeboat::{cli::ConfigCommand, settings};
use lifeboat_model::{ExitCode, FailureKind};

use crate::world::{CANARY, World};

/// The text of the file, without comments.
fn plain(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split("   #").next().unwrap().trim_end()).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_node_app_with_a_database_in_a_file() {
    let mut world = World::new();
    world.write("package.json", "{\"name\": \"@acme/shop\"}");
    world.write(".env", &format!("DATABASE_URL=\"file:./data/shop.db\"\nSTRIPE={CANARY}\n"));
    world.write(".env.example", "DATABASE_URL=postgres://x\n");
    world.write("compose.yml", "services:\n  web:\n    image: ghcr.io/acme/shop\n  cache:\n    image: redis:7\n");
    world.database("data/shop.db");
    world.database("node_modules/x/test.db");
    world.database("backups/shop-old.db");
    world.write("data/not-a-database.db", "just text, and long enough to be looked at");
    world.write("uploads/a.txt", "a");

    let (code, told) = world.init(false);
    assert_eq!(code.unwrap(), ExitCode::Ok);
    for line in [
        "protects  env (env) ./.env",
        "protects  db (sqlite) ./data/shop.db",
        "protects  uploads (files) ./uploads",
        "left out  shop-old (sqlite) ./backups/shop-old.db",
        "not yet   compose.yml runs redis: a Redis database",
        "lifeboat doctor",
    ] {
        assert!(told.contains(line), "{line} is missing:\n{told}");
    }
    let text = std::fs::read_to_string(world.path("lifeboat.toml")).unwrap();
    assert_eq!(
        plain(&text),
        "version = 1\n[app]\nname = \"shop\"\n[vault]\nlocation = \"./vault\"\npassword = { env = \"LIFEBOAT_VAULT_PASSWORD\" }\n\
         [objectives]\nrpo = \"24h\"\nproof_max_age = \"7d\"\n[environments.local.resources.env]\nkind = \"env\"\npath = \"./.env\"\n\
         [environments.local.resources.db]\nkind = \"sqlite\"\npath = \"./data/shop.db\"\n\
         [environments.local.resources.uploads]\nkind = \"files\"\npath = \"./uploads\""
    );
    assert!(text.contains("# [environments.local.resources.shop-old]"), "{text}");
    assert!(text.contains("# stop = [\"docker\", \"compose\", \"stop\"]"), "{text}");
    assert!(!text.contains(CANARY));
    assert_eq!(world.config(ConfigCommand::Check).0.unwrap(), ExitCode::Ok);

    // What it wrote, doctor passes as soon as there is a password.
    world.var("LIFEBOAT_VAULT_PASSWORD", "x");
    let (code, told) = world.doctor();
    assert_eq!(code.unwrap(), ExitCode::Ok, "{told}");
}

/// Nothing is mirrored unasked; what could be is written down, and right as soon as the # are gone.
#[test]
fn a_file_and_a_database_that_could_follow_it_are_proposed_as_a_link() {
    let mut world = World::new();
    world.write("package.json", "{\"name\": \"shop\"}");
    world.write(
        ".env",
        &format!(
            "SUPABASE_URL=https://abc.supabase.co\nSUPABASE_DB_URL=postgres://u:{CANARY}@localhost:5432/postgres\n"
        ),
    );
    world.database("data/shop.db");
    assert_eq!(world.init(false).0.unwrap(), ExitCode::Ok);
    let text = std::fs::read_to_string(world.path("lifeboat.toml")).unwrap();
    let proposed = text.split("# [environments.local.links.cloud]").nth(1).unwrap_or_else(|| panic!("{text}"));
    assert!(proposed.contains("# url_from = { env = \"SUPABASE_DB_URL\", env_file = \"./.env\" }"), "{text}");
    assert!(!text.contains(CANARY));
    let taken =
        text.replace("# [environments.local.links", "[environments.local.links").replace("# from = ", "from = ");
    let taken = taken
        .replace("# url_from = { env = \"SUPABASE", "url_from = { env = \"SUPABASE")
        .replace("# env_file", "env_file");
    world.write("lifeboat.toml", &taken);
    let (code, told) = world.config(ConfigCommand::Show);
    assert_eq!(code.unwrap(), ExitCode::Ok);
    assert!(told.contains("links.cloud.from"), "{told}");
}

#[test]
fn what_cannot_be_protected_yet_stands_in_comments() {
    let mut world = World::new();
    world.write("supabase/config.toml", "");
    world.write("prisma/schema.prisma", "datasource db {\n  provider = \"postgresql\"\n}\n");
    world.write("fly.toml", "app = \"acme-shop\"\n[mounts]\nsource = \"data\"\n");
    world.write(
        ".env.production",
        &format!("export DATABASE_URL_PRODUCTION='postgres://me:{CANARY}@db.example/x'\nUPLOADS_BUCKET={CANARY}\n"),
    );
    world.write("docker-compose.yaml", "services:\n  db:\n    image: \"docker.io/library/postgres:16\"\n");
    world.global.environment = Some("production".into());
    let (code, text) = world.init(true);
    assert_eq!(code.unwrap(), ExitCode::Ok);
    for sentence in [
        "[environments.production.resources.db]\nkind = \"postgres\"\nurl_from = { env = \"DATABASE_URL_PRODUCTION\", env_file = \"./.env.production\" }",
        "#   UPLOADS_BUCKET in .env.production names a bucket",
        "#   supabase/ is here: a Supabase project, with its storage buckets",
        "#   fly.toml is here: the app runs on Fly.io (acme-shop), which has a volume there; run lifeboat where its files are",
        "[environments.production.resources.\"env.production\"]",
    ] {
        assert!(text.contains(sentence), "{sentence} is missing:\n{text}");
    }
    assert!(!text.contains(CANARY));
    assert!(!world.path("lifeboat.toml").exists(), "a dry run writes nothing");
    settings::check(&text, world.home.path()).unwrap();
}

/// Without an address there is only a hint of it.
#[test]
fn a_server_without_an_address_stands_in_comments() {
    let mut world = World::new();
    world.write("supabase/config.toml", "");
    world.write("prisma/schema.prisma", "datasource db {\n  provider = \"postgresql\"\n}\n");
    world.write("docker-compose.yaml", "services:\n  db:\n    image: \"docker.io/library/postgres:16\"\n");
    let pooled = format!("DATABASE_URL=postgres://me:{CANARY}@pooler.example:6543/x?pgbouncer=true\n");
    world.write(".env", &pooled);
    let (_, text) = world.init(true);
    for sentence in [
        "#   DATABASE_URL in .env names a PostgreSQL database through a pooler in transaction mode; Lifeboat needs its direct address",
        "#   supabase/ is here: a Supabase project, with its PostgreSQL database and its storage buckets",
        "#   prisma/schema.prisma describes a PostgreSQL database",
        "#   docker-compose.yaml runs postgres: a PostgreSQL database",
    ] {
        assert!(text.contains(sentence), "{sentence} is missing:\n{text}");
    }
    assert!(!text.contains(CANARY) && !text.contains("kind = \"postgres\""), "{text}");
    settings::check(&text, world.home.path()).unwrap();
}

#[test]
fn addresses_of_servers_are_found_where_apps_have_them() {
    let mut world = World::new();
    let address = |host: &str| format!("postgresql://me:{CANARY}@{host}/x");
    world.write(
        ".env",
        &format!(
            "DATABASE_URL=\"{}?pgbouncer=true\"\nDIRECT_URL='{}'\nPOSTGRES_URL={}\n",
            address("pooler:6543"),
            address("db:5432"),
            address("db:5432")
        ),
    );
    world.write(".env.staging", &format!("DATABASE_URL={}\n", address("staging:5432")));
    world.write(".env.bak", &format!("DATABASE_URL={}\n", address("old:5432")));
    world.var("SUPABASE_DB_URL", &address("supabase:5432"));
    let (code, told) = world.init(false);
    assert_eq!(code.unwrap(), ExitCode::Ok);
    for line in [
        "protects  db (postgres) DIRECT_URL in ./.env",
        "left out  db-2 (postgres) DATABASE_URL in ./.env.staging",
        "protects  db-3 (postgres) the variable SUPABASE_DB_URL",
    ] {
        assert!(told.contains(line), "{line} is missing:\n{told}");
    }
    let text = std::fs::read_to_string(world.path("lifeboat.toml")).unwrap();
    assert!(text.contains("url_from = { env = \"SUPABASE_DB_URL\" }"), "{text}");
    assert!(text.contains("belongs to staging, by its name"), "{text}");
    assert!(!text.contains(CANARY) && !told.contains(CANARY));
    // The address is read from the file as long as the variable is not set.
    let shown = world.config(ConfigCommand::Check);
    assert_eq!(shown.0.unwrap(), ExitCode::Ok);
}

#[test]
fn several_databases_are_called_by_their_files() {
    let mut world = World::new();
    for name in ["a/main.db", "b/main.db", "users ☂.sqlite", "plain-name-without-ending"] {
        world.database(name);
    }
    let deep = world.database("1/2/3/4/5/6/too-deep.db");
    std::os::unix::fs::symlink(&deep, world.path("link.db")).unwrap();
    let (_, text) = world.init(true);
    let names: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("[environments.local.resources.")).collect();
    assert_eq!(names, ["main]", "main-2]", "plain-name-without-ending]", "users]"], "{text}");
    settings::check(&text, world.home.path()).unwrap();
}

#[test]
fn an_empty_folder_gets_an_example_that_says_so() {
    let mut world = World::new();
    let (code, told) = world.init(false);
    assert_eq!(code.unwrap(), ExitCode::Ok);
    assert!(told.contains("Nothing was found that can be protected"), "{told}");
    let failure = world.config(ConfigCommand::Check).0.unwrap_err();
    assert!(failure.to_string().contains("the file has no environments"), "{failure}");
}

#[test]
fn a_file_that_is_there_stays_as_it_is() {
    let mut world = World::with("# mine\n");
    let (code, _) = world.init(false);
    let failure = code.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused);
    assert_eq!(
        failure.message,
        format!("{} is there already and stays as it is", world.path("lifeboat.toml").display())
    );
    assert_eq!(std::fs::read_to_string(world.path("lifeboat.toml")).unwrap(), "# mine\n");
    assert_eq!(world.init(true).0.unwrap(), ExitCode::Ok);
}

#[test]
fn a_vault_is_not_taken_for_data_and_a_name_is_made_fit() {
    let mut world = World::new();
    world.write("package.json", "{\"name\": \"Ünser Shop!\"}");
    for part in ["keys/a", "snapshots/a", "config"] {
        world.write(&format!("old-vault/{part}"), "x");
    }
    world.database("old-vault/data/x.db");
    let (_, text) = world.json().init(true);
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["app"], "nser-Shop");
    assert_eq!(document["resources"], serde_json::json!([]));
    assert_eq!(document["written"], false);
}
