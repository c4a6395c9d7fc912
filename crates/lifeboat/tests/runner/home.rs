//! A sealed home for one test: its own folders, its own environment, a shop to protect.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use lifeboat_model::ExitCode;
use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;

/// The password of every vault here.
pub const PASSWORD: &str = "a password that must never be shown";

/// A home with an app in it.
pub struct Home {
    folder: TempDir,
}

impl Home {
    /// An app with a database of 40 orders and an empty table, and settings for it.
    pub fn shop() -> Home {
        let home = Home::bare();
        home.write(
            "lifeboat.toml",
            "version = 1\n[app]\nname = \"shop\"\n[vault]\nlocation = \"./vault\"\n\
             password = { env = \"LIFEBOAT_VAULT_PASSWORD\" }\n\
             [environments.local.resources.db]\nkind = \"sqlite\"\npath = \"./shop.db\"\nmay_be_empty = [\"empty\"]\n",
        );
        home
    }

    /// The same without settings.
    pub fn bare() -> Home {
        let home = Home { folder: tempfile::tempdir().unwrap() };
        std::fs::create_dir(home.app()).unwrap();
        let db = home.db();
        db.execute_batch(
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, what TEXT NOT NULL, created_at TEXT NOT NULL);
             CREATE TABLE \"quote\"\"d\n🦀\" (a); INSERT INTO \"quote\"\"d\n🦀\" VALUES (1);
             CREATE TABLE empty (a);
             CREATE TABLE pictures (a BLOB); INSERT INTO pictures VALUES (randomblob(100000));",
        )
        .unwrap();
        sell(&db, 40);
        home
    }

    /// A shop with one backup; its id comes with it.
    pub fn protected() -> (Home, String) {
        let home = Home::shop();
        let backup = home.backup();
        (home, backup)
    }

    /// Takes a backup and gives its id.
    pub fn backup(&self) -> String {
        let told = self.run(&["backup", "--json"]).ends(ExitCode::Ok).json();
        told["backups"][0]["id"].as_str().unwrap().to_owned()
    }

    /// The app's folder, in which commands run.
    pub fn app(&self) -> PathBuf {
        self.folder.path().join("app")
    }

    /// The folder of journals.
    pub fn journals(&self) -> PathBuf {
        self.path("state/lifeboat/shop/operations")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.app().join(name)
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub fn db(&self) -> Connection {
        Connection::open(self.path("shop.db")).unwrap()
    }

    pub fn sell(&self, orders: u32) {
        sell(&self.db(), orders);
    }

    pub fn orders(&self) -> u32 {
        self.db().query_row("SELECT count(*) FROM orders", [], |row| row.get(0)).unwrap()
    }

    /// The program, ready to be started in the app's folder and in no environment but this home's.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
        command.args(args).current_dir(self.app()).stdin(Stdio::null()).env_clear();
        command.env("HOME", self.folder.path()).env("XDG_STATE_HOME", self.path("state"));
        command.env("LIFEBOAT_VAULT_PASSWORD", PASSWORD).env("TZ", "UTC").env("USER", "tester");
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
    }

    /// Runs the program.
    pub fn run(&self, args: &[&str]) -> Ran {
        self.ran(args, self.command(args).output().unwrap())
    }

    /// What a command that was started elsewhere has come to.
    pub fn ran(&self, args: &[&str], output: Output) -> Ran {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ran {
            typed: args.join(" "),
            code: output.status.code(),
            out: text(output.stdout),
            err: text(output.stderr),
            home: self.folder.path().to_owned(),
        }
    }

    /// Every file below the home with its content: to see that nothing was touched.
    pub fn everything(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        collect(self.folder.path(), &mut found);
        found.sort();
        found
    }
}

/// All files below a folder with their contents. The index over journals, and lock notes, are no one's data.
pub fn collect(folder: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            collect(&path, found);
        } else if !name.starts_with("lifeboat.db") {
            found.push((path.clone(), std::fs::read(&path).unwrap()));
        }
    }
}

pub fn sell(db: &Connection, orders: u32) {
    for number in 0..orders {
        db.execute("INSERT INTO orders (what, created_at) VALUES (?1, datetime('now'))", [format!("thing {number}")])
            .unwrap();
    }
}

/// What a command said and ended with.
#[derive(Debug)]
pub struct Ran {
    pub typed: String,
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
    home: PathBuf,
}

impl Ran {
    /// It ended with this code. What it said is shown when not; and no output ever holds the password.
    #[track_caller]
    pub fn ends(self, code: ExitCode) -> Ran {
        let Ran { typed, out, err, .. } = &self;
        assert_eq!(self.code, Some(code as i32), "lifeboat {typed}\n--- stdout\n{out}\n--- stderr\n{err}");
        assert!(!out.contains(PASSWORD) && !err.contains(PASSWORD), "lifeboat {typed} shows the password");
        self
    }

    /// All of this was said, on either stream.
    #[track_caller]
    pub fn says(self, parts: &[&str]) -> Ran {
        let said = format!("{}\n{}", self.out, self.err);
        for part in parts {
            assert!(said.contains(part), "lifeboat {} should say: {part}\nbut said:\n{said}", self.typed);
        }
        self
    }

    /// The one document on standard output.
    #[track_caller]
    pub fn json(&self) -> Value {
        let lines: Vec<&str> = self.out.lines().collect();
        assert_eq!(lines.len(), 1, "lifeboat {} should print one document:\n{}\n{}", self.typed, self.out, self.err);
        assert!(lines[0].starts_with("{\"schema\":\"lifeboat/"), "{}", self.out);
        serde_json::from_str(lines[0]).unwrap()
    }

    /// Standard output without what differs from run to run.
    pub fn masked(&self) -> String {
        mask(&self.out, &self.home)
    }

    /// Standard error without what differs from run to run.
    pub fn masked_err(&self) -> String {
        mask(&self.err, &self.home)
    }
}

/// Takes ids, times, numbers of bytes and seconds, places and widths out of a text.
fn mask(text: &str, home: &Path) -> String {
    let text = text.replace(&home.canonicalize().unwrap().display().to_string(), "~");
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let next = |at: usize| words.get(at + 1).map_or("", |word| word.trim_end_matches([',', '.', ';', ':', ')']));
        let word = |at: usize| match next(at) {
            "s" | "B" | "KiB" | "MiB" if words[at].trim_start_matches('(').parse::<f64>().is_ok() => "N".to_owned(),
            _ => mask_word(words[at]),
        };
        (0..words.len()).map(word).collect::<Vec<_>>().join(" ")
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn mask_word(word: &str) -> String {
    let mut out = String::new();
    let mut rest = word;
    while let Some(letter) = rest.chars().next() {
        let id = ["b-", "o-", "p-", "t-"].iter().find(|prefix| {
            let digits = |text: &str| text.bytes().take_while(|byte| byte.is_ascii_alphanumeric()).count();
            rest.strip_prefix(**prefix).is_some_and(|tail| digits(tail) == 10)
        });
        if let Some(prefix) = id {
            out += &format!("{prefix}ID");
            rest = &rest[12..];
            continue;
        }
        let letter_out = if letter.is_ascii_digit() && is_time(word) { '#' } else { letter };
        // Fractions of seconds are shown without zeros at their end.
        if letter_out != '#' || !out.ends_with('#') {
            out.push(letter_out);
        }
        rest = &rest[letter.len_utf8()..];
    }
    out
}

fn is_time(word: &str) -> bool {
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    digits >= 4 && (word.contains(':') || word.contains("2026-") || word.contains(".20"))
}
