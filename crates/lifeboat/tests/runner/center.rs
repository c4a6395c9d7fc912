//! An example app with a database on a server, in a home of its own: what tests of whole scenarios share.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use lifeboat_model::ExitCode;
use lifeboat_testkit::postgres::{Server, client_programs};
use serde_json::Value;

use crate::home::{Home, Ran};

/// An example with a database on a server, as it is shipped.
pub(crate) struct Center {
    pub home: Home,
    pub server: Server,
    pub port: u16,
}

impl Center {
    /// The folder of an example, with a port and a database of its own in the place of those in its settings.
    pub(crate) fn of(example: &str, port_in_settings: &str, variable: &str) -> Center {
        let server = Server::start(15);
        server.sql("postgres", "CREATE DATABASE center");
        let url = server.url("center");
        Center::on(server, &url, (example, port_in_settings, variable))
    }

    /// The same on a server with such a database, at this address.
    pub(crate) fn on(server: Server, url: &str, (example, port_in_settings, variable): (&str, &str, &str)) -> Center {
        let home = Home::bare();
        std::fs::remove_file(home.path("shop.db")).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let center = Center { home, server, port };
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(example);
        center.shell(&format!("cp -R {}/. .", folder.display()));
        let env = format!("PORT={port}\n{variable}={url}\n");
        center.home.write(".env", env);
        let settings = std::fs::read_to_string(center.home.path("lifeboat.toml")).unwrap();
        center.home.write(
            "lifeboat.toml",
            settings
                .replace(&format!("127.0.0.1:{port_in_settings}"), &format!("127.0.0.1:{port}"))
                .replace("log =", "answer_within = \"8s\"\nlog ="),
        );
        center
    }

    /// Version 1.0 runs from a worktree, and 2.0 is committed.
    pub(crate) fn open() -> Center {
        Center::of("service-center", "3025", "SUPABASE_DB_URL").phase_one()
    }

    /// The same, of one whose address was chosen.
    pub(crate) fn open_on(server: Server, url: &str) -> Center {
        Center::on(server, url, ("service-center", "3025", "SUPABASE_DB_URL")).phase_one()
    }

    fn phase_one(self) -> Center {
        let center = self;
        center.shell(
            "git init --quiet --initial-branch=main . && mkdir ../later && mv supabase/migrations/20251020* ../later",
        );
        center.shell("echo 1.0 > VERSION && git add . && git commit --quiet -m 1.0 && git tag phase-1");
        center.use_version("phase-1");
        center
            .shell("mv ../later/* supabase/migrations && echo 2.0 > VERSION && git add . && git commit --quiet -m 2.0");
        center
    }

    /// Puts a version in use as somebody would by hand, migrations and all.
    pub(crate) fn use_version(&self, name: &str) {
        self.shell(&format!(
            "set -e; commit=$(git rev-parse {name}); git worktree add --quiet --detach releases/$commit $commit
             python3 app.py stop; ln -sfn releases/$commit current; python3 current/app.py migrate; python3 current/app.py start"
        ));
    }

    pub(crate) fn command(&self, command: &mut Command) -> Command {
        let mut programs = vec![client_programs(15)];
        programs.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
        command.env("PATH", std::env::join_paths(programs).unwrap()).env("GIT_CONFIG_GLOBAL", "/dev/null");
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "center").env(format!("GIT_{who}_EMAIL"), "center@localhost");
        }
        std::mem::replace(command, Command::new("true"))
    }

    pub(crate) fn shell(&self, text: &str) -> String {
        self.script(text).ends(ExitCode::Ok).out.trim().to_owned()
    }

    /// What a person types into a shell that finds `lifeboat`, however it ends.
    pub(crate) fn script(&self, text: &str) -> Ran {
        let as_always = self.home.command(&[]);
        let mut shell = Command::new("bash");
        let program = Path::new(env!("CARGO_BIN_EXE_lifeboat")).parent().unwrap();
        let text = format!("PATH={}:$PATH\n{text}", program.display());
        shell.args(["-c", &text]).current_dir(self.home.app()).stdin(Stdio::null()).env_clear();
        shell.envs(as_always.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let output = self.command(&mut shell).output().unwrap();
        self.home.ran(&[&text], output)
    }

    pub(crate) fn run(&self, words: &[&str]) -> Ran {
        let output = self.command(&mut self.home.command(words)).output().unwrap();
        self.home.ran(words, output)
    }

    pub(crate) fn sql(&self, statement: &str) -> String {
        self.server.sql("center", statement).trim().to_owned()
    }

    pub(crate) fn health(&self) -> Value {
        let (status, body) = ask(self.port, "GET", "/api/health", "").unwrap();
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// A client that makes tickets until it is told to end, and gives the ids that it was told.
    pub(crate) fn client(&self) -> (Arc<AtomicBool>, JoinHandle<Vec<i64>>) {
        let (over, port) = (Arc::new(AtomicBool::new(false)), self.port);
        let ends = over.clone();
        let client = std::thread::spawn(move || {
            let mut made = Vec::new();
            while !ends.load(Ordering::SeqCst) {
                match ask(port, "POST", "/api/tickets", "{\"title\":\"from the client\"}") {
                    Some((201, body)) => {
                        made.push(serde_json::from_str::<Value>(&body).unwrap()["id"].as_i64().unwrap())
                    }
                    _refused => std::thread::sleep(Duration::from_millis(20)),
                }
            }
            made
        });
        (over, client)
    }
}

impl Drop for Center {
    fn drop(&mut self) {
        let _ = Command::new("python3").args(["app.py", "stop"]).current_dir(self.home.app()).output();
    }
}

/// One request; nothing when nobody answers.
pub(crate) fn ask(port: u16, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(stream, "{method} {path} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer.split_once("\r\n\r\n")?.1.to_owned()))
}
