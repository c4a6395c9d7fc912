//! Faults around a whole rollback: secrets that may stand nowhere, a disk that is full, a program of a platform that hangs, two people
//! at once.

use std::{
    collections::BTreeSet,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use lifeboat_model::ExitCode;
use lifeboat_testkit::postgres::{Server, ServerOptions};

use crate::{
    center::Center,
    home::{Ran, collect},
};

const CONFIRM: [&str; 3] = ["--yes", "--confirm", "service-center/production"];

/// Looks at the arguments of every process there is, again and again.
struct Arguments {
    over: Arc<AtomicBool>,
    seen: Arc<Mutex<BTreeSet<String>>>,
    looks: JoinHandle<()>,
}

impl Arguments {
    /// Begins to look for any of these; that it would find one is seen once, with a word that is no secret.
    fn watched_for(words: &[String]) -> Arguments {
        let control = format!("no-secret-{}", std::process::id());
        let (over, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(BTreeSet::new())));
        let (ends, found) = (over.clone(), seen.clone());
        let wanted: Vec<String> = words.iter().chain([&control]).cloned().collect();
        let looks = std::thread::spawn(move || {
            while !ends.load(Ordering::SeqCst) {
                for process in std::fs::read_dir("/proc").unwrap() {
                    let line = std::fs::read(process.unwrap().path().join("cmdline")).unwrap_or_default();
                    let line = String::from_utf8_lossy(&line).replace('\0', " ");
                    let held = wanted.iter().filter(|word| line.contains(word.as_str()));
                    held.for_each(|word| _ = found.lock().unwrap().insert(format!("{word}: {line}")));
                }
                // What is tested needs the processor as well.
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let arguments = Arguments { over, seen, looks };
        let mut known = Command::new("sh").args(["-c", "read line", &control]).stdin(Stdio::piped()).spawn().unwrap();
        until("a process with the word", || arguments.seen.lock().unwrap().iter().any(|one| one.starts_with(&control)));
        drop(known.stdin.take());
        known.wait().unwrap();
        arguments.seen.lock().unwrap().clear();
        arguments
    }

    fn found(self) -> BTreeSet<String> {
        self.over.store(true, Ordering::SeqCst);
        self.looks.join().unwrap();
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

#[track_caller]
fn until(what: &str, is_so: impl Fn() -> bool) {
    let waits = Instant::now();
    while !is_so() {
        assert!(waits.elapsed() < Duration::from_secs(120), "waited in vain for {what}");
        std::thread::yield_now();
    }
}

/// A service center whose database wants a password, whose env file and environment hold values that nobody may see.
struct Guarded {
    center: Center,
    /// What they are called, and what they are.
    secrets: Vec<(&'static str, String)>,
}

impl Guarded {
    fn open() -> Guarded {
        let unique = |name: &str| format!("canary{}{}", name.to_lowercase().replace('_', ""), std::process::id());
        let names = ["DB", "STRIPE_KEY", "ROTATED", "DEPLOY_TOKEN", "CHAT_WEBHOOK", "NOTHING"];
        let secrets: Vec<(&str, String)> = names.iter().map(|name| (*name, unique(name))).collect();
        let options = ServerOptions {
            tcp: true,
            hba: vec!["local all all trust".into(), "host all all 127.0.0.1/32 scram-sha-256".into()],
            ..ServerOptions::default()
        };
        let server = Server::with(15, options);
        let password = &secrets[0].1;
        server.sql("postgres", &format!("CREATE ROLE keeper LOGIN SUPERUSER PASSWORD '{password}'"));
        server.sql("postgres", "CREATE DATABASE center OWNER keeper");
        let url = format!("postgres://keeper:{password}@127.0.0.1:{}/center", server.port);
        let center = Center::open_on(server, &url);
        let env = std::fs::read_to_string(center.home.path(".env")).unwrap();
        center.home.write(".env", format!("{env}STRIPE_KEY={}\n", secrets[1].1));
        std::fs::set_permissions(center.home.path(".env"), std::fs::Permissions::from_mode(0o600)).unwrap();
        let settings = std::fs::read_to_string(center.home.path("lifeboat.toml")).unwrap();
        let settings = settings.replacen("driver = \"git\"", "driver = \"git\"\npass = [\"DEPLOY_TOKEN\"]", 1);
        let chat =
            "[notify.chat]\nwebhook = { env = \"CHAT_WEBHOOK\" }\n[notify.log]\nfile = \"./run/messages.jsonl\"\n";
        center.home.write("lifeboat.toml", format!("{settings}\n{chat}"));
        Guarded { center, secrets }
    }

    fn secret(&self, name: &str) -> &str {
        &self.secrets.iter().find(|(known, _)| *known == name).unwrap().1
    }

    fn run(&self, words: &[&str]) -> Ran {
        let mut command = self.center.command(&mut self.center.home.command(words));
        command.env("DEPLOY_TOKEN", self.secret("DEPLOY_TOKEN"));
        // Nobody answers there: what is to be told stays in the outbox.
        command.env("CHAT_WEBHOOK", format!("http://127.0.0.1:9/services/{}", self.secret("CHAT_WEBHOOK")));
        let ran = self.center.home.ran(words, command.output().unwrap());
        for (name, value) in &self.secrets {
            assert!(!ran.out.contains(value) && !ran.err.contains(value), "lifeboat {} shows {name}", ran.typed);
        }
        ran
    }

    /// Looks into every file but the env file, and the former one that a restore keeps beside it for its owner alone: how many there are, and
    /// what holds a secret.
    fn leaks(&self) -> (usize, Vec<String>) {
        let mut files = Vec::new();
        collect(&self.center.home.app(), &mut files);
        // The index over journals is left out there.
        let state = self.center.home.path("state/lifeboat/service-center");
        let index = std::fs::read_dir(state).unwrap().map(|entry| entry.unwrap().path());
        files.extend(index.filter(|path| path.is_file()).map(|path| (path.clone(), std::fs::read(path).unwrap())));
        files.retain(|(path, _)| {
            let name = path.file_name().unwrap().to_string_lossy();
            let is_env = path.parent() == Some(self.center.home.app().as_path())
                && (name == ".env" || name.starts_with(".env.REPLACED."));
            assert!(!is_env || path.metadata().unwrap().permissions().mode() & 0o777 == 0o600, "{}", path.display());
            !is_env
        });
        let held = |path: &Path, body: &[u8]| -> Vec<String> {
            let holds = |value: &String| body.windows(value.len()).any(|part| part == value.as_bytes());
            let names = self.secrets.iter().filter(|(_, value)| holds(value)).map(|(name, _)| *name);
            names.map(|name| format!("{name} in {}", path.display())).collect()
        };
        (files.len(), files.iter().flat_map(|(path, body)| held(path, body)).collect())
    }
}

/// A deploy that fails and one that does not, a full rollback that is taken back, and an env file that comes back: values of the env
/// file, the password of the database, a token of the platform and the address of a channel are used by all of it, and are in no file
/// of the state, in no plain part of the vault, in no journal, log or message, and in no argument of any process.
#[test]
fn canary_secrets_of_a_whole_rollback_stand_nowhere() {
    let guarded = Guarded::open();
    let center = &guarded.center;
    let values: Vec<String> = guarded.secrets.iter().map(|(_, value)| value.clone()).collect();
    let arguments = Arguments::watched_for(&values);
    // What its command prints while it fails is told without what it was given.
    let settings = std::fs::read_to_string(center.home.path("lifeboat.toml")).unwrap();
    let tells = "smoke = [\"sh\", \"-c\", \"echo the token $DEPLOY_TOKEN is refused; exit 1\"]";
    let smoke = "smoke = [\"python3\", \"current/app.py\", \"smoke\"]";
    assert!(settings.contains(smoke));
    center.home.write("lifeboat.toml", settings.replace(smoke, tells));
    let deploy = ["deploy", "main", "--label", "2.0", "--watch", "1s", "--yes"];
    guarded.run(&deploy).ends(ExitCode::FailedUndone).says(&["the token <DEPLOY_TOKEN> is refused"]);
    center.home.write("lifeboat.toml", settings);
    guarded.run(&[&deploy[..], &["--although-bad", "the token is mended"]].concat()).ends(ExitCode::Ok);
    center.sql("INSERT INTO service_tickets (title) VALUES ('later')");
    guarded
        .run(&[&["rollback", "--profile", "full", "--reason", "it is slow"], &CONFIRM[..]].concat())
        .ends(ExitCode::Ok);
    assert_eq!(center.health()["version"], "1.0");
    guarded.run(&[&["undo"], &CONFIRM[..]].concat()).ends(ExitCode::Ok);
    assert_eq!(center.health()["version"], "2.0");
    // The whole file, and one value of it.
    let (before, rotated) = (std::fs::read_to_string(center.home.path(".env")).unwrap(), guarded.secret("ROTATED"));
    let other = before.replace(guarded.secret("STRIPE_KEY"), rotated);
    center.home.write(".env", &other);
    guarded.run(&["backup", "env"]).ends(ExitCode::Ok);
    guarded.run(&["restore", "env", "--before", "1s ago", "--dry-run"]);
    center.home.write(".env", &before);
    guarded.run(&["env", "restore", "STRIPE_KEY", "--yes"]).ends(ExitCode::Ok);
    assert_eq!(std::fs::read_to_string(center.home.path(".env")).unwrap(), other);
    center.home.write(".env", &before);
    guarded.run(&["restore", "env", "--urgent", "--reason", "keys", "--yes"]).ends(ExitCode::Ok);
    assert_eq!(std::fs::read_to_string(center.home.path(".env")).unwrap(), other);
    for look in [
        &["status"][..],
        &["history"],
        &["env", "diff"],
        &["messages", "list"],
        &["config", "show"],
        &["sheet", "rollback"],
    ] {
        guarded.run(look);
    }
    let (files, leaks) = guarded.leaks();
    assert!(files > 100, "{files} files");
    assert_eq!(leaks, Vec::<String>::new());
    let found = arguments.found();
    assert!(found.is_empty(), "{found:?}");
    // That something is found where it stands.
    center.home.write("run/app.log", format!("GET /?key={}", guarded.secret("NOTHING")));
    assert_eq!(guarded.leaks().1.len(), 1);
}

/// Deployed and good; from now on `stop` waits for a word through a pipe, so that a rollback is where the test wants it.
fn two_with_a_gate() -> Center {
    let center = Center::open();
    center.run(&["checkpoint", "--unproven", "--label", "phase-1"]).ends(ExitCode::Ok);
    center.use_version("main");
    center.sql("INSERT INTO service_tickets (title) VALUES ('later')");
    center.shell("mkfifo run/gate");
    let settings = std::fs::read_to_string(center.home.path("lifeboat.toml")).unwrap();
    let waits = "stop = [\"sh\", \"-c\", \"touch run/waits; read word < run/gate; python3 app.py stop\"]";
    center.home.write("lifeboat.toml", settings.replace("stop = [\"python3\", \"app.py\", \"stop\"]", waits));
    center
}

/// APP-10, CFG-11: two people roll back at the same time. One of them does it; the other hears who is at it, since when and with what, has
/// changed nothing, and is told afterwards that nothing is left to be done.
#[test]
fn two_operators_roll_back_at_once_and_one_of_them_does() {
    let center = two_with_a_gate();
    let words = [&["rollback", "--profile", "full", "--wait", "1s"][..], &CONFIRM[..]].concat();
    let begin = |name: &str| {
        let why = format!("{name} says so");
        let all = [&words[..], &["--reason", &why]].concat();
        let mut command = center.command(&mut center.home.command(&all));
        command.env("USER", name).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut both = [("ann", begin("ann")), ("bob", begin("bob"))];
    // One comes to where the app is to be stopped, the other one to its end.
    let ended = |child: &mut std::process::Child| child.try_wait().unwrap().is_some();
    let waits = Instant::now();
    while !center.home.path("run/waits").exists() || !both.iter_mut().any(|(_, child)| ended(child)) {
        assert!(waits.elapsed() < Duration::from_secs(120), "nobody gave way");
        std::thread::yield_now();
    }
    let second = both.iter_mut().position(|(_, child)| ended(child)).unwrap();
    let [(first_name, first), (second_name, second)] = match (second, both) {
        (0, [one, other]) => [other, one],
        (_, all) => all,
    };
    let told = center.home.ran(&[second_name], second.wait_with_output().unwrap()).ends(ExitCode::Busy);
    told.says(&[first_name, &format!("{first_name} says so"), "is running"]);
    // A third one, who asks what stands, hears the same.
    center.run(&["status"]).says(&["At work", &format!("by {first_name} on "), "Next: lifeboat watch"]);
    center.shell("echo go > run/gate");
    let done = center.home.ran(&[first_name], first.wait_with_output().unwrap()).ends(ExitCode::Ok);
    assert!(!done.err.contains(second_name), "{}", done.err);
    assert_eq!(center.health()["version"], "1.0");
    assert_eq!(center.sql("SELECT count(*) FROM service_tickets WHERE title = 'later'"), "0");
    let history = center.run(&["history", "--json"]).ends(ExitCode::Ok).json();
    let rollbacks = history["operations"].as_array().unwrap().iter().filter(|one| one["kind"] == "rollback");
    let by: Vec<&str> = rollbacks.map(|one| one["by"].as_str().unwrap_or_default()).collect();
    assert_eq!(by, [first_name], "one rollback, by one of them: {history}");
    // Whoever asks again without a name is not led further back.
    center.run(&[&["rollback"], &CONFIRM[..]].concat()).ends(ExitCode::Refused);
    assert_eq!(center.health()["version"], "1.0");
}

/// BKP-14, PHS-06: there is no room for the emergency backup of a full rollback. It is given up, nothing was dropped, the newer version
/// runs with every row, and writes are let in; with room it is done.
#[test]
fn bkp_14_a_full_disk_at_the_emergency_backup_stops_a_full_rollback() {
    let center = Center::open();
    center.run(&["checkpoint", "--unproven", "--label", "phase-1"]).ends(ExitCode::Ok);
    center.use_version("main");
    // More than is left on the vault's disk, and nothing that becomes small.
    center.sql(
        "INSERT INTO service_tickets (title) SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 20000) n GROUP BY n % 2000",
    );
    let before = center.sql("SELECT count(*) || ' ' || md5(string_agg(title, ',' ORDER BY id)) FROM service_tickets");
    let words = format!("lifeboat rollback --profile full --reason 'it is slow' {}", CONFIRM.join(" "));
    // A disk of the vault's own, gone with the shell that sees it, that has 64 KiB left.
    let script = format!(
        "cp -a backups/vault run/vault
         unshare -m sh -ec 'size=$(du -sk run/vault | cut -f1)
            mount -t tmpfs -o size=$((size + size / 2 + 64))k none backups/vault && cp -a run/vault/. backups/vault
            {}; code=$?; rm -rf run/after; cp -a backups/vault run/after; exit $code' 2>&1",
        words.replace('\'', "\"")
    );
    let ran = center.script(&script.replace("sh -ec", "sh -c"));
    assert_eq!(ran.code, Some(ExitCode::FailedUndone as i32), "{}", ran.out);
    ran.says(&["No space left on device", "Everything was put back"]);
    let status = center.health();
    assert_eq!(status["version"], "2.0");
    let after = center.sql("SELECT count(*) || ' ' || md5(string_agg(title, ',' ORDER BY id)) FROM service_tickets");
    assert_eq!(after, before);
    assert_eq!(center.sql("SELECT count(*) FROM pg_database WHERE datname LIKE 'center%'"), "1");
    center.sql("INSERT INTO service_tickets (title) VALUES ('writes are let in')");
    // What it left in the vault is nothing that anybody trips over.
    center.shell("rm -rf backups/vault && mv run/after backups/vault");
    center.run(&["vault", "check"]).ends(ExitCode::Ok);
    center.run(&[&["rollback", "--profile", "full"], &CONFIRM[..]].concat()).ends(ExitCode::Ok);
    assert_eq!(center.health()["version"], "1.0");
}

/// RST-22: there is no room at the server for the former state beside the live one. A full rollback is given up before the point of no
/// return, the newer version runs again, and nothing half-done is left beside it.
#[test]
fn a_full_disk_at_the_server_ends_a_full_rollback_and_the_newer_version_goes_on() {
    let options = ServerOptions { small_disk_mib: Some(36), ..ServerOptions::default() };
    let server = Server::with(15, options.set("shared_buffers", "8MB"));
    let place = server.small_disk();
    server.sql("postgres", &format!("CREATE TABLESPACE small LOCATION '{}'", place.display()));
    server.sql("postgres", "CREATE DATABASE center TABLESPACE small");
    let url = server.url("center");
    let center = Center::open_on(server, &url);
    center.sql("INSERT INTO service_tickets (title) SELECT repeat(md5(n::text), 40) FROM generate_series(1, 10000) n");
    center.run(&["checkpoint", "--unproven", "--label", "phase-1"]).ends(ExitCode::Ok);
    center.use_version("main");
    center.sql("INSERT INTO service_tickets (title) VALUES ('later')");
    let before = center.sql("SELECT count(*) || ' ' || md5(string_agg(title, ',' ORDER BY id)) FROM service_tickets");
    let full = center.run(&[&["rollback", "--profile", "full"], &CONFIRM[..]].concat());
    assert_eq!(full.code, Some(ExitCode::FailedUndone as i32), "{}\n{}", full.out, full.err);
    full.says(&["No space left on device", "Everything was put back"]);
    assert_eq!(center.health()["version"], "2.0");
    let after = center.sql("SELECT count(*) || ' ' || md5(string_agg(title, ',' ORDER BY id)) FROM service_tickets");
    assert_eq!(after, before);
    assert_eq!(center.sql("SELECT count(*) FROM pg_database WHERE datname LIKE 'center%'"), "1");
    center.sql("INSERT INTO service_tickets (title) VALUES ('writes are let in')");
}
