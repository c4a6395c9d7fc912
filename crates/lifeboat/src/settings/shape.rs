//! Keys and types: compares a document with the JSON Schema of [`super::Settings`] and tells everything that differs.
//! serde would stop at the first difference and quote the value, which may be a secret.

use lifeboat_model::{ResourceName, decision::Number, schedule::Cron, time::parse_duration};
use serde_json::Value;

use super::{
    document::{Document, Node, NodeValue},
    names::nearest,
    problem::Problem,
    schedules::NEVER,
    sense,
};
use crate::outside;

/// Every key and value of the wrong shape.
pub fn problems(document: &Document) -> Vec<Problem> {
    let mut walk = Walk { path: Vec::new(), problems: Vec::new() };
    walk.node(&document.root, super::schema().as_value());
    walk.problems
}

struct Walk {
    path: Vec<String>,
    problems: Vec<Problem>,
}

impl Walk {
    fn node(&mut self, node: &Node, schema: &Value) {
        match &node.value {
            NodeValue::Table(table) if accepts(schema, "object") => {
                for (key, child) in table {
                    self.path.push(key.clone());
                    self.key(key, child, schema);
                    self.path.pop();
                }
                self.missing(node, schema);
            }
            NodeValue::Text(text)
                if accepts(schema, "string") || schema.get("oneOf").is_some() || kind_of(schema) == "choice" =>
            {
                self.text(node.line, text, schema);
            }
            NodeValue::Number(number) if accepts(schema, "integer") => self.number(node.line, *number, schema),
            NodeValue::List(list) if accepts(schema, "array") => {
                list.iter().for_each(|child| self.node(child, &schema["items"]));
                if list.is_empty() && kind_of(schema) == "command" {
                    self.tell(
                        node.line,
                        "is an empty command",
                        Some("write the program and its arguments as a list of words"),
                    );
                }
            }
            NodeValue::Flag(_) if accepts(schema, "boolean") => {}
            NodeValue::Text(_)
            | NodeValue::Number(_)
            | NodeValue::Flag(_)
            | NodeValue::Other(_)
            | NodeValue::List(_)
            | NodeValue::Table(_) => {
                self.wrong_type(node, schema);
            }
        }
    }

    fn key(&mut self, key: &str, child: &Node, schema: &Value) {
        if let Some(known) = schema["properties"].get(key) {
            return self.node(child, known);
        }
        if schema["additionalProperties"].is_object() {
            if let Some(what) = schema["x-names"].as_str()
                && ResourceName::new(key).is_err()
            {
                let message = format!("{key:?} cannot name {what}");
                let instead = "use 1 to 64 letters, digits, '-', '_' or '.', not beginning with '.' or '-'";
                self.problems.push(Problem::new(child.line, message).instead(instead));
            }
            return self.node(child, &schema["additionalProperties"]);
        }
        let known: Vec<&str> =
            schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        let place = table_label(&self.path[..self.path.len() - 1]);
        let instead = match nearest(key, known.iter().copied()) {
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None => format!("known here: {}", known.join(", ")),
        };
        self.problems
            .push(Problem::new(child.line, format!("there is no setting {key:?} in {place}")).instead(instead));
    }

    fn missing(&mut self, node: &Node, schema: &Value) {
        let NodeValue::Table(table) = &node.value else { return };
        let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        for name in required.filter(|name| !table.contains_key(*name)) {
            let place = table_label(&self.path);
            let example = match (name, kind_of(&schema["properties"][name])) {
                ("app", _) => "[app] with name = \"shop\"".to_owned(),
                ("environments", _) => "[environments.production.resources.db] with kind and path".to_owned(),
                (_, "location") => "location = \"s3://bucket/folder\"".to_owned(),
                (_, "version") => "version = 1".to_owned(),
                (_, "resource-kind") => "kind = \"sqlite\", \"postgres\", \"files\" or \"env\"".to_owned(),
                (_, "path") => "path = \"./shop.db\"".to_owned(),
                (_, "sql") => "sql = \"select count(*) from orders\" and min or equals".to_owned(),
                (_, _) => format!("{name} = \"…\""),
            };
            let problem = Problem::new(node.line, format!("{place} has no {name}"));
            self.problems.push(problem.instead(format!("write {example}")));
        }
    }

    fn text(&mut self, line: usize, text: &str, schema: &Value) {
        if sense::suspicion(&self.path.join("."), text).is_some() {
            return; // told by `sense`, in better words
        }
        match kind_of(schema) {
            "duration" if parse_duration(text).is_err() => {
                self.tell(
                    line,
                    "is not a length of time",
                    Some("write a number with a unit: \"90s\", \"15m\", \"6h\" or \"7d\""),
                );
            }
            "name" if ResourceName::new(text).is_err() => {
                let instead = "use 1 to 64 letters, digits, '-', '_' or '.', not beginning with '.' or '-'";
                self.tell(line, "cannot be a name", Some(instead));
            }
            "decimal" if text.parse::<Number>().is_err() => {
                self.tell(line, "is no number", Some("write it with at most six digits behind the point: \"2.5\""));
            }
            "timezone" if !is_timezone(text) => {
                self.tell(line, "is not a known time zone", Some("write a name such as \"Europe/Berlin\" or \"UTC\""));
            }
            "cron" if text != NEVER && Cron::parse(text).is_err() => {
                let instead = "write minute, hour, day, month and weekday as cron does: \"0 2 * * *\" is 02:00 each day; or \"never\"";
                self.tell(line, "is no point in time", Some(instead));
            }
            "upstream" if !outside::is_upstream(text) => {
                self.tell(
                    line,
                    "is no address of an app",
                    Some("write http, a host and a port: \"http://127.0.0.1:3000\""),
                );
            }
            "location" => {
                if let Err(why) = outside::check_location(text) {
                    self.tell(line, &format!("is no place for a vault: {why}"), None);
                }
            }
            "variable" if !is_variable(text) => {
                self.tell(
                    line,
                    "cannot be the name of a variable",
                    Some("write its name only, such as \"SHOP_VAULT_PASSWORD\""),
                );
            }
            "resource-kind" => self.resource_kind(line, text, schema),
            "choice" => {
                let known = choices(schema);
                if !known.contains(&text) {
                    self.tell(
                        line,
                        "is none of the words for it",
                        Some(&format!("write one of: {}", known.join(", "))),
                    );
                }
            }
            _ => {}
        }
    }

    fn resource_kind(&mut self, line: usize, text: &str, schema: &Value) {
        let known: Vec<&str> =
            schema["oneOf"].as_array().into_iter().flatten().filter_map(|one| one["const"].as_str()).collect();
        if known.contains(&text) {
            return;
        }
        let later = ["bucket", "object-store", "s3", "secrets"];
        if later.contains(&text) {
            let instead = "this release protects \"sqlite\", \"postgres\", \"files\" and \"env\"; leave it as a comment until then";
            return self.tell(line, "names something that this release cannot protect yet", Some(instead));
        }
        if ["postgresql", "supabase", "pg"].contains(&text) {
            return self.tell(line, "is no kind of resource", Some("write \"postgres\", with url"));
        }
        let instead = match nearest(text, known.iter().copied()) {
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None => "write \"sqlite\", \"postgres\", \"files\" or \"env\"".to_owned(),
        };
        self.tell(line, "is no kind of resource", Some(&instead));
    }

    fn number(&mut self, line: usize, number: Option<i64>, schema: &Value) {
        if kind_of(schema) == "version" {
            if number != Some(1) {
                let instead = "write version = 1, or use the lifeboat that this file was written for";
                self.tell(line, "is not a version that this program understands", Some(instead));
            }
            return;
        }
        let least = schema["minimum"].as_i64().unwrap_or(i64::MIN);
        let most = if schema["format"] == "uint32" { i64::from(u32::MAX) } else { i64::MAX };
        if !number.is_some_and(|number| (least..=most).contains(&number)) {
            self.tell(line, "is out of range", Some(&format!("write a number from {least} to {most}")));
        }
    }

    fn wrong_type(&mut self, node: &Node, schema: &Value) {
        let is_secret = self.path.last().is_some_and(|key| key == "password");
        if is_secret && matches!(node.value, NodeValue::Text(_)) {
            let instead =
                "say where it comes from: { env = \"LIFEBOAT_VAULT_PASSWORD\" }, { file = \"…\" } or { cmd = [\"…\"] }";
            return self.tell(node.line, "is written here, where everybody can read it", Some(instead));
        }
        let name = self.path.last().map_or("", String::as_str);
        let (wanted, instead) = if kind_of(schema) == "duration" {
            (
                "must be a length of time",
                "write a number with a unit in quotes: \"90s\", \"15m\", \"6h\" or \"7d\"".to_owned(),
            )
        } else if kind_of(schema) == "decimal" {
            ("must be a number in quotes", format!("write {name} = \"2.5\""))
        } else if accepts(schema, "array") && kind_of(schema) == "command" {
            ("must be a list of words", format!("write {name} = [\"program\", \"argument\"]; no shell reads it"))
        } else if accepts(schema, "array") {
            ("must be a list", format!("write {name} = [\"…\"]"))
        } else if accepts(schema, "integer") {
            ("must be a whole number", format!("write {name} = 1 without quotes"))
        } else if accepts(schema, "boolean") {
            ("must be true or false", format!("write {name} = true without quotes"))
        } else if accepts(schema, "object") {
            ("must be a table", format!("write {}", table_label(&self.path)))
        } else {
            ("must be text", format!("write {name} = \"…\""))
        };
        self.tell(node.line, wanted, Some(&instead));
    }

    fn tell(&mut self, line: usize, what: &str, instead: Option<&str>) {
        let problem = Problem::new(line, format!("{} {what}", self.path.join(".")));
        self.problems.push(match instead {
            Some(instead) => problem.instead(instead),
            None => problem,
        });
    }
}

fn table_label(path: &[String]) -> String {
    if path.is_empty() { "the file".to_owned() } else { format!("[{}]", path.join(".")) }
}

fn accepts(schema: &Value, wanted: &str) -> bool {
    match &schema["type"] {
        Value::String(one) => one == wanted,
        Value::Array(several) => several.iter().any(|one| one == wanted),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
    }
}

/// The words that a setting may be, where it is one of a few.
fn choices(schema: &Value) -> Vec<&str> {
    let may_be_left_out = schema["anyOf"].as_array().into_iter().flatten();
    let lists = std::iter::once(schema).chain(may_be_left_out).filter_map(|one| one["oneOf"].as_array());
    lists.flatten().filter_map(|one| one["const"].as_str()).collect()
}

fn kind_of(schema: &Value) -> &str {
    schema["x-kind"].as_str().unwrap_or_default()
}

fn is_timezone(name: &str) -> bool {
    // A host without a time zone database cannot tell; then any name will do, and UTC is shown.
    jiff::tz::db().is_definitively_empty() || jiff::tz::TimeZone::get(name).is_ok()
}

fn is_variable(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty() && name.bytes().all(plain) && !name.starts_with(|first: char| first.is_ascii_digit())
}
