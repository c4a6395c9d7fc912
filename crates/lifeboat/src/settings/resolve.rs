//! What is in effect: flag before environment variable before file before default, and where each value comes from.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use lifeboat_engine::{Setup, Upstream};
use lifeboat_io::{Io, files};
use lifeboat_model::{
    Duration, Elsewhere, Failure, FailureKind, Keep, Resource, ResourceKind, ResourceName, Scope, SqlCheck, Writer,
};
use serde::{Serialize, Serializer};

use super::{
    BudgetSettings, EnvironmentSettings, KeepSettings, KindSettings, Loaded, PasswordSettings, ResourceSettings,
    Settings, Span, absolute,
    by_path::{address_in, by_path, kind_and_path},
    copies::Second,
    links, matrix,
    names::nearest,
    servers, targets,
};
use crate::{
    cli::GlobalArgs,
    outside,
    secrets::{self, HIDDEN, PASSWORD_VARIABLE, PasswordSource, Passwords, ServerPassword},
};

/// The environment of a resource that is named by its path, without a settings file.
const ENVIRONMENT_WITHOUT_FILE: &str = "local";

/// The environment in which a backup has to be rehearsed before it is restored, unless its settings say otherwise.
const PRODUCTION: &str = "production";

/// Within which time an app behind the gateway has to begin to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Everything that one command works with.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// One environment of one app. Its vault is empty when nobody has named one.
    pub setup: Setup,
    /// Where Lifeboat keeps its own things on this host.
    pub state: PathBuf,
    /// Where the passwords of vaults come from.
    pub passwords: Passwords,
    /// The settings file, when there is one.
    pub file: Option<PathBuf>,
    /// The time zone in which times are shown; UTC when there is none.
    pub timezone: Option<String>,
    /// Every value in effect, in the order of the file.
    pub origins: Vec<Shown>,
    /// What a person should know before going on.
    pub warnings: Vec<String>,
}

/// A value in effect, ready to be shown: secrets are hidden already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// Its dotted key, for example `vault.location`.
    pub key: String,
    /// The value.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A flag of the command.
    Flag(&'static str),
    /// An environment variable.
    Variable(String),
    /// This line of the settings file.
    Line(usize),
    /// Nobody has said anything else.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag(flag) => f.write_str(flag),
            Origin::Variable(name) => f.write_str(name),
            Origin::Line(line) => write!(f, "line {line}"),
            Origin::Default => f.write_str("default"),
        }
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Decides what is in effect for one command. `named` is what it is about: names from the file, or `sqlite:PATH`,
/// `files:PATH`, `env:PATH`, which need no file and ignore one.
///
/// # Errors
/// The file is wrong or there is none; the environment is not said or not known; both ways of naming are mixed.
pub fn resolve(global: &GlobalArgs, named: &[String], io: &Io) -> Result<Resolved, Failure> {
    let mut all: Vec<&String> = named.iter().collect();
    all.extend(global.about.iter().filter(|word| !named.contains(word)));
    let by_path: Vec<Resource> =
        all.iter().filter_map(|word| by_path(word, io).transpose()).collect::<Result<_, _>>()?;
    if !by_path.is_empty() {
        if let Some(name) = all.iter().find(|word| kind_and_path(word).is_none() && address_in(word).is_none()) {
            let message = format!("{} is named by its path and {name} by its name", by_path[0].name);
            return Err(usage(message).hint("name both in the same way"));
        }
        let mut resolved = without_file(global, by_path, io)?;
        for address in all.iter().filter_map(|word| address_in(word)) {
            let server = servers::named(address, &[], io)?;
            if let Some(password) = server.password {
                resolved.passwords.insert_server(server.server, password);
            }
        }
        return Ok(resolved);
    }
    match super::find(global, io)? {
        Some(path) => {
            let loaded = super::read(&path)?;
            let environment = choose_environment(&loaded, global.environment.as_deref())?;
            environment_of(&loaded, &environment, global, io)
        }
        None => {
            let says_where = global.vault.is_some() || global.state.is_some() || io.env.var("LIFEBOAT_VAULT").is_some();
            match all.first() {
                Some(name) => Err(nothing_named(name)),
                // Enough for what concerns the vault itself.
                None if says_where => without_file(global, Vec::new(), io),
                None => Err(no_file()),
            }
        }
    }
}

pub(super) fn usage(message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Usage, message)
}

fn no_file() -> Failure {
    let failure = usage("there is no lifeboat.toml in this folder or above it");
    failure.hint("lifeboat init writes one; without: lifeboat backup sqlite:./app.db --vault ./vault")
}

fn nothing_named(name: &str) -> Failure {
    let message = format!("there is no lifeboat.toml in this folder or above it, so {name} means nothing");
    let hint = if name.contains(['/', '.']) {
        format!("sqlite:{name}, files:{name} or env:{name}")
    } else {
        "lifeboat init writes one; a resource can also be named by its path: sqlite:./app.db".to_owned()
    };
    usage(message).hint(hint)
}

/// The environment that is meant. There is no default to any of several.
fn choose_environment(loaded: &Loaded, wanted: Option<&str>) -> Result<String, Failure> {
    let names: Vec<&str> = loaded.settings.environments.keys().map(String::as_str).collect();
    let list = names.join(", ");
    match wanted {
        Some(wanted) if names.contains(&wanted) => Ok(wanted.to_owned()),
        Some(wanted) => {
            let failure = usage(format!("{} has no environment {wanted}; it has: {list}", loaded.settings.app.name));
            Err(match nearest(wanted, names) {
                Some(meant) => failure.hint(format!("--env {meant}")),
                None => failure,
            })
        }
        None if names.len() == 1 => Ok(names[0].to_owned()),
        None => {
            let message = format!(
                "{} has several environments, and this command needs to know which: {list}",
                loaded.settings.app.name
            );
            Err(usage(message).hint("say --env and its name"))
        }
    }
}

fn without_file(global: &GlobalArgs, resources: Vec<Resource>, io: &Io) -> Result<Resolved, Failure> {
    if let Some(twice) =
        resources.iter().enumerate().find(|(at, one)| resources[..*at].iter().any(|other| other.name == one.name))
    {
        let message = format!("two of these would be called {}", twice.1.name);
        return Err(usage(message).hint("lifeboat init writes a lifeboat.toml, in which each has a name of its own"));
    }
    let app = resources.first().map_or_else(|| "lifeboat".to_owned(), |resource| resource.name.to_string());
    let environment = global.environment.clone().unwrap_or_else(|| ENVIRONMENT_WITHOUT_FILE.to_owned());
    ResourceName::new(environment.as_str()).map_err(|error| usage(error.to_string()))?;
    let mut choice = Choice { global, io, loaded: None, environment: &environment, shown: Vec::new() };
    choice.tell("app.name", &app, Origin::Default);
    let origin = if global.environment.is_some() { Origin::Flag("--env") } else { Origin::Default };
    choice.tell("environment", &environment, origin);
    let here = absolute(Path::new("."))?;
    let mut resolved = choice.common(&app, &here, None, None)?;
    for resource in &resources {
        choice.show_resource(resource);
    }
    resolved.setup.resources = resources;
    resolved.origins = choice.shown;
    Ok(resolved)
}

/// One environment of a file.
///
/// # Errors
/// A path that cannot be made whole, a vault that is no place.
pub fn environment_of(loaded: &Loaded, environment: &str, global: &GlobalArgs, io: &Io) -> Result<Resolved, Failure> {
    let settings = &loaded.settings;
    let own = settings
        .environments
        .get(environment)
        .ok_or_else(|| usage(format!("there is no environment {environment}")))?;
    let folder = files::parent(&loaded.path);
    let mut choice = Choice { global, io, loaded: Some(loaded), environment, shown: Vec::new() };
    choice.tell("app.name", &settings.app.name, choice.line(&["app", "name"]));
    let timezone = settings.app.timezone.clone();
    choice.tell("app.timezone", timezone.as_deref().unwrap_or("UTC"), choice.line(&["app", "timezone"]));
    let origin = match global.environment {
        Some(_) => Origin::Flag("--env"),
        None => choice.line(&["environments", environment]),
    };
    choice.tell("environment", environment, origin);
    let mut resolved = choice.common(&settings.app.name, folder, Some(settings), Some(own))?;
    resolved.timezone = timezone;
    resolved.file = Some(loaded.path.clone());
    resolved.setup.settings_file = Some(loaded.path.clone());
    for (name, what) in &own.resources {
        let (resource, server) = resource_of(name, what, folder, io)?;
        if let Some((server, password)) = server {
            resolved.passwords.insert_server(server, password);
        }
        choice.show_resource(&resource);
        if let Some(swap) = what.swap {
            resolved.setup.swaps.insert(resource.name.clone(), swap.into());
        }
        if !what.roles.is_empty() {
            resolved.setup.roles.insert(resource.name.clone(), what.roles.clone());
        }
        if let Some(scripts) = &what.migrations {
            let ms = |span: &Option<super::Span>, default: u64| {
                span.as_ref().map_or(default, |span| span.length.as_millis() as u64)
            };
            let migrations = lifeboat_model::Migrations {
                folder: outside::plain_path(&absolute(&folder.join(scripts))?),
                lock_timeout_ms: ms(&what.lock_timeout, 3_000),
                statement_timeout_ms: ms(&what.statement_timeout, 120_000),
            };
            resolved.setup.migrations.insert(resource.name.clone(), migrations);
        }
        if what.alias {
            resolved.setup.aliases.push(resource.name.clone());
        }
        if let Some(days) = what.dated_days {
            resolved.setup.dated.insert(resource.name.clone(), days);
        }
        if let Some(to) = &what.send_to {
            let to = Elsewhere::parse(to).map_err(|error| usage(format!("send_to of {name}: {error}")))?;
            let to = Elsewhere { place: outside::place(&to.place, folder)?.location, ..to };
            let line = choice.line(&["environments", environment, "resources", name, "send_to"]);
            choice.tell(&format!("resources.{name}.send_to"), to.to_string(), line);
            resolved.setup.elsewhere.insert(resource.name.clone(), to);
        }
        resolved.setup.resources.push(resource);
    }
    for (name, what) in &own.links {
        let found = links::resolve(name, what, &resolved.setup.resources, folder, io)?;
        if let Some((server, password)) = found.password {
            resolved.passwords.insert_server(server, password);
        }
        for (key, value, origin) in found.shown {
            choice.tell(
                &format!("links.{name}.{key}"),
                value,
                origin.unwrap_or_else(|| choice.line(&["environments", environment, "links", name, &key])),
            );
        }
        resolved.setup.links.push(found.link);
    }
    choice.schedule(settings, own, &mut resolved.setup)?;
    choice.gateway(settings, own, &mut resolved.setup);
    for (name, what) in &own.targets {
        let (target, shown) = targets::resolve(name, what, folder, &resolved.setup.resources)?;
        for (key, value) in shown {
            let line = choice.line(&["environments", environment, "targets", name, &key]);
            choice.tell(&format!("targets.{name}.{key}"), value, line);
        }
        resolved.setup.targets.push(target);
    }
    resolved.setup.matrix = matrix::resolve(&own.decide, folder, &resolved.setup.resources)?;
    for (key, value) in matrix::shown(&own.decide, &resolved.setup.matrix) {
        let line = choice.line(&[&["environments", environment, "decide"], key.as_slice()].concat());
        choice.tell(&format!("decide.{}", key.join(".")), value, line);
    }
    resolved.setup.backup_folders =
        settings.app.backup_folders.iter().map(|path| crate::outside::plain_path(&folder.join(path))).collect();
    for (key, who) in super::escalation::shown(&settings.escalation) {
        let place: Vec<&str> = std::iter::once("escalation").chain(key.split('.')).collect();
        choice.tell(&format!("escalation.{key}"), who, choice.line(&place));
    }
    for (channel, source) in super::channels::resolve(&settings.notify, folder)? {
        choice.tell(
            &format!("notify.{}", channel.name),
            super::channels::shown(&channel),
            choice.line(&["notify", &channel.name]),
        );
        if let Some(source) = source {
            resolved.passwords.insert_channel(&channel.name, source);
        }
        resolved.setup.channels.push(channel);
    }
    resolved.setup.checks = super::checks::resolve(&settings.checks)?;
    for (place, words) in &settings.checks {
        choice.tell(&format!("checks.{place}"), words.join(" "), choice.line(&["checks", place]));
    }
    resolved.setup.due_times = super::escalation::due_times(&settings.due)?;
    for (key, time) in &settings.due {
        choice.tell(&format!("due.{key}"), time, choice.line(&["due", key]));
    }
    let setup = &mut resolved.setup;
    setup.features = super::features::resolve(
        &settings.features,
        &settings.environments,
        (&setup.resources, &setup.targets),
        folder,
    )?;
    for feature in &resolved.setup.features {
        let (key, line) = (format!("features.{}", feature.name), choice.line(&["features", feature.name.as_str()]));
        choice.tell(&key, super::features::shown(feature), line);
    }
    resolved.setup.contacts = super::escalation::resolve(&settings.escalation)?;
    if let Some(log) = &settings.app.incident_log {
        let log = crate::outside::plain_path(&absolute(&folder.join(log))?);
        choice.tell("app.incident_log", log.display().to_string(), choice.line(&["app", "incident_log"]));
        resolved.setup.incident_log = Some(log);
    }
    resolved.origins = choice.shown;
    Ok(resolved)
}

/// A resource, and what the file says of its server's password.
pub(super) type OnServer = (Resource, Option<(String, ServerPassword)>);

pub(super) fn resource_of(name: &str, what: &ResourceSettings, folder: &Path, io: &Io) -> Result<OnServer, Failure> {
    let said = what.path.as_deref().unwrap_or(Path::new(""));
    let path = outside::plain_path(&absolute(&folder.join(said))?);
    let mut server = None;
    let kind = match what.kind {
        KindSettings::Sqlite => ResourceKind::Sqlite { path },
        KindSettings::Files => ResourceKind::Files { path, exclude: what.exclude.clone() },
        KindSettings::Env => ResourceKind::Env { path },
        KindSettings::Postgres => {
            let found = servers::of_settings(name, what, folder, io)?;
            server = found.password.map(|password| (found.server, password));
            found.kind
        }
    };
    let question = |check: &super::CheckSettings| SqlCheck {
        sql: check.sql.clone(),
        min: check.min,
        equals: check.equals.clone(),
        percent: check.threshold(),
        category: check.category.map(Into::into),
        sample: check.sample,
    };
    let resource = Resource {
        name: ResourceName::new(name).map_err(|error| usage(error.to_string()))?,
        kind,
        writer: what.stop.clone().zip(what.start.clone()).map(|(stop, start)| Writer { stop, start }),
        critical_tables: what.critical_tables.clone(),
        may_be_empty: what.may_be_empty.clone(),
        checks: what.checks.iter().map(|(name, check)| (name.clone(), question(check))).collect(),
        owner_columns: what.owner_columns.clone(),
        salvage_columns: what.salvage_columns.clone(),
    };
    Ok((resource, server))
}

/// Chooses values and remembers where each came from.
struct Choice<'a> {
    global: &'a GlobalArgs,
    io: &'a Io,
    loaded: Option<&'a Loaded>,
    environment: &'a str,
    shown: Vec<Shown>,
}

impl Choice<'_> {
    fn tell(&mut self, key: &str, value: impl Into<String>, origin: Origin) {
        self.shown.push(Shown { key: key.to_owned(), value: value.into(), origin });
    }

    /// The line of a key; the default when the file does not have it.
    fn line(&self, path: &[&str]) -> Origin {
        let found = self.loaded.and_then(|loaded| loaded.document.find(path));
        found.map_or(Origin::Default, |node| Origin::Line(node.line))
    }

    /// The line of a key that the environment may have of its own.
    fn either_line(&self, path: &[&str]) -> Origin {
        match self.line(&[&["environments", self.environment], path].concat()) {
            Origin::Default => self.line(path),
            own => own,
        }
    }

    /// A variable that is set to something.
    fn variable(&self, name: &str) -> Option<String> {
        self.io.env.var(name).and_then(|value| value.into_string().ok()).filter(|value| !value.is_empty())
    }

    /// A flag whose variable the command line may have read already.
    fn flag_or_variable(&self, flag: Option<&Path>, name: &'static str, variable: &str) -> Option<(PathBuf, Origin)> {
        let set = self.variable(variable).map(PathBuf::from);
        match (flag, set) {
            (Some(flag), Some(set)) if flag == set => Some((set, Origin::Variable(variable.to_owned()))),
            (Some(flag), _) => Some((flag.to_owned(), Origin::Flag(name))),
            (None, Some(set)) => Some((set, Origin::Variable(variable.to_owned()))),
            (None, None) => None,
        }
    }

    /// Everything but the resources.
    fn common(
        &mut self,
        app: &str,
        folder: &Path,
        settings: Option<&Settings>,
        own: Option<&EnvironmentSettings>,
    ) -> Result<Resolved, Failure> {
        let scope = Scope { app: app.to_owned(), environment: self.environment.to_owned() };
        let keep = merged_keep(own.map_or(&KeepSettings::default(), |own| &own.keep), settings.map(|all| &all.keep));
        let seconds = super::copies::of(settings, own, folder, &keep)?;
        let chosen = self.chosen_copy(&seconds);
        let location = self.location(folder, settings, own, chosen)?;
        let mut password = self.password(folder, settings, own)?;
        let mut passwords = Passwords::new(password.clone());
        for Second { copy, password, .. } in &seconds {
            passwords.insert(&copy.location, password.clone().unwrap_or_else(|| passwords.source("").clone()));
        }
        if let Some(second) = chosen {
            password = passwords.source(&second.copy.location).clone();
        }
        let mut setup = Setup::new(scope, location.clone());
        setup.keep = self.keep(settings, own);
        if let Some(second) = chosen {
            setup.keep = second.copy.keep.clone();
        }
        self.show_copies(&seconds);
        setup.copies =
            seconds.iter().map(|second| second.copy.clone()).filter(|copy| copy.location != location).collect();
        let spans = |pick: fn(&EnvironmentSettings) -> &Option<Span>, general: Option<&Span>| {
            own.and_then(|own| pick(own).clone()).or_else(|| general.cloned())
        };
        let grace = spans(|own| &own.vault.prune_grace, settings.and_then(|all| all.vault.prune_grace.as_ref()));
        setup.prune_grace =
            self.span(&["vault", "prune_grace"], grace, Some(setup.prune_grace)).unwrap_or(setup.prune_grace);
        let rpo = spans(|own| &own.objectives.rpo, settings.and_then(|all| all.objectives.rpo.as_ref()));
        setup.rpo = self.span(&["objectives", "rpo"], rpo, None);
        let rto = spans(|own| &own.objectives.rto, settings.and_then(|all| all.objectives.rto.as_ref()));
        setup.rto = self.span(&["objectives", "rto"], rto, None);
        let response = spans(|own| &own.objectives.response, settings.and_then(|all| all.objectives.response.as_ref()));
        setup.response = self.span(&["objectives", "response"], response, None);
        let age =
            spans(|own| &own.objectives.proof_max_age, settings.and_then(|all| all.objectives.proof_max_age.as_ref()));
        setup.proof_max_age = self.span(&["objectives", "proof_max_age"], age, None);
        for (phase, span) in budgets(settings.map(|all| &all.budgets), own.map(|own| &own.budgets)) {
            setup.budgets_ms.insert(phase.clone(), span.length.as_millis() as u64);
            let _ = self.span(&["budgets", &phase], Some(span), None);
        }
        let limit = settings.and_then(|all| all.limits.command.clone());
        setup.command_limit =
            self.span(&["limits", "command"], limit, Some(setup.command_limit)).unwrap_or(setup.command_limit);
        setup.rehearse_first = self.rehearse_first(own);
        let state = self.state(app, folder, settings)?;
        let warnings = secrets::warning(&password).into_iter().collect();
        passwords.insert(&location, password);
        Ok(Resolved { setup, state, passwords, file: None, timezone: None, origins: Vec::new(), warnings })
    }

    fn location(
        &mut self,
        folder: &Path,
        settings: Option<&Settings>,
        own: Option<&EnvironmentSettings>,
        chosen: Option<&Second>,
    ) -> Result<String, Failure> {
        if let Some(Second { copy, .. }) = chosen {
            let flag = self.global.vault.is_some();
            let origin = if flag { Origin::Flag("--vault") } else { Origin::Variable("LIFEBOAT_VAULT".to_owned()) };
            self.tell("vault.location", copy.location.clone(), origin);
            return Ok(copy.location.clone());
        }
        let here = absolute(Path::new("."))?;
        let in_file = own
            .and_then(|own| own.vault.location.clone())
            .or_else(|| settings.and_then(|all| all.vault.location.clone()));
        let (text, base, origin) = match (&self.global.vault, self.variable("LIFEBOAT_VAULT"), in_file) {
            (Some(flag), variable, _) if variable.as_ref() != Some(flag) => {
                (flag.clone(), here.as_path(), Origin::Flag("--vault"))
            }
            (_, Some(variable), _) => (variable, here.as_path(), Origin::Variable("LIFEBOAT_VAULT".to_owned())),
            (_, None, Some(text)) => (text, folder, self.either_line(&["vault", "location"])),
            (_, None, None) => {
                self.tell("vault.location", "none", Origin::Default);
                return Ok(String::new());
            }
        };
        let place = outside::place(&text, base)?;
        self.tell("vault.location", place.location.clone(), origin);
        Ok(place.location)
    }

    /// The second vault that is meant by `--vault` and its name. A folder of that name is `./name`.
    fn chosen_copy<'s>(&self, seconds: &'s [Second]) -> Option<&'s Second> {
        let name = self.global.vault.clone().or_else(|| self.variable("LIFEBOAT_VAULT"))?;
        seconds.iter().find(|second| second.copy.name.as_str() == name)
    }

    fn show_copies(&mut self, seconds: &[Second]) {
        for Second { copy, password, own } in seconds {
            let name = copy.name.as_str();
            let environment = self.environment.to_owned();
            let begin: &[&str] = if *own { &["environments", &environment] } else { &[] };
            let line = |choice: &Self, key: &str| choice.line(&[begin, &["vault", "copies", name, key]].concat());
            let (at, from) = (line(self, "location"), line(self, "password"));
            let after = line(self, "after_backup");
            self.tell(&format!("vault.copies.{name}.location"), copy.location.clone(), at);
            let source =
                password.as_ref().map_or("the vault's own".to_owned(), |known| format!("{HIDDEN}, from {known}"));
            self.tell(&format!("vault.copies.{name}.password"), source, from);
            self.tell(&format!("vault.copies.{name}.after_backup"), copy.after_backup.to_string(), after);
        }
    }

    fn password(
        &mut self,
        folder: &Path,
        settings: Option<&Settings>,
        own: Option<&EnvironmentSettings>,
    ) -> Result<PasswordSource, Failure> {
        let said = own
            .and_then(|own| own.vault.password.as_ref())
            .or_else(|| settings.and_then(|all| all.vault.password.as_ref()));
        let (source, origin) = if self.io.env.var(PASSWORD_VARIABLE).is_some() {
            (PasswordSource::Variable(PASSWORD_VARIABLE.to_owned()), Origin::Variable(PASSWORD_VARIABLE.to_owned()))
        } else {
            match said {
                Some(said) => (source_of(said, folder)?, self.either_line(&["vault", "password"])),
                None => (PasswordSource::Nowhere, Origin::Default),
            }
        };
        let value = match &source {
            PasswordSource::Nowhere => "none".to_owned(),
            known => format!("{HIDDEN}, from {known}"),
        };
        self.tell("vault.password", value, origin);
        Ok(source)
    }

    fn keep(&mut self, settings: Option<&Settings>, own: Option<&EnvironmentSettings>) -> Keep {
        let nothing = KeepSettings::default();
        let keep = merged_keep(own.map_or(&nothing, |own| &own.keep), settings.map(|all| &all.keep));
        let within = keep.within.map_or_else(|| "none".to_owned(), written);
        let counts = [
            ("last", keep.last),
            ("hourly", keep.hourly),
            ("daily", keep.daily),
            ("weekly", keep.weekly),
            ("monthly", keep.monthly),
            ("yearly", keep.yearly),
            ("proven", keep.proven),
        ];
        self.tell("keep.within", within, self.either_line(&["keep", "within"]));
        for (key, count) in counts {
            self.tell(&format!("keep.{key}"), count.to_string(), self.either_line(&["keep", key]));
        }
        self.tell("keep.emergency", written(keep.emergency), self.either_line(&["keep", "emergency"]));
        keep
    }

    fn span(&mut self, path: &[&str], said: Option<Span>, default: Option<Duration>) -> Option<Duration> {
        let value = said.as_ref().map(|span| span.text.clone()).or_else(|| default.map(written));
        let origin = if said.is_some() { self.either_line(path) } else { Origin::Default };
        self.tell(&path.join("."), value.unwrap_or_else(|| "none".to_owned()), origin);
        said.map(|span| span.length).or(default)
    }

    /// Without a settings file nothing is demanded: it is the person's own file, perhaps at once.
    fn rehearse_first(&mut self, own: Option<&EnvironmentSettings>) -> bool {
        let Some(own) = own else { return false };
        let origin = self.line(&["environments", self.environment, "rehearse_first"]);
        let value = own.rehearse_first.unwrap_or(self.environment == PRODUCTION);
        self.tell("rehearse_first", value.to_string(), origin);
        value
    }

    fn state(&mut self, app: &str, folder: &Path, settings: Option<&Settings>) -> Result<PathBuf, Failure> {
        let in_file = settings.and_then(|all| all.state.folder.clone());
        let (path, origin) =
            match (self.flag_or_variable(self.global.state.as_deref(), "--state", "LIFEBOAT_STATE"), in_file) {
                (Some((path, origin)), _) => (absolute(&path)?, origin),
                (None, Some(path)) => (absolute(&folder.join(path))?, self.line(&["state", "folder"])),
                (None, None) => (self.default_state(app)?, Origin::Default),
            };
        let path = outside::plain_path(&path);
        self.tell("state.folder", path.display().to_string(), origin);
        Ok(path)
    }

    fn default_state(&self, app: &str) -> Result<PathBuf, Failure> {
        let home = match (self.variable("XDG_STATE_HOME"), self.variable("HOME")) {
            (Some(state), _) => PathBuf::from(state),
            (None, _) if outside::is_root() => PathBuf::from("/var/lib"),
            (None, Some(home)) => Path::new(&home).join(".local/state"),
            (None, None) => {
                let failure =
                    usage("it cannot be told where to keep the journals: neither HOME nor XDG_STATE_HOME is set");
                return Err(failure.hint("--state FOLDER, or LIFEBOAT_STATE"));
            }
        };
        Ok(home.join("lifeboat").join(app))
    }

    fn schedule(&mut self, settings: &Settings, own: &EnvironmentSettings, setup: &mut Setup) -> Result<(), Failure> {
        let (schedule, shown) = super::schedules::of(settings, own)?;
        for (name, said) in shown {
            let origin = match name.split_once('.') {
                None => self.either_line(&["schedule", &name]),
                Some((what, resource)) => {
                    self.line(&["environments", self.environment, "resources", resource, "schedule", what])
                }
            };
            self.tell(&format!("schedule.{name}"), said, origin);
        }
        setup.schedule = schedule;
        Ok(())
    }

    fn gateway(&mut self, settings: &Settings, own: &EnvironmentSettings, setup: &mut Setup) {
        let (general, special) = (&settings.gateway, &own.gateway);
        let Some(url) = special.upstream.clone().or_else(|| general.upstream.clone()) else { return };
        let origin = self.either_line(&["gateway", "upstream"]);
        self.tell("gateway.upstream", url.clone(), origin);
        let said = special.timeout.clone().or_else(|| general.timeout.clone());
        let patience = self.span(&["gateway", "timeout"], said, Some(PATIENCE)).unwrap_or(PATIENCE);
        setup.upstream = Some(Upstream { url, patience });
    }

    fn show_resource(&mut self, resource: &Resource) {
        let name = resource.name.as_str();
        let environment = self.environment.to_owned();
        let mut tell = |key: &str, value: String| {
            let origin = self.line(&["environments", &environment, "resources", name, key]);
            let origin = if self.loaded.is_none() { Origin::Flag("the command's words") } else { origin };
            self.shown.push(Shown { key: format!("resources.{name}.{key}"), value, origin });
        };
        tell("kind", resource.kind.word().to_owned());
        let key = if resource.kind.path().is_some() { "path" } else { "url" };
        tell(key, resource.kind.place());
        if let ResourceKind::Files { exclude, .. } = &resource.kind
            && !exclude.is_empty()
        {
            tell("exclude", exclude.join(" "));
        }
        if let Some(Writer { stop, start }) = &resource.writer {
            tell("stop", stop.join(" "));
            tell("start", start.join(" "));
        }
        for (key, tables) in [("critical_tables", &resource.critical_tables), ("may_be_empty", &resource.may_be_empty)]
        {
            if !tables.is_empty() {
                tell(key, tables.join(" "));
            }
        }
        if !resource.owner_columns.is_empty() {
            tell("owner_columns", resource.owner_columns.join(" "));
        }
        if !resource.salvage_columns.is_empty() {
            let pairs = resource.salvage_columns.iter().map(|(from, to)| format!("{from}={to}"));
            tell("salvage_columns", pairs.collect::<Vec<_>>().join(" "));
        }
        if !resource.checks.is_empty() {
            tell("checks", resource.checks.keys().cloned().collect::<Vec<_>>().join(" "));
        }
    }
}

pub(super) fn source_of(said: &PasswordSettings, folder: &Path) -> Result<PasswordSource, Failure> {
    Ok(match said {
        PasswordSettings { env: Some(name), env_file: Some(file), .. } => {
            PasswordSource::VariableIn { name: name.clone(), file: absolute(&folder.join(file))? }
        }
        PasswordSettings { env: Some(name), .. } => PasswordSource::Variable(name.clone()),
        PasswordSettings { file: Some(path), .. } => PasswordSource::File(absolute(&folder.join(path))?),
        PasswordSettings { cmd: Some(words), .. } => PasswordSource::Command(words.clone()),
        PasswordSettings { env: None, file: None, cmd: None, .. } => PasswordSource::Nowhere,
    })
}

/// Retention key by key: the environment's, else the file's, else the default.
pub fn merged_keep(own: &KeepSettings, general: Option<&KeepSettings>) -> Keep {
    let general = general.map_or_else(Keep::default, |general| merged_over(general, &Keep::default()));
    merged_over(own, &general)
}

/// Retention key by key: what is said, else what holds already.
pub fn merged_over(said: &KeepSettings, else_: &Keep) -> Keep {
    let length = |said: &Option<Span>| said.as_ref().map(|span| span.length);
    Keep {
        within: length(&said.within).or(else_.within),
        last: said.last.unwrap_or(else_.last),
        hourly: said.hourly.unwrap_or(else_.hourly),
        daily: said.daily.unwrap_or(else_.daily),
        weekly: said.weekly.unwrap_or(else_.weekly),
        monthly: said.monthly.unwrap_or(else_.monthly),
        yearly: said.yearly.unwrap_or(else_.yearly),
        proven: said.proven.unwrap_or(else_.proven),
        emergency: length(&said.emergency).unwrap_or(else_.emergency),
    }
}

/// Budgets by phase, the environment's own before the file's.
fn budgets(general: Option<&BudgetSettings>, own: Option<&BudgetSettings>) -> Vec<(String, Span)> {
    let mut all: std::collections::BTreeMap<String, Span> = std::collections::BTreeMap::new();
    for BudgetSettings { preflight, keep, capture, store, restore, verify, swap, clean } in
        [general, own].into_iter().flatten()
    {
        let phases = [
            ("preflight", preflight),
            ("keep", keep),
            ("capture", capture),
            ("store", store),
            ("restore", restore),
            ("verify", verify),
            ("swap", swap),
            ("clean", clean),
        ];
        all.extend(phases.into_iter().filter_map(|(phase, span)| Some((phase.to_owned(), span.clone()?))));
    }
    all.into_iter().collect()
}

/// A length of time as the file would write it.
fn written(length: Duration) -> String {
    let seconds = length.as_secs();
    for (unit, of) in [("d", 86_400), ("h", 3600), ("m", 60)] {
        if seconds >= of && seconds.is_multiple_of(of) {
            return format!("{}{unit}", seconds / of);
        }
    }
    format!("{seconds}s")
}
