//! The demonstration's shop: its folder, its database, and the till in another process.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    thread::JoinHandle,
};

use lifeboat_engine::act::{path_failure, sqlite_failure};
use lifeboat_io::{
    Invocation, Io, Stop,
    database::sqlite::{self, sample},
    files,
};
use lifeboat_model::{Duration, Failure, FailureKind, PlanId};

/// The hidden command that the till's process runs.
pub const TILL: &str = "demo-till";

/// Between two sales.
const PAUSE: Duration = Duration::from_millis(2);

/// How long to wait for the till's last word.
const LAST_WORD: Duration = Duration::from_secs(15);

/// A new folder for the demonstration.
///
/// # Errors
/// When the named one is not empty, or cannot be made.
pub fn demo_folder(named: Option<PathBuf>, io: &Io) -> Result<PathBuf, Failure> {
    let name = format!("lifeboat-demo-{}", PlanId::from_random(io.random.bits()).as_str().trim_start_matches("p-"));
    let folder = named.unwrap_or_else(|| std::env::temp_dir().join(name));
    let folder = files::absolute(&folder).map_err(|error| path_failure(&error))?;
    files::create_private_folder(&folder).map_err(|error| path_failure(&error))?;
    let there = files::list_folder(&folder).map_err(|error| path_failure(&error))?;
    if !there.is_empty() {
        let failure = Failure::new(FailureKind::Refused, format!("{} is not empty", folder.display()));
        return Err(failure.hint("name a folder that does not exist yet, or none"));
    }
    Ok(folder)
}

/// Makes the shop, its settings and its vault's password.
///
/// # Errors
/// When something cannot be written.
pub fn demo_shop(folder: &Path, database: &Path, io: &Io) -> Result<(), Failure> {
    let mut secret = [0; 16];
    io.random.fill(&mut secret);
    let secret: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    files::write_with_mode(&folder.join("vault-password"), format!("{secret}\n").as_bytes(), 0o600)
        .map_err(|error| path_failure(&error))?;
    files::write(&folder.join("lifeboat.toml"), SETTINGS.as_bytes()).map_err(|error| path_failure(&error))?;
    sample::make_shop(database, 500).map_err(|error| sqlite_failure(&error))
}

const SETTINGS: &str = r#"version = 1

[app]
name = "shop"

[vault]
location = "./vault"
password = { file = "./vault-password" }

[state]
folder = "./state"

[environments.demo.resources.db]
kind = "sqlite"
path = "./shop.db"
critical_tables = ["orders", "customers", "products"]
checks.every-order-has-lines = { sql = "select count(*) from orders o where not exists (select 1 from order_lines l where l.order_id = o.id)", equals = "0" }
"#;

/// Starts the till in a process of its own. The thread ends when the process does.
///
/// # Errors
/// When this program does not know where it is.
pub fn start_till(database: &Path, until: &Path, io: &Io) -> Result<JoinHandle<Result<(), Failure>>, Failure> {
    let program = std::env::current_exe().map_err(|error| {
        Failure::new(FailureKind::Outside, "this program cannot be started again").because(error.to_string())
    })?;
    let till = Invocation::new(program, Duration::from_secs(900)).arg(TILL).arg(database).arg(until);
    let exec = io.exec.clone();
    Ok(std::thread::spawn(move || {
        let exit = exec.run(&till, None, &Stop::default());
        let exit = exit.map_err(|error| Failure::from_error(FailureKind::Outside, &error))?;
        if exit.ok() {
            Ok(())
        } else {
            Err(Failure::new(FailureKind::Outside, "the till failed").because(exit.stderr_text()))
        }
    }))
}

/// Sells until there is a file at `until`, then writes down the last order that is certainly committed.
///
/// # Errors
/// When a sale fails.
pub fn sell_until(database: &Path, until: &Path) -> Result<(), Failure> {
    let last = sample::sell_until(database, until, PAUSE).map_err(|error| sqlite_failure(&error))?;
    files::write(&last_word(until), last.to_string().as_bytes()).map_err(|error| path_failure(&error))
}

fn last_word(until: &Path) -> PathBuf {
    until.with_extension("last-order")
}

/// Waits for the till's last word: the last order it committed.
///
/// # Errors
/// When it does not come.
pub fn last_sale(until: &Path, io: &Io) -> Result<u64, Failure> {
    let (path, begun) = (last_word(until), io.clock.elapsed());
    while io.clock.elapsed().saturating_sub(begun) < LAST_WORD {
        if files::exists(&path) {
            let text = files::read_text(&path).map_err(|error| path_failure(&error))?;
            return text
                .trim()
                .parse()
                .map_err(|_not_a_number| Failure::new(FailureKind::Bug, "the till's last word is no number"));
        }
        let slept = io.clock.sleep(Duration::from_millis(20), &Stop::default());
        slept.map_err(|error| Failure::from_error(FailureKind::Interrupted, &error))?;
    }
    Err(Failure::new(FailureKind::Outside, "the till did not say how much it sold"))
}

/// Closes the shop.
///
/// # Errors
/// When the sign cannot be put up.
pub fn close_shop(until: &Path) -> Result<(), Failure> {
    files::write(until, b"closed\n").map_err(|error| path_failure(&error))
}

/// Rows of every table.
///
/// # Errors
/// When the database cannot be read.
pub fn rows(database: &Path) -> Result<BTreeMap<String, u64>, Failure> {
    sqlite::count_rows(database).map_err(|error| sqlite_failure(&error))
}

/// The bad migration.
///
/// # Errors
/// When even that fails.
pub fn wreck_shop(database: &Path) -> Result<(), Failure> {
    sample::wreck(database).map_err(|error| sqlite_failure(&error))
}
