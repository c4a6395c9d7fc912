//! Looking around: what is here that holds state. Files are known by what is in them, not by what they are called. Values of
//! variables are looked at and never repeated.

use std::{
    collections::BTreeSet,
    io::Read,
    path::{Path, PathBuf},
};

use lifeboat_io::{Io, files};
use lifeboat_model::{Failure, FailureKind};
use serde::Serialize;
use serde_json::Value;

use super::{free_name, servers::Addresses};
use crate::{
    secrets::variables,
    settings::{names::made_fit, plain_path},
};

/// How deep below the folder files are looked at.
const DEPTH_MAX: usize = 5;
/// How many entries are looked at, in all.
const ENTRIES_MAX: usize = 20_000;
/// How many databases are listed.
const DATABASES_MAX: usize = 20;
/// The largest text file that is read.
const TEXT_BYTES_MAX: u64 = 1 << 20;
/// Folders that hold nothing of the app's own.
const SKIPPED: &[&str] = &[
    "node_modules",
    ".git",
    "target",
    "vendor",
    "dist",
    "build",
    ".next",
    ".nuxt",
    ".svelte-kit",
    ".venv",
    "venv",
    "__pycache__",
    ".cache",
    ".turbo",
    ".vercel",
    ".idea",
    ".vscode",
    "coverage",
    "lifeboat-vault",
];
/// Folders of uploads, by the names frameworks give them.
const UPLOADS: &[&str] = &["uploads", "public/uploads", "media", "storage/app", "data/uploads"];

/// What was found in a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The app's name.
    pub app: String,
    /// What can be protected.
    pub resources: Vec<FoundResource>,
    /// What cannot be protected yet, one sentence each.
    pub not_yet: Vec<String>,
    /// What seems to run the app.
    pub writer: Writer,
}

/// Something that can be protected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FoundResource {
    /// The name it gets.
    pub name: String,
    /// `sqlite`, `postgres`, `files` or `env`.
    pub kind: &'static str,
    /// Where it is, relative to the folder. Of a database on a server: the file of variables that has its address, or
    /// nothing when the variable was set.
    pub path: PathBuf,
    /// Of a database on a server: the variable with its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variable: Option<String>,
    /// What led to it.
    pub about: String,
    /// Whether it is the app's own; copies and caches are written as comments.
    pub certain: bool,
}

impl FoundResource {
    /// For people: `./shop.db`, `DATABASE_URL in ./.env`.
    pub fn place(&self) -> String {
        match &self.variable {
            None => self.path.display().to_string(),
            Some(variable) if self.path.as_os_str().is_empty() => format!("the variable {variable}"),
            Some(variable) => format!("{variable} in {}", self.path.display()),
        }
    }
}

/// What seems to run the app, for an example of stop and start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Writer {
    /// A compose file.
    Compose,
    /// A PM2 file.
    Pm2,
    /// Nothing that we know.
    #[default]
    Unknown,
}

/// Looks around in a folder.
///
/// # Errors
/// When the folder itself cannot be read; parts of it that cannot are left out.
pub fn look(folder: &Path, environment: &str, io: &Io) -> Result<Found, Failure> {
    files::can_read(folder).map_err(|error| Failure::from_error(FailureKind::Refused, &error))?;
    let mut found = Found { app: app_name(folder), ..Found::default() };
    let mut addresses = Addresses::default();
    let variables = variables_of(folder, &mut found, &mut addresses);
    addresses.of_process(io);
    addresses.tell(environment, &mut found);
    databases(folder, &variables, &mut found);
    uploads(folder, &mut found);
    services(folder, &mut found);
    Ok(found)
}

fn app_name(folder: &Path) -> String {
    let package = text(&folder.join("package.json")).and_then(|text| serde_json::from_str::<Value>(&text).ok());
    let named = package
        .and_then(|package| package["name"].as_str().map(|name| name.rsplit('/').next().unwrap_or(name).to_owned()));
    let own = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    made_fit(named.as_deref().unwrap_or(&own), &made_fit(&own, "app"))
}

/// Files of variables become resources. Returns the paths of SQLite files that variables name.
fn variables_of(folder: &Path, found: &mut Found, addresses: &mut Addresses) -> Vec<PathBuf> {
    let mut named = Vec::new();
    for path in files::list_folder(folder).unwrap_or_default() {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_template = [".example", ".sample", ".template", ".dist", ".vault"].iter().any(|end| name.ends_with(end));
        let is_copy = [".bak", ".backup", ".old", "~"].iter().any(|end| name.ends_with(end));
        if !(name == ".env" || name.starts_with(".env.")) || is_template || !is_file(&path) {
            continue;
        }
        let resource = FoundResource {
            name: free_name(&name, "env", &found.resources),
            kind: "env",
            path: PathBuf::from(".").join(&name),
            variable: None,
            about: if is_copy { "looks like a copy".to_owned() } else { String::new() },
            certain: !is_copy,
        };
        found.resources.push(resource);
        for (key, value) in variables::assignments(&text(&path).unwrap_or_default()) {
            let plain = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if plain && !value.is_empty() && !addresses.is_one(key, &value, (!is_copy).then_some(name.as_str())) {
                variable((key, &value), &name, folder, found, &mut named);
            }
        }
    }
    named
}

/// One variable of a file: a database file or a bucket it leads to.
fn variable((key, value): (&str, &str), file: &str, folder: &Path, found: &mut Found, named: &mut Vec<PathBuf>) {
    let scheme = value.split(':').next().unwrap_or_default();
    let mut not_yet = |what: &str| {
        let sentence = format!("{key} in {file} names {what}");
        if !found.not_yet.contains(&sentence) {
            found.not_yet.push(sentence);
        }
    };
    match scheme {
        "mysql" | "mariadb" => not_yet("a MySQL database"),
        "mongodb" | "mongodb+srv" => not_yet("a MongoDB database"),
        "s3" => not_yet("a bucket"),
        "file" | "sqlite" | "sqlite3" if key.contains("DATABASE") || key.contains("DB") || key.contains("SQLITE") => {
            let rest = value.split_once(':').map_or("", |(_, rest)| rest);
            let path = rest.strip_prefix("//").unwrap_or(rest).split('?').next().unwrap_or_default();
            if !path.is_empty() && path != ":memory:" {
                // Prisma counts from the folder of its schema, everybody else from here.
                named.extend([folder.join(path), folder.join("prisma").join(path)]);
            }
        }
        _ if key.ends_with("BUCKET") || key.ends_with("BUCKET_NAME") => not_yet("a bucket"),
        _ if key.starts_with("SUPABASE") && key.ends_with("URL") => not_yet("a Supabase project"),
        _ => {}
    }
}

/// SQLite files, wherever they lie within reach.
fn databases(folder: &Path, named: &[PathBuf], found: &mut Found) {
    let mut walk = Walk { entries: 0, databases: BTreeSet::new() };
    walk.enter(folder, 0);
    walk.databases.extend(named.iter().map(|path| plain_path(path)).filter(|path| is_database(path)));
    let several = walk.databases.iter().filter(|path| !looks_like_copy(path, folder)).count() > 1;
    for path in walk.databases {
        let is_copy = looks_like_copy(&path, folder);
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let wish = if several || is_copy { stem.as_str() } else { "db" };
        let resource = FoundResource {
            name: free_name(wish, "db", &found.resources),
            kind: "sqlite",
            path: path.strip_prefix(folder).map_or_else(|_| path.clone(), |inside| Path::new(".").join(inside)),
            variable: None,
            about: if is_copy { "looks like a copy or a cache".to_owned() } else { String::new() },
            certain: !is_copy,
        };
        found.resources.push(resource);
    }
    if walk.entries >= ENTRIES_MAX {
        found.not_yet.push(format!("only the first {ENTRIES_MAX} entries of this folder were looked at"));
    }
}

struct Walk {
    entries: usize,
    databases: BTreeSet<PathBuf>,
}

impl Walk {
    fn enter(&mut self, folder: &Path, depth: usize) {
        // What cannot be listed holds nothing that could be backed up.
        for path in files::list_folder(folder).unwrap_or_default() {
            self.entries += 1;
            if self.entries > ENTRIES_MAX || self.databases.len() >= DATABASES_MAX {
                return;
            }
            let Ok(kind) = path.symlink_metadata().map(|facts| facts.file_type()) else { continue };
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if kind.is_dir() && depth < DEPTH_MAX && !SKIPPED.contains(&name.as_ref()) && !is_vault(&path) {
                self.enter(&path, depth + 1);
            } else if kind.is_file() && is_database(&path) {
                self.databases.insert(path);
            }
        }
    }
}

fn is_vault(folder: &Path) -> bool {
    ["config", "keys", "snapshots"].iter().all(|part| files::exists(&folder.join(part)))
}

/// Whether a file begins as every SQLite database does.
fn is_database(path: &Path) -> bool {
    let mut begin = [0; 16];
    is_file(path)
        && files::open(path).is_ok_and(|mut file| file.read_exact(&mut begin).is_ok())
        && &begin == b"SQLite format 3\0"
}

/// A symbolic link, a pipe or a socket is no file here: opening it might never end.
fn is_file(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|facts| facts.file_type().is_file())
}

fn looks_like_copy(path: &Path, folder: &Path) -> bool {
    let inside = path.strip_prefix(folder).unwrap_or(path).to_string_lossy().to_ascii_lowercase();
    let words = ["backup", ".bak", "copy", ".old", "corrupt", "cache", "test", "fixture", "tmp", "~"];
    words.iter().any(|word| inside.contains(word))
}

fn uploads(folder: &Path, found: &mut Found) {
    for place in UPLOADS.iter().filter(|place| folder.join(place).is_dir()) {
        let last = place.rsplit('/').next().unwrap_or(place);
        let resource = FoundResource {
            name: free_name(last, "files", &found.resources),
            kind: "files",
            path: Path::new(".").join(place),
            variable: None,
            about: String::new(),
            certain: true,
        };
        found.resources.push(resource);
    }
}

/// What else tells about state: services that hold it, hosts that run the app.
fn services(folder: &Path, found: &mut Found) {
    // What its address was found for is no news.
    let has_server = found.resources.iter().any(|resource| resource.kind == "postgres");
    let mut not_yet = |sentence: String| {
        if !found.not_yet.contains(&sentence) {
            found.not_yet.push(sentence);
        }
    };
    if folder.join("supabase").is_dir() {
        not_yet(match has_server {
            true => "supabase/ is here: a Supabase project, with its storage buckets".to_owned(),
            false => {
                "supabase/ is here: a Supabase project, with its PostgreSQL database and its storage buckets".to_owned()
            }
        });
    }
    let prisma = text(&folder.join("prisma/schema.prisma")).unwrap_or_default();
    for (provider, what) in
        [("postgresql", "a PostgreSQL database"), ("mysql", "a MySQL database"), ("mongodb", "a MongoDB database")]
    {
        let is_named =
            |line: &str| line.trim_start().starts_with("provider") && line.contains(&format!("\"{provider}\""));
        if prisma.lines().any(is_named) && !(has_server && *provider == *"postgresql") {
            not_yet(format!("prisma/schema.prisma describes {what}"));
        }
    }
    if let Some(fly) = text(&folder.join("fly.toml")).and_then(|text| text.parse::<toml::Table>().ok()) {
        let app = fly
            .get("app")
            .and_then(toml::Value::as_str)
            .map(|app| format!(" ({})", made_fit(app, "?")))
            .unwrap_or_default();
        let volume = if fly.contains_key("mounts") { ", which has a volume there" } else { "" };
        not_yet(format!("fly.toml is here: the app runs on Fly.io{app}{volume}; run lifeboat where its files are"));
    }
    let names = ["compose.yml", "compose.yaml", "docker-compose.yml", "docker-compose.yaml"];
    for name in names.iter().filter(|name| files::exists(&folder.join(name))) {
        found.writer = Writer::Compose;
        let compose = text(&folder.join(name)).unwrap_or_default();
        let images = compose
            .lines()
            .filter_map(|line| line.trim().strip_prefix("image:"))
            .map(|image| image.trim().trim_matches(['"', '\'']));
        for image in images {
            let program = image.split(['@', ':']).next().unwrap_or(image).rsplit('/').next().unwrap_or(image);
            let what = match program {
                "postgres" | "postgis" | "timescaledb" | "pgvector" if has_server => continue,
                "postgres" | "postgis" | "timescaledb" | "pgvector" => "a PostgreSQL database",
                "mysql" | "mariadb" => "a MySQL database",
                "minio" => "buckets",
                "redis" | "valkey" => "a Redis database",
                "mongo" => "a MongoDB database",
                _ => continue,
            };
            let sentence = format!("{name} runs {program}: {what}");
            if !found.not_yet.contains(&sentence) {
                found.not_yet.push(sentence);
            }
        }
    }
    let pm2 = ["ecosystem.config.js", "ecosystem.config.cjs", "pm2.config.js"];
    if found.writer == Writer::Unknown && pm2.iter().any(|name| files::exists(&folder.join(name))) {
        found.writer = Writer::Pm2;
    }
}

/// A text file of reasonable size.
fn text(path: &Path) -> Option<String> {
    let small = path.is_file() && files::size(path).is_ok_and(|size| size <= TEXT_BYTES_MAX);
    small.then(|| files::read_text(path).ok()).flatten()
}
