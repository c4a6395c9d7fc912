//! What every command has at hand: the doors, the words that hold everywhere, and the engine of what is meant.

use std::sync::OnceLock;

use jiff::tz::TimeZone;
use lifeboat_engine::{Engine, Setup};
use lifeboat_io::Io;
use lifeboat_model::{Failure, FailureKind, OperationId, ResourceName};

use crate::{
    cli::GlobalArgs,
    settings::{self, Resolved},
    ui::{
        Ui,
        words::{quoted, sentence},
    },
    wire,
};

/// What every command has at hand.
pub struct App {
    /// The doors.
    pub io: Io,
    /// Where answers go.
    pub ui: Ui,
    /// The command as it was typed.
    pub typed: String,
    /// What every command understands.
    pub global: GlobalArgs,
    /// What has to be typed again behind every further command, once that is known.
    pub again: OnceLock<String>,
}

/// The engine of what a command is about.
pub struct Session {
    /// The engine.
    pub engine: Engine,
    /// The zone that people's times are meant in.
    pub zone: TimeZone,
    /// The resources that were named, by their names.
    pub named: Vec<ResourceName>,
}

impl App {
    /// The engine of what is meant: by the settings, or by the words alone.
    ///
    /// # Errors
    /// No settings and nothing named; settings that cannot be used; an environment that is not named.
    pub fn open(&self, named: &[String]) -> Result<Session, Failure> {
        self.open_saying(named, &|_setup| ())
    }

    /// The same, with something more that the command says.
    ///
    /// # Errors
    /// As [`App::open`].
    pub fn open_saying(&self, named: &[String], say: &dyn Fn(&mut Setup)) -> Result<Session, Failure> {
        // With `--for`, a resource may also be named by the name that its path gives it.
        let about = &self.global.about;
        let by_path = |word: &&String| about.is_empty() || is_path(word);
        let mut all: Vec<String> = named.iter().filter(by_path).cloned().collect();
        all.extend(about.iter().filter(|word| !named.contains(word)).cloned());
        let mut resolved = settings::resolve(&self.global, &all, &self.io)?;
        say(&mut resolved.setup);
        if resolved.setup.resources.is_empty() && resolved.file.is_none() {
            let failure = Failure::new(FailureKind::Usage, "nobody has said what this is about");
            return Err(failure.hint("name it, or write a lifeboat.toml: --for sqlite:./shop.db, or lifeboat init"));
        }
        self.session(&resolved, named, &all)
    }

    /// The engine for what concerns the vault itself, which needs no resource.
    ///
    /// # Errors
    /// As [`App::open`].
    pub fn open_vault(&self) -> Result<Session, Failure> {
        let resolved = settings::resolve(&self.global, &self.global.about, &self.io)?;
        self.session(&resolved, &[], &self.global.about)
    }

    fn session(&self, resolved: &Resolved, named: &[String], all: &[String]) -> Result<Session, Failure> {
        resolved.warnings.iter().for_each(|warning| self.ui.talk(&format!("{}\n", sentence(warning))));
        let mut again = self.global_words();
        if resolved.file.is_none() {
            for (one, resource) in all.iter().zip(&resolved.setup.resources).filter(|(one, _)| is_path(one)) {
                // An address may have a password in it, which is not shown again.
                let shown = if resource.kind.path().is_some() { one.clone() } else { resource.kind.place() };
                again += &format!(" --for {}", quoted(&shown));
            }
        }
        let _ = self.again.set(again);
        let zone = zone(resolved)?;
        let engine = wire::engine(resolved, &self.io)?;
        let named = named.iter().map(|one| name_of(&engine, one, all)).collect::<Result<_, _>>()?;
        Ok(Session { engine, zone, named })
    }

    /// The words of this command that the next one needs too. What comes from the environment stays there.
    fn global_words(&self) -> String {
        let mut words = String::new();
        let mut add = |name: &str, value: Option<String>, variable: &str| {
            if let Some(value) = value.filter(|_| variable.is_empty() || self.io.env.var(variable).is_none()) {
                words += &format!(" {name} {}", quoted(&value));
            }
        };
        let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.display().to_string());
        add("--config", path(&self.global.config), "LIFEBOAT_CONFIG");
        add("--env", self.global.environment.clone(), "");
        add("--vault", self.global.vault.clone(), "");
        add("--state", path(&self.global.state), "LIFEBOAT_STATE");
        words
    }

    /// What has to be typed behind a further command, with a space in front; nothing usually.
    pub fn again(&self) -> &str {
        self.again.get().map_or("", String::as_str)
    }

    /// A hint, with what has to be typed again where it names a command.
    pub fn with_again(&self, hint: &str) -> String {
        let again = self.again();
        // What was typed is in it already.
        if again.is_empty() || !hint.contains("lifeboat ") || hint.contains(again.trim()) || hint.contains(&self.typed)
        {
            return hint.to_owned();
        }
        format!("{hint} (with{again})")
    }

    /// Who asks.
    pub fn by(&self) -> String {
        self.io.env.user()
    }
}

/// Whether a resource is named by its kind and path, as settings read it.
fn is_path(word: &str) -> bool {
    ["sqlite:", "files:", "env:", "postgres:", "postgresql:"].iter().any(|kind| word.starts_with(kind))
}

fn zone(resolved: &Resolved) -> Result<TimeZone, Failure> {
    let Some(name) = &resolved.timezone else { return Ok(TimeZone::system()) };
    TimeZone::get(name).map_err(|error| {
        Failure::from_error(FailureKind::Usage, &error).while_doing(format!("the time zone {name:?} is not known"))
    })
}

/// The name of a resource: as it stands in the settings, or of what `sqlite:PATH` means.
fn name_of(engine: &Engine, word: &str, all: &[String]) -> Result<ResourceName, Failure> {
    let resources = &engine.setup().resources;
    if is_path(word) {
        let position = all.iter().position(|one| one == word);
        if let Some(resource) = position.and_then(|at| resources.get(at)) {
            return Ok(resource.name.clone());
        }
    }
    let name = ResourceName::new(word).map_err(|error| Failure::from_error(FailureKind::Usage, &error))?;
    engine.setup().resource(&name).map(|resource| resource.name.clone())
}

impl Session {
    /// The operation that a person means, or the one that suggests itself: not over, else the newest.
    ///
    /// # Errors
    /// When there is none.
    pub fn operation(&self, start: Option<&str>) -> Result<OperationId, Failure> {
        if let Some(start) = start {
            return self.operation_named(start);
        }
        let scope = self.engine.setup().scope.to_string();
        let mine = || -> Result<_, Failure> {
            Ok(self.engine.look().operations(usize::MAX)?.into_iter().filter(|row| row.scope == scope))
        };
        let open = mine()?.find(|row| !row.closed);
        let found = match open {
            Some(row) => Some(row),
            None => mine()?.next(),
        };
        found.map(|row| row.id).ok_or_else(|| {
            Failure::new(FailureKind::Refused, format!("nothing has been done in {scope} yet")).hint("lifeboat backup")
        })
    }

    /// The operation of this id, or of this beginning of one. A whole id is taken as it is: its journal may be damaged and
    /// not on the list.
    ///
    /// # Errors
    /// When it means none, or several.
    pub fn operation_named(&self, start: &str) -> Result<OperationId, Failure> {
        OperationId::parse(start).or_else(|_short| self.engine.look().find_operation(start))
    }
}
