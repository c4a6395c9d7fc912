//! What is in effect: flag before variable before file before default; names before paths; which environment.

use std::time::Duration;

use lifeboat::{secrets::PasswordSource, settings};
use lifeboat_model::FailureKind;

use crate::world::World;

const TWO: &str = "version = 1\n[app]\nname = \"shop\"\n[vault]\nlocation = \"./vault\"\npassword = { env = \"SHOP_PASSWORD\" }\n\
    [keep]\ndaily = 30\n[objectives]\nrpo = \"24h\"\n[budgets]\nrestore = \"4m\"\nswap = \"45s\"\n\
    [environments.production.resources.db]\nkind = \"sqlite\"\npath = \"./shop.db\"\n\
    [environments.staging.vault]\nlocation = \"s3://shop-staging/vault\"\n[environments.staging.keep]\ndaily = 2\n\
    [environments.staging.budgets]\nrestore = \"10m\"\n\
    [environments.staging.resources.db]\nkind = \"sqlite\"\npath = \"./staging.db\"\n";

const ONE: &str = "version = 1\n[app]\nname = \"shop\"\n[environments.production.resources.db]\nkind = \"sqlite\"\npath = \"./shop.db\"\n";

fn origin(world: &World, key: &str) -> (String, String) {
    let resolved = world.resolve(&[]).unwrap();
    let shown = resolved.origins.iter().find(|shown| shown.key == key).unwrap_or_else(|| panic!("{key} is not shown"));
    (shown.value.clone(), shown.origin.to_string())
}

#[test]
fn the_only_environment_is_meant_and_one_of_two_must_be_said() {
    let world = World::with(ONE);
    assert_eq!(world.resolve(&[]).unwrap().setup.scope.to_string(), "shop/production");

    let mut world = World::with(TWO);
    let failure = world.resolve(&[]).unwrap_err();
    assert_eq!(
        failure.message,
        "shop has several environments, and this command needs to know which: production, staging"
    );
    assert_eq!(failure.kind, FailureKind::Usage);
    world.global.environment = Some("stagin".into());
    let failure = world.resolve(&[]).unwrap_err();
    assert_eq!(failure.message, "shop has no environment stagin; it has: production, staging");
    assert_eq!(failure.hint.as_deref(), Some("--env staging"));
    world.global.environment = Some("staging".into());
    assert_eq!(world.resolve(&[]).unwrap().setup.scope.to_string(), "shop/staging");
}

#[test]
fn flag_before_variable_before_file_before_default() {
    let mut world = World::with(TWO);
    world.global.environment = Some("production".into());
    let place = |world: &World, name: &str| world.path(name).display().to_string();
    assert_eq!(origin(&world, "vault.location"), (place(&world, "vault"), "line 5".into()));
    world.var("LIFEBOAT_VAULT", "/srv/from-variable");
    assert_eq!(origin(&world, "vault.location"), ("/srv/from-variable".into(), "LIFEBOAT_VAULT".into()));
    world.global.vault = Some("/srv/from-flag".into());
    assert_eq!(origin(&world, "vault.location"), ("/srv/from-flag".into(), "--vault".into()));
    assert_eq!(world.resolve(&[]).unwrap().setup.vault, "/srv/from-flag");

    assert_eq!(origin(&world, "state.folder"), (place(&world, "state-home/lifeboat/shop"), "default".into()));
    world.var("LIFEBOAT_STATE", "/srv/state");
    assert_eq!(origin(&world, "state.folder"), ("/srv/state".into(), "LIFEBOAT_STATE".into()));
    // The command line reads the variable too and hands it on as a flag.
    world.global.state = Some("/srv/state".into());
    assert_eq!(origin(&world, "state.folder").1, "LIFEBOAT_STATE");
    world.global.state = Some("/srv/other".into());
    assert_eq!(origin(&world, "state.folder"), ("/srv/other".into(), "--state".into()));

    assert_eq!(origin(&world, "keep.daily"), ("30".into(), "line 8".into()));
    assert_eq!(origin(&world, "keep.weekly"), ("4".into(), "default".into()));
    assert_eq!(origin(&world, "limits.command"), ("1m".into(), "default".into()));
    assert_eq!(origin(&world, "vault.password"), ("•••, from the variable SHOP_PASSWORD".into(), "line 6".into()));
    world.var("LIFEBOAT_VAULT_PASSWORD", "x");
    assert_eq!(origin(&world, "vault.password").1, "LIFEBOAT_VAULT_PASSWORD");
}

#[test]
fn an_environment_differs_key_by_key() {
    let mut world = World::with(TWO);
    world.global.environment = Some("staging".into());
    let resolved = world.resolve(&[]).unwrap();
    assert_eq!(resolved.setup.vault, "s3://shop-staging/vault");
    assert_eq!((resolved.setup.keep.daily, resolved.setup.keep.weekly), (2, 4));
    assert_eq!(resolved.setup.budgets_ms.get("restore"), Some(&600_000));
    assert_eq!(resolved.setup.budgets_ms.get("swap"), Some(&45_000));
    assert_eq!(resolved.setup.rpo, Some(Duration::from_secs(86_400)));
    assert_eq!(resolved.setup.proof_max_age, None);
    assert_eq!(resolved.setup.resources[0].kind.path(), Some(world.path("staging.db").as_path()));
    assert_eq!(resolved.setup.settings_file, Some(world.path("lifeboat.toml")));
    assert_eq!(resolved.passwords.source("s3://shop-staging/vault"), &PasswordSource::Variable("SHOP_PASSWORD".into()));
}

#[test]
fn a_resource_named_by_its_path_needs_no_file_and_ignores_one() {
    for mut world in [World::new(), World::with(TWO)] {
        world.global.vault = Some("/srv/vault".into());
        let resolved = world.resolve(&["sqlite:/srv/a b/my shop.db"]).unwrap();
        assert_eq!(resolved.setup.scope.to_string(), "my-shop/local");
        assert_eq!(resolved.setup.resources[0].name.as_str(), "my-shop");
        assert_eq!(resolved.setup.resources[0].kind.place(), "/srv/a b/my shop.db");
        assert_eq!(resolved.state, world.path("state-home/lifeboat/my-shop"));
        assert_eq!(resolved.setup.vault, "/srv/vault");
        assert_eq!(resolved.file, None);
        assert_eq!(
            world.resolve(&["env:./.env.production"]).unwrap().setup.resources[0].name.as_str(),
            "env.production"
        );
        assert_eq!(world.resolve(&["files:/srv/uploads/"]).unwrap().setup.resources[0].kind.word(), "files");

        let failure = world.resolve(&["sqlite:./shop.db", "uploads"]).unwrap_err();
        assert_eq!(failure.message, "shop is named by its path and uploads by its name");
        let failure = world.resolve(&["sqlite:./shop.db", "files:./shop"]).unwrap_err();
        assert_eq!(failure.message, "two of these would be called shop");
        assert_eq!(world.resolve(&["sqlite:"]).unwrap_err().message, "sqlite: names no path");
    }
}

#[test]
fn what_the_flag_says_counts_once() {
    let mut world = World::new();
    world.global.about = vec!["sqlite:./shop.db".into()];
    assert_eq!(world.resolve(&["sqlite:./shop.db"]).unwrap().setup.resources.len(), 1);
    assert_eq!(world.resolve(&[]).unwrap().setup.resources.len(), 1);
}

#[test]
fn a_file_that_was_named_must_be_there() {
    let mut world = World::new();
    world.global.config = Some(world.path("nothing.toml"));
    let failure = world.resolve(&[]).unwrap_err();
    assert_eq!(failure.message, format!("there is no settings file {}", world.path("nothing.toml").display()));
    world.global.config = None;
    world.var("LIFEBOAT_CONFIG", world.path("other.toml").to_str().unwrap());
    assert!(settings::find(&world.global, &world.io).is_err());
    world.write("other.toml", ONE);
    assert_eq!(settings::find(&world.global, &world.io).unwrap(), Some(world.path("other.toml")));
}

#[test]
fn a_file_that_is_no_text_says_where() {
    let world = World::new();
    std::fs::write(world.path("lifeboat.toml"), b"version = 1\n# caf\xe9\n").unwrap();
    let failure = settings::load(&world.path("lifeboat.toml")).unwrap_err();
    assert!(
        failure.causes[0].ends_with("lifeboat.toml:2: this is not text in UTF-8; save the file as UTF-8"),
        "{failure}"
    );
}
