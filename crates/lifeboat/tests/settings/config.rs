//! `config check`, `show` and `schema`.

use lifeboat::cli::ConfigCommand;
use lifeboat_model::ExitCode;
use serde_json::Value;

use crate::world::World;

const FILE: &str = "version = 1\n[app]\nname = \"shop\"\n[vault]\nlocation = \"/srv/vault\"\n[environments.production.resources.db]\n\
    kind = \"sqlite\"\npath = \"/srv/shop.db\"\ncritical_tables = [\"orders\", \"customers\"]\n\
    [environments.staging.resources.db]\nkind = \"sqlite\"\npath = \"/srv/staging.db\"\n";

#[test]
fn check_says_that_it_is_right_or_all_that_is_not() {
    let mut world = World::with(FILE);
    let (code, told) = world.config(ConfigCommand::Check);
    assert_eq!(code.unwrap(), ExitCode::Ok);
    assert_eq!(
        told,
        format!("{} is right: shop, 2 environments, 2 resources.\n", world.path("lifeboat.toml").display())
    );

    world.write("lifeboat.toml", "version = 3\n");
    let failure = world.config(ConfigCommand::Check).0.unwrap_err();
    assert_eq!(ExitCode::from(failure.kind), ExitCode::Usage);
    assert_eq!(failure.message, format!("the settings in {} have 3 problems", world.path("lifeboat.toml").display()));
    let (code, told) = world.json().config(ConfigCommand::Check);
    assert_eq!(code.unwrap(), ExitCode::Usage);
    let document: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(
        (&document["schema"], &document["good"]),
        (&Value::from("lifeboat/config-check@1"), &Value::from(false))
    );
    assert_eq!(document["problems"][0]["line"], 1);
}

#[test]
fn show_tells_each_value_and_where_it_comes_from() {
    let mut world = World::with(FILE);
    let (code, told) = world.config(ConfigCommand::Show);
    assert_eq!(code.unwrap(), ExitCode::Ok);
    let line = |key: &str| {
        told.lines()
            .find(|line| line.trim_start().starts_with(key))
            .unwrap()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(line("vault.location"), "vault.location /srv/vault lifeboat.toml:5");
    assert_eq!(line("resources.db.critical_tables"), "resources.db.critical_tables orders customers lifeboat.toml:9");
    assert_eq!(line("keep.monthly"), "keep.monthly 12 default");
    assert!(
        told.contains("shop/production\n") && told.contains("shop/staging\n"),
        "all environments are shown: {told}"
    );

    world.global.environment = Some("staging".into());
    let (_, told) = world.json().config(ConfigCommand::Show);
    let document: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(document["environments"].as_array().unwrap().len(), 1);
    let values = document["environments"][0]["values"].as_array().unwrap();
    let path = values.iter().find(|value| value["key"] == "resources.db.path").unwrap();
    assert_eq!((&path["value"], &path["origin"]), (&Value::from("/srv/staging.db"), &Value::from("line 12")));
}

#[test]
fn schema_describes_every_setting() {
    let (code, told) = World::new().config(ConfigCommand::Schema);
    assert_eq!(code.unwrap(), ExitCode::Ok);
    let schema: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(schema["additionalProperties"], false);
    undescribed(&schema, "settings");
}

/// Every property has a description: an editor shows it.
fn undescribed(schema: &Value, at: &str) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        assert!(
            property["description"].as_str().is_some_and(|text| !text.is_empty()),
            "{at}.{name} has no description"
        );
        undescribed(property, &format!("{at}.{name}"));
    }
    if schema["additionalProperties"].is_object() {
        undescribed(&schema["additionalProperties"], &format!("{at}.*"));
    }
}
