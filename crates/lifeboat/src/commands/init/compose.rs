//! The text of a new settings file: what was found, with comments about what else can be said.

use toml::Value;

use super::{Found, FoundResource, Writer};

/// Writes the settings for what was found. What cannot be protected yet, and what is perhaps a copy, stands in comments.
pub fn compose(found: &Found, environment: &str, vault: &str) -> String {
    let mut text = format!(
        "# What Lifeboat protects, and how. Every setting: lifeboat config schema; what is in effect: lifeboat config show.\n\
         # Relative paths begin at this file's folder. No secrets belong in here; the file may be kept in git.\n\
         version = 1\n\
         \n\
         [app]\n\
         name = {}\n\
         # timezone = \"Europe/Berlin\"            # for showing times; UTC when left out\n\
         \n\
         # Where backups go: a folder, or s3://bucket/folder. A folder on the same disk does not survive that disk.\n\
         # Keep it out of git, and out of every folder that is itself protected below.\n\
         [vault]\n\
         location = {}\n\
         # The password never stands here. Without it no backup can be read, by anybody: keep a copy somewhere else.\n\
         password = {{ env = \"LIFEBOAT_VAULT_PASSWORD\" }}   # or {{ file = \"/run/secrets/vault\" }} or {{ cmd = [\"op\", \"read\", \"…\"] }}\n\
         \n\
         # How old the newest backup and its proof may be before `lifeboat status` complains.\n\
         [objectives]\n\
         rpo = \"24h\"\n\
         proof_max_age = \"7d\"\n\
         \n\
         # Which backups stay; these are the defaults.\n\
         # [keep]\n\
         # within = \"2d\"\n\
         # last = 3\n\
         # daily = 7\n\
         # weekly = 4\n\
         # monthly = 12\n",
        quoted(&found.app),
        quoted(vault)
    );
    let (certain, doubtful): (Vec<_>, Vec<_>) = found.resources.iter().partition(|resource| resource.certain);
    for resource in &certain {
        text += &block(resource, environment, found.writer);
    }
    text += &mirror(&certain, environment);
    if certain.is_empty() {
        text += &format!(
            "\n# Nothing was found that can be protected. This is what it looks like:\n\
             # [environments.{environment}.resources.db]\n# kind = \"sqlite\"          # or postgres, files, env\n# path = \"./app.db\"\n"
        );
    }
    for resource in doubtful {
        text += &format!("\n# {} {}; take the # away when it is not.\n", resource.place(), resource.about);
        text += &commented(&block(resource, environment, Writer::Unknown));
    }
    if !found.not_yet.is_empty() {
        text += "\n# Found as well, and NOT PROTECTED by this release:\n";
        for what in &found.not_yet {
            text += &format!("#   {}\n", one_line(what));
        }
        text += "# Go on backing these up the way you do now.\n";
    }
    text
}

/// Where there is one SQLite file, and a database that could follow it.
fn mirror(certain: &[&FoundResource], environment: &str) -> String {
    let of_kind = |kind: &'static str| certain.iter().filter(move |resource| resource.kind == kind);
    let files: Vec<_> = of_kind("sqlite").collect();
    let server = of_kind("postgres").find_map(|resource| Some((resource, resource.variable.as_ref()?)));
    let ([file], Some((server, variable))) = (files.as_slice(), server) else { return String::new() };
    let (env_file, more) = match server.path.as_os_str().is_empty() {
        true => (String::new(), String::new()),
        false => {
            let path = quoted(&server.path.to_string_lossy());
            (
                format!(", env_file = {path}"),
                format!("# env_file = {path}      # SYNC_ENABLED, ENABLE_SUPABASE, SYNC_BATCH_SIZE\n"),
            )
        }
    };
    format!(
        "\n# The database {variable} can follow the SQLite file (docs/sync.md). When it is meant to, take the # away, and run\n\
         # lifeboat sync attach --dry-run.\n\
         # [environments.{}.links.cloud]\n# from = {}\n# url_from = {{ env = \"{variable}\"{env_file} }}\n{more}",
        key(environment),
        quoted(&file.name),
    )
}

fn block(resource: &FoundResource, environment: &str, writer: Writer) -> String {
    let FoundResource { name, kind, path, variable, .. } = resource;
    let path = quoted(&path.to_string_lossy());
    let place = match variable {
        None if *kind == "postgres" => format!("url = {path}"),
        None => format!("path = {path}"),
        Some(variable) if resource.path.as_os_str().is_empty() => format!("url_from = {{ env = \"{variable}\" }}"),
        Some(variable) => format!("url_from = {{ env = \"{variable}\", env_file = {path} }}"),
    };
    let mut text =
        format!("\n[environments.{}.resources.{}]\nkind = \"{kind}\"\n{place}\n", key(environment), key(name));
    if *kind == "postgres" {
        text += "# schemas = [\"public\"]                   # default: all; on Supabase the app's, auth and storage\n\
                 # critical_tables = [\"orders\"]           # tables that must be there and must not be empty\n\
                 # checks.recent = { sql = \"select count(*) from orders\", min = 1 }\n";
    }
    if *kind == "sqlite" {
        let (stop, start) = match writer {
            Writer::Compose => ("[\"docker\", \"compose\", \"stop\"]", "[\"docker\", \"compose\", \"start\"]"),
            Writer::Pm2 => ("[\"pm2\", \"stop\", \"all\"]", "[\"pm2\", \"start\", \"all\"]"),
            Writer::Unknown => ("[\"systemctl\", \"stop\", \"app\"]", "[\"systemctl\", \"start\", \"app\"]"),
        };
        text += &format!(
            "# stop = {stop}      # what stops its writer for the moment of a restore;\n\
             # start = {start}    # without both, a restore is refused while it is running\n\
             # critical_tables = [\"orders\"]           # tables that must be there and must not be empty\n\
             # may_be_empty = [\"carts\"]               # tables in which no rows are fine; \"*\" for any\n\
             # checks.recent = {{ sql = \"select count(*) from orders\", min = 1 }}\n"
        );
    }
    if *kind == "files" {
        text += "# exclude = [\"*.tmp\"]\n";
    }
    text
}

fn commented(text: &str) -> String {
    let line =
        |line: &str| if line.is_empty() || line.starts_with('#') { String::new() } else { format!("# {line}\n") };
    text.lines().map(line).collect()
}

/// A TOML string.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// A TOML key; one with a dot in it needs quotes.
fn key(name: &str) -> String {
    let bare = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if bare { name.to_owned() } else { quoted(name) }
}

fn one_line(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}
