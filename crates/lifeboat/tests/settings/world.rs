//! A folder with a settings file, doors that a test controls, and the commands run in it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use lifeboat::{
    cli::{ConfigArgs, ConfigCommand, DoctorArgs, GlobalArgs, InitArgs, JsonMode},
    commands::{config, doctor, init},
    settings::{Resolved, resolve},
};
use lifeboat_io::{
    Io, SystemClock, SystemExec, SystemRandom,
    testing::{MapEnv, ScriptedExec},
};
use lifeboat_model::{ExitCode, Failure};

/// A secret that must not turn up anywhere.
pub const CANARY: &str = "canary-hunter2-canary";

pub struct World {
    pub home: tempfile::TempDir,
    pub io: Io,
    pub global: GlobalArgs,
}

impl World {
    /// An empty folder, a PATH with the usual programs, a state folder of its own.
    pub fn new() -> World {
        let home = tempfile::tempdir().unwrap();
        let state = home.path().join("state-home");
        let env = MapEnv::new([
            ("XDG_STATE_HOME", state.to_str().unwrap().to_owned()),
            ("PATH", "/usr/local/bin:/usr/bin:/bin".to_owned()),
        ]);
        let io = Io {
            clock: Arc::new(SystemClock::default()),
            random: Arc::new(SystemRandom),
            env: Arc::new(env),
            exec: Arc::new(SystemExec),
        };
        World { home, io, global: GlobalArgs::default() }
    }

    /// A folder with this settings file.
    pub fn with(settings: &str) -> World {
        let mut world = World::new();
        world.write("lifeboat.toml", settings);
        world.global.config = Some(world.path("lifeboat.toml"));
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A database with one table of two rows.
    pub fn database(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let db = rusqlite::Connection::open(&path).unwrap();
        db.execute_batch(
            "CREATE TABLE orders(id INTEGER PRIMARY KEY, what TEXT); INSERT INTO orders(what) VALUES ('a'), ('b');",
        )
        .unwrap();
        path
    }

    /// Sets a variable.
    pub fn var(&mut self, name: &str, value: &str) {
        let known = [
            "XDG_STATE_HOME",
            "PATH",
            "HOME",
            "LIFEBOAT_VAULT_PASSWORD",
            "LIFEBOAT_VAULT",
            "LIFEBOAT_STATE",
            "LIFEBOAT_CONFIG",
            "SHOP_PASSWORD",
        ];
        let mut env = MapEnv::new(known.iter().filter_map(|known| Some((*known, self.io.env.var(known)?))));
        env.vars.insert(name.to_owned(), value.into());
        self.io.env = Arc::new(env);
    }

    pub fn exec(&mut self, exec: ScriptedExec) {
        self.io.exec = Arc::new(exec);
    }

    pub fn resolve(&self, named: &[&str]) -> Result<Resolved, Failure> {
        let named: Vec<String> = named.iter().map(|name| (*name).to_owned()).collect();
        resolve(&self.global, &named, &self.io)
    }

    pub fn config(&self, command: ConfigCommand) -> (Result<ExitCode, Failure>, String) {
        told(|out| config::run(&self.global, &ConfigArgs { command }, &self.io, out))
    }

    pub fn doctor(&self) -> (Result<ExitCode, Failure>, String) {
        let DoctorArgs {} = DoctorArgs {};
        told(|out| doctor::run(&self.global, &self.io, out))
    }

    /// `init` into this folder.
    pub fn init(&mut self, dry_run: bool) -> (Result<ExitCode, Failure>, String) {
        self.global.config = Some(self.path("lifeboat.toml"));
        let args = InitArgs { resources: Vec::new(), app: None, dry_run };
        told(|out| init::run(&self.global, &args, &self.io, out))
    }

    pub fn json(&mut self) -> &mut World {
        self.global.json = Some(JsonMode::Document);
        self
    }
}

fn told(run: impl FnOnce(&mut Vec<u8>) -> Result<ExitCode, Failure>) -> (Result<ExitCode, Failure>, String) {
    let mut out = Vec::new();
    let code = run(&mut out);
    (code, String::from_utf8(out).unwrap())
}

/// Everything a person or a program would see of a failure.
pub fn everything_of(failure: &Failure) -> String {
    format!("{failure}\n{}\n{}", failure.hint.clone().unwrap_or_default(), serde_json::to_string(failure).unwrap())
}

/// The workspace's folder.
pub fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}
