//! What is well-formed and still cannot be meant: placeholders, secrets, halves of pairs, two names for one file.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    CheckSettings, EnvironmentSettings, KeepSettings, KindSettings, PasswordSettings, ResourceSettings, Settings,
};
use super::{document::Document, problem::Problem};
use crate::outside;
use lifeboat_model::Keep;

/// What documents leave for the reader to fill in, by the beginning of a word.
const PLACEHOLDERS: &[&str] = &[
    "your-project",
    "your_project",
    "your-bucket",
    "your_bucket",
    "your-app",
    "your-domain",
    "your-org",
    "your-vault",
    "your-host",
    "your-database",
    "your-password",
    "your-key",
    "your-token",
    "your-backup",
    "/path/to/",
    "YYYYMMDD",
    "YYYY-MM-DD",
    "affected-course-id",
    "changeme",
    "change-me",
    "CHANGE_ME",
    "replace-me",
    "REPLACE_ME",
    "FIXME",
    "xxxxxx",
];

/// How values begin that are secrets for certain, and what they are.
const SECRETS: &[(&str, &str)] = &[
    ("sk_live_", "a Stripe key"),
    ("sk_test_", "a Stripe key"),
    ("ghp_", "a GitHub token"),
    ("github_pat_", "a GitHub token"),
    ("glpat-", "a GitLab token"),
    ("xoxb-", "a Slack token"),
    ("xoxp-", "a Slack token"),
    ("AKIA", "an AWS key"),
    ("shpat_", "a Shopify token"),
    ("sbp_", "a Supabase token"),
    ("eyJhbGciOi", "a signed token"),
    ("-----BEGIN", "a key or certificate"),
];

/// What is wrong with a text wherever it stands; `key` is its dotted path. Never quotes more than the placeholder itself.
pub fn suspicion(key: &str, text: &str) -> Option<(String, String)> {
    let name = key.rsplit('.').next().unwrap_or(key);
    if let Some((_, what)) = SECRETS.iter().find(|(begin, _)| has_word_beginning(text, begin)) {
        let message = format!("{key} holds {what}");
        return Some((message, "take it out of this file; it names where secrets are, never what they are".to_owned()));
    }
    if has_password_in_url(text) {
        let message = format!("{key} holds a URL with a password in it");
        return Some((
            message,
            "take user and password out of it; keys of a bucket come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
                .to_owned(),
        ));
    }
    if name == "sql" {
        return None; // brackets and angles mean something there
    }
    // Who is called may still be open: `lifeboat ready` says so, and an emergency is no time to refuse everything else.
    if key.starts_with("escalation.") {
        return None;
    }
    // There it stands for the day of each file.
    let meant = |word: &str| name == "send_to" && word == lifeboat_model::elsewhere::DAY;
    let found = PLACEHOLDERS.iter().find(|word| text.contains(**word) && !meant(word)).map(|word| (*word).to_owned());
    let found = found.or_else(|| bracketed(text))?;
    Some((format!("{key} still has the placeholder {found:?}"), "write your own value".to_owned()))
}

/// Whether a word begins so and goes on for a while, as keys and tokens do.
fn has_word_beginning(text: &str, begin: &str) -> bool {
    text.match_indices(begin).any(|(at, _)| {
        let starts = !text[..at].ends_with(|letter: char| letter.is_alphanumeric());
        starts && text[at + begin.len()..].chars().take_while(|letter| !letter.is_whitespace()).count() >= 5
            || begin.starts_with("-----")
    })
}

/// A `scheme://user:password@host`.
fn has_password_in_url(text: &str) -> bool {
    let Some((_, rest)) = text.split_once("://") else { return false };
    let host = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    host.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
}

/// `[NAME]`, `<name>`, `${NAME}`, `{{name}}`.
fn bracketed(text: &str) -> Option<String> {
    for (open, close) in [("${", "}"), ("{{", "}}"), ("<", ">"), ("[", "]")] {
        let Some((_, rest)) = text.split_once(open) else { continue };
        let Some((inner, _)) = rest.split_once(close) else { continue };
        let word = inner.len() >= 2 && inner.chars().all(|letter| letter.is_alphanumeric() || "_- ".contains(letter));
        let shouted = inner.chars().all(|letter| !letter.is_lowercase());
        if word && (open != "[" || shouted) {
            return Some(format!("{open}{inner}{close}"));
        }
    }
    None
}

/// Suspicious texts anywhere in the document.
pub fn suspicious_texts(document: &Document) -> Vec<Problem> {
    let mut problems = Vec::new();
    document.each_text(&mut |path, line, text| {
        if let Some((message, instead)) = suspicion(&path.join("."), text) {
            problems.push(Problem::new(line, message).instead(instead));
        }
    });
    problems
}

/// What can only be seen when the shape is right.
pub fn problems(document: &Document, settings: &Settings, folder: &Path) -> Vec<Problem> {
    let mut problems = Vec::new();
    if settings.environments.is_empty() {
        let problem = Problem::new(document.line(&["environments"]), "there is no environment");
        problems.push(problem.instead("write [environments.production.resources.db] with kind and path"));
    }
    let password = |password: Option<&PasswordSettings>, path: &[&str], problems: &mut Vec<Problem>| {
        problems.extend(password.and_then(|password| check_password(password, document.line(path), path)));
    };
    password(settings.vault.password.as_ref(), &["vault", "password"], &mut problems);
    for (name, copy) in &settings.vault.copies {
        password(copy.password.as_ref(), &["vault", "copies", name, "password"], &mut problems);
        check_keep(document, &copy.keep, Some(&settings.keep), &["vault", "copies", name, "keep"], &mut problems);
    }
    check_keep(document, &settings.keep, None, &["keep"], &mut problems);
    for (name, environment) in &settings.environments {
        let path = ["environments", name.as_str()];
        if environment.resources.is_empty() {
            let problem = Problem::new(document.line(&path), format!("environment {name} has no resources"));
            problems.push(problem.instead(format!("write [environments.{name}.resources.db] with kind and path")));
        }
        password(environment.vault.password.as_ref(), &[path[0], path[1], "vault", "password"], &mut problems);
        check_keep(document, &environment.keep, Some(&settings.keep), &[path[0], path[1], "keep"], &mut problems);
        for (copy, what) in &environment.vault.copies {
            let place = [path[0], path[1], "vault", "copies", copy];
            password(what.password.as_ref(), &[&place[..], &["password"]].concat(), &mut problems);
            check_keep(document, &what.keep, Some(&environment.keep), &[&place[..], &["keep"]].concat(), &mut problems);
        }
        for (resource, what) in &environment.resources {
            Resource { document, environment: name, name: resource, what }.check(&mut problems);
        }
    }
    shared_places(document, settings, folder, &mut problems);
    problems
}

fn check_password(password: &PasswordSettings, line: usize, path: &[&str]) -> Option<Problem> {
    let said = [password.env.is_some(), password.file.is_some(), password.cmd.is_some()];
    if password.env_file.is_some() && password.env.is_none() {
        let message = format!("{} has an env_file, and no env", path.join("."));
        return Some(
            Problem::new(line, message).instead("write the name of the variable in it: env = \"DATABASE_URL\""),
        );
    }
    let message = match said.iter().filter(|said| **said).count() {
        1 => return None,
        0 => format!("{} does not say where the password comes from", path.join(".")),
        _ => format!("{} says several places where the password comes from", path.join(".")),
    };
    Some(Problem::new(line, message).instead("write exactly one of env, file and cmd"))
}

fn check_keep(
    document: &Document,
    keep: &KeepSettings,
    general: Option<&KeepSettings>,
    path: &[&str],
    problems: &mut Vec<Problem>,
) {
    if keep.proven == Some(0) {
        let line = document.line(&[path, &["proven"]].concat());
        problems.push(Problem::new(line, "keep.proven is a floor and cannot be 0").instead("write 1 or more"));
    }
    let Keep { within, last, hourly, daily, weekly, monthly, yearly, .. } = super::resolve::merged_keep(keep, general);
    let nothing = within.is_none_or(|within| within.is_zero())
        && [last, hourly, daily, weekly, monthly, yearly].iter().all(|count| *count == 0);
    if nothing && document.find(path).is_some() {
        let problem = Problem::new(document.line(path), format!("[{}] keeps nothing", path.join(".")));
        problems.push(
            problem.instead("write at least one of within, last, hourly, daily, weekly, monthly, yearly above 0"),
        );
    }
}

struct Resource<'a> {
    document: &'a Document,
    environment: &'a str,
    name: &'a str,
    what: &'a ResourceSettings,
}

impl Resource<'_> {
    fn line(&self, key: &str) -> usize {
        self.document.line(&["environments", self.environment, "resources", self.name, key])
    }

    fn check(&self, problems: &mut Vec<Problem>) {
        let ResourceSettings { kind, path, exclude, stop, start, critical_tables, may_be_empty, checks, alias, .. } =
            self.what;
        let name = self.name;
        let mut tell = |key: &str, message: String, instead: &str| {
            problems.push(Problem::new(self.line(key), message).instead(instead));
        };
        self.check_place(&mut tell);
        if let Some((message, instead)) = path.as_deref().and_then(bad_path) {
            tell("path", format!("the path of {name} {message}"), instead);
        }
        match (stop, start) {
            (Some(_), None) => tell(
                "stop",
                format!("{name} says how to stop its writer and not how to start it"),
                "add start = [\"…\"]",
            ),
            (None, Some(_)) => tell(
                "start",
                format!("{name} says how to start its writer and not how to stop it"),
                "add stop = [\"…\"]",
            ),
            (None, None) | (Some(_), Some(_)) => {}
        }
        for (key, command) in [("stop", stop), ("start", start)] {
            if command.as_ref().and_then(|words| words.first()).is_some_and(|program| program.trim().is_empty()) {
                tell(key, format!("the {key} command of {name} has no program"), "write the program as the first word");
            }
            if let Some([only]) = command.as_deref()
                && only.contains(' ')
            {
                tell(
                    key,
                    format!("the {key} command of {name} is one word with spaces in it"),
                    "write each word by itself: [\"systemctl\", \"stop\", \"shop\"]",
                );
            }
        }
        let tables = [
            ("critical_tables", !critical_tables.is_empty()),
            ("may_be_empty", !may_be_empty.is_empty()),
            ("checks", !checks.is_empty()),
            ("alias", *alias),
            ("dated_days", self.what.dated_days.is_some()),
            ("send_to", self.what.send_to.is_some()),
        ];
        if !kind.is_database() {
            for (key, _) in tables.iter().filter(|(_, said)| *said) {
                tell(key, format!("{name} is no database and has no {key}"), "take it out, or write kind = \"sqlite\"");
            }
        }
        let sent = self.what.send_to.as_deref().map(lifeboat_model::Elsewhere::parse);
        if let Some(Err(why)) = sent {
            tell("send_to", format!("send_to of {name} is no place for a file a day"), &why.to_string());
        }
        if sent.is_some() && *kind == KindSettings::Postgres {
            tell(
                "send_to",
                format!("{name} is no file that could be sent"),
                "take it out; lifeboat export writes dumps",
            );
        }
        let leaving = [
            ("owner_columns", !self.what.owner_columns.is_empty()),
            ("salvage_columns", !self.what.salvage_columns.is_empty()),
            ("migrations", self.what.migrations.is_some()),
            ("lock_timeout", self.what.lock_timeout.is_some()),
            ("statement_timeout", self.what.statement_timeout.is_some()),
        ];
        if *kind != KindSettings::Postgres {
            for (key, _) in leaving.iter().filter(|(_, said)| *said) {
                tell(
                    key,
                    format!("{name} is on no server and has no {key}"),
                    "take it out, or write kind = \"postgres\"",
                );
            }
        }
        if *kind != KindSettings::Files && !exclude.is_empty() {
            tell(
                "exclude",
                format!("{name} is a single file, from which nothing can be left out"),
                "take it out, or write kind = \"files\"",
            );
        }
        for table in critical_tables.iter().filter(|table| may_be_empty.contains(table)) {
            tell(
                "may_be_empty",
                format!("table {table:?} of {name} is critical and may be empty at once"),
                "take it out of one of the two",
            );
        }
        self.check_questions(checks, problems);
    }

    /// Files have a path, databases on servers an address, and neither has what belongs to the other.
    fn check_place(&self, tell: &mut dyn FnMut(&str, String, &str)) {
        let ResourceSettings { kind, path, url, url_from, password, schemas, swap, roles, .. } = self.what;
        let name = self.name;
        let on_server = [
            ("url", url.is_some()),
            ("url_from", url_from.is_some()),
            ("password", password.is_some()),
            ("schemas", !schemas.is_empty()),
            ("swap", swap.is_some()),
            ("roles", !roles.is_empty()),
        ];
        match (kind, url.is_some(), url_from.is_some()) {
            (KindSettings::Postgres, false, false) => tell(
                "kind",
                format!("{name} is a PostgreSQL database without an address"),
                "add url = \"postgres://role@host/database\", or url_from = { env = \"DATABASE_URL\" }",
            ),
            (KindSettings::Postgres, true, true) => {
                tell("url_from", format!("{name} has two addresses"), "take out url or url_from");
            }
            (KindSettings::Postgres, _, _) if path.is_some() => {
                tell("path", format!("{name} is on a server and has no path"), "take it out; url says where it is");
            }
            (KindSettings::Postgres, _, _) => {}
            (KindSettings::Sqlite | KindSettings::Files | KindSettings::Env, _, _) => {
                if path.is_none() {
                    tell("kind", format!("{name} has no path"), "add path = \"./shop.db\", for example");
                }
                for (key, _) in on_server.iter().filter(|(_, said)| *said) {
                    let message = format!("{name} is a file and has no {key}");
                    tell(key, message, "take it out, or write kind = \"postgres\"");
                }
            }
        }
    }

    fn check_questions(&self, checks: &BTreeMap<String, CheckSettings>, problems: &mut Vec<Problem>) {
        let name = self.name;
        for (check, question) in checks {
            let line = self.document.line(&["environments", self.environment, "resources", name, "checks", check]);
            let says = question.min.is_some() || question.equals.is_some() || question.threshold().is_some();
            if !says && !question.sample {
                let problem =
                    Problem::new(line, format!("check {check:?} of {name} does not say what a good answer is"));
                problems.push(problem.instead("add min = 1, equals = \"…\", percent = 85, or sample = true"));
            }
            if question.sql.trim().is_empty() {
                let problem = Problem::new(line, format!("check {check:?} of {name} asks nothing"));
                problems.push(problem.instead("write sql = \"select count(*) from …\""));
            }
        }
    }
}

fn bad_path(path: &Path) -> Option<(&'static str, &'static str)> {
    let text = path.to_string_lossy();
    if text.trim().is_empty() {
        return Some(("is empty", "write the file's path"));
    }
    if text == "~" || text.starts_with("~/") {
        return Some(("begins with ~, which only a shell understands", "write the whole path"));
    }
    if text.contains("://") {
        return Some((
            "is a URL",
            "write the path of a file on this host; a PostgreSQL database has kind = \"postgres\" and url",
        ));
    }
    None
}

/// Two resources at one place: one of them would be restored over the other, or staging over production. A vault in a
/// folder that it backs up: each backup would hold all earlier ones.
fn shared_places(document: &Document, settings: &Settings, folder: &Path, problems: &mut Vec<Problem>) {
    let mut seen: BTreeMap<PathBuf, String> = BTreeMap::new();
    for (environment, what) in &settings.environments {
        let vault = vault_folder(environment, what, settings, document, folder);
        for (name, resource) in &what.resources {
            let Some(path) = &resource.path else { continue };
            let place = outside::plain_path(&folder.join(path));
            let line = document.line(&["environments", environment, "resources", name, "path"]);
            let here = format!("{environment}.{name}");
            if let Some(other) = seen.get(&place) {
                let problem = Problem::new(line, format!("{here} and {other} are the same place"));
                problems.push(problem.instead("give each its own path; restoring one would overwrite the other"));
            } else {
                seen.insert(place.clone(), here);
            }
            if let Some((vault, vault_line)) = &vault
                && resource.kind == KindSettings::Files
                && vault.starts_with(&place)
            {
                let problem = Problem::new(
                    *vault_line,
                    format!("the vault lies inside {environment}.{name}, which it is to keep"),
                );
                problems.push(problem.instead("put the vault somewhere else, best on another disk"));
            }
        }
    }
}

fn vault_folder(
    name: &str,
    environment: &EnvironmentSettings,
    settings: &Settings,
    document: &Document,
    folder: &Path,
) -> Option<(PathBuf, usize)> {
    let (location, line) = match (&environment.vault.location, &settings.vault.location) {
        (Some(own), _) => (own, document.line(&["environments", name, "vault", "location"])),
        (None, Some(general)) => (general, document.line(&["vault", "location"])),
        (None, None) => return None,
    };
    let place = outside::place(location, folder).ok()?;
    place.folder.map(|vault| (outside::plain_path(&vault), line))
}
