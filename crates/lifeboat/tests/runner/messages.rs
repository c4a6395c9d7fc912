//! What is told to whom: a rollback that begins, is over, or fails, over channels of which one may be down.

use std::{
    io::{Read, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
};

use lifeboat_model::ExitCode;

use crate::home::{Home, Ran};

/// The secret part of a webhook's address.
const HOOK: &str = "/services/T000/canary_of_the_hook";

fn program(home: &Home, name: &str, text: &str) {
    home.write(name, text);
    std::fs::set_permissions(home.path(name), std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// An app that is put in use by commands, with `v1` sealed and good, and `v2` running.
fn home(port: u16) -> Home {
    let home = Home::shop();
    let settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
    home.write(
        "lifeboat.toml",
        format!(
            "{settings}[environments.local.targets.web]\ndriver = \"command\"\nrunning = [\"cat\", \"IN_USE\"]\nswitch = [\"./deploy\", \"use\", \"{{version}}\"]\n\
             stop = [\"./deploy\", \"stop\"]\nstart = [\"./deploy\", \"start\"]\n\
             [notify.status]\nfile = \"./messages.jsonl\"\n\
             [notify.chat]\nwebhook = {{ env = \"CHAT_WEBHOOK\" }}\n\
             [notify.mail]\nsendmail = [\"./sendmail\", \"-t\"]\nto = [\"oncall@shop.example\"]\nfor = [\"begun\", \"failed\"]\n\
             [notify.gone]\nwebhook = {{ env = \"GONE_WEBHOOK\" }}\n"
        ),
    );
    program(&home, "deploy", "#!/bin/sh\ncase $1 in use) echo \"$2\" > IN_USE ;; start) test ! -e broken ;; esac\n");
    program(&home, "sendmail", &format!("#!/bin/sh\ncat >> {}\n", home.path("mails").display()));
    home.write("IN_USE", "v1\n");
    run(&home, port, &["checkpoint", "--label", "first", "--unproven"]).ends(ExitCode::Ok);
    run(&home, port, &["releases", "mark", "first", "good"]).ends(ExitCode::Ok);
    home.write("IN_USE", "v2\n");
    home
}

fn run(home: &Home, port: u16, words: &[&str]) -> Ran {
    let mut command = home.command(words);
    command
        .env("CHAT_WEBHOOK", format!("http://127.0.0.1:{port}{HOOK}"))
        .env("GONE_WEBHOOK", format!("http://127.0.0.1:9{HOOK}"));
    let ran = home.ran(words, command.output().unwrap());
    assert!(!ran.out.contains("canary") && !ran.err.contains("canary"), "lifeboat {} shows the address", ran.typed);
    ran
}

/// A chat that takes so many messages, and gives what it was sent.
fn chat(messages: usize) -> (u16, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let taking = std::thread::spawn(move || {
        let mut taken = Vec::new();
        for _ in 0..messages {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = Vec::new();
            let mut piece = [0; 4096];
            loop {
                let read = stream.read(&mut piece).unwrap();
                asked.extend_from_slice(&piece[..read]);
                let text = String::from_utf8_lossy(&asked).into_owned();
                let length = text
                    .to_ascii_lowercase()
                    .split("content-length: ")
                    .nth(1)
                    .and_then(|rest| rest.split("\r\n").next()?.parse::<usize>().ok());
                if let (Some((_, body)), Some(length)) = (text.split_once("\r\n\r\n"), length)
                    && body.len() >= length
                {
                    break;
                }
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").unwrap();
            taken.push(String::from_utf8(asked).unwrap());
        }
        taken
    });
    (port, taking)
}

fn state_has_no_address(home: &Home) {
    for (path, body) in home.everything() {
        assert!(!String::from_utf8_lossy(&body).contains("canary_of_the_hook"), "{} holds the address", path.display());
    }
}

/// PHS-03, INC-12: a channel that is down holds nothing up; it is shown, and what was to be said is said when it is there again.
#[test]
fn phs_03_a_dead_channel_holds_nothing_up() {
    let (port, taking) = chat(2);
    let home = home(port);
    run(&home, port, &["rollback", "--dry-run"])
        .ends(ExitCode::Ok)
        .says(&["tell that it begins", "tell that it is over"]);
    assert!(!home.path("messages.jsonl").exists(), "a dry run tells nobody");
    run(&home, port, &["rollback", "--yes", "--reason", "orders are lost"]).ends(ExitCode::Ok);
    let chat = taking.join().unwrap();
    assert!(
        chat[0].starts_with(&format!("POST {HOOK} ")) && chat[0].contains("ROLLBACK IN PROGRESS - do not make changes"),
        "{chat:?}"
    );
    assert!(chat[0].contains("due to orders are lost") && chat[1].contains("Rollback complete"), "{chat:?}");
    let lines = std::fs::read_to_string(home.path("messages.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 2, "{lines}");
    // Nobody has said how this app is looked at, so nothing is called verified.
    assert!(lines.contains("NOT VERIFIED"), "{lines}");
    let mails = std::fs::read_to_string(home.path("mails")).unwrap();
    assert!(mails.contains("To: oncall@shop.example\n") && mails.matches("Subject: ").count() == 1, "{mails}");
    let listed = run(&home, port, &["messages", "list", "--json"]).ends(ExitCode::ActionAdvised).json();
    let waiting: Vec<&str> = listed["messages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["sent_at"].is_null())
        .map(|one| one["channel"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(waiting, ["gone", "gone"], "{listed}");
    run(&home, port, &["messages", "retry"]).ends(ExitCode::ActionAdvised).says(&["2 tries"]);
    // It is there again.
    let (port, taking) = self::chat(2);
    let settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
    home.write("lifeboat.toml", settings.replace("GONE_WEBHOOK", "CHAT_WEBHOOK"));
    run(&home, port, &["messages", "retry"]).ends(ExitCode::Ok);
    assert_eq!(taking.join().unwrap().len(), 2);
    run(&home, port, &["messages", "retry"]).ends(ExitCode::Ok).says(&["no message"]);
    run(&home, port, &["messages", "list"]).ends(ExitCode::Ok).says(&["gone", "chat", "status", "mail"]);
    state_has_no_address(&home);
}

/// PHS-13: "complete" is said only after what runs was looked at; when it does not come up, that is said instead.
#[test]
fn phs_13_complete_is_said_only_when_it_is() {
    let (port, taking) = chat(2);
    let home = home(port);
    home.write("broken", "");
    // What is put back is started as well, so that it ends well needs a start that works again.
    program(&home, "deploy", "#!/bin/sh\ncase $1 in use) echo \"$2\" > IN_USE ;; start) grep -q v2 IN_USE ;; esac\n");
    run(&home, port, &["rollback", "--yes"]).ends(ExitCode::FailedUndone);
    let chat = taking.join().unwrap();
    assert!(chat[1].contains("ROLLBACK FAILED: everything is as it was before"), "{chat:?}");
    let lines = std::fs::read_to_string(home.path("messages.jsonl")).unwrap();
    assert!(!lines.contains("complete") && lines.contains("rollback-failed"), "{lines}");
    assert!(std::fs::read_to_string(home.path("mails")).unwrap().contains("ROLLBACK FAILED"));
}

#[test]
fn what_a_channel_needs_is_said() {
    for (lines, says) in [
        ("[notify.chat]\n", &["has to say one of file, webhook and sendmail"][..]),
        ("[notify.chat]\nfile = \"a\"\nsendmail = [\"b\"]\n", &["has to say one of"]),
        ("[notify.chat]\nfile = \"a\"\nfor = [\"lunch\"]\n", &["lunch", "begun"]),
        ("[notify.mail]\nsendmail = [\"sendmail\", \"-t\"]\n", &["to nobody", "to ="]),
        ("[notify.\"a/b\"]\nfile = \"a\"\n", &["cannot name a channel"]),
    ] {
        let home = Home::shop();
        let settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
        home.write("lifeboat.toml", format!("{settings}{lines}"));
        home.run(&["status"]).ends(ExitCode::Usage).says(says);
    }
    let home = Home::shop();
    home.run(&["messages", "test"]).ends(ExitCode::Usage).says(&["there is no channel", "[notify.chat]"]);
    home.run(&["messages", "list"]).ends(ExitCode::Ok).says(&["no message"]);
}

/// PHS-20: an open incident reminds of what is not on record, each once; what is on record is not reminded of.
#[test]
fn phs_20_an_open_incident_reminds() {
    let home = Home::shop();
    let settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
    home.write(
        "lifeboat.toml",
        format!("{settings}[notify.status]\nfile = \"./messages.jsonl\"\n[notify.begun]\nfile = \"./begun.jsonl\"\nfor = [\"begun\"]\n"),
    );
    home.run(&["messages", "remind"]).ends(ExitCode::Ok).says(&["no message"]);
    home.run(&["incident", "open", "orders are lost", "--since", "20m ago"]).ends(ExitCode::Ok);
    let reminded = home.run(&["messages", "remind"]).ends(ExitCode::Ok);
    reminded.says(&["5 minutes: the impact assessment is due", "15 minutes: a quick fix has had its time"]);
    home.run(&["messages", "remind"]).ends(ExitCode::Ok).says(&["no message"]);
    let lines = std::fs::read_to_string(home.path("messages.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 2, "{lines}");
    assert!(!home.path("begun.jsonl").exists());
    home.run(&["incident", "close", "--note", "over"]).ends(ExitCode::Ok);
    home.run(&["incident", "open", "again", "--since", "40m ago"]).ends(ExitCode::Ok);
    home.run(&[
        "assess",
        "--severity",
        "major",
        "--users",
        "12",
        "--systems",
        "Auth",
        "--data-at-risk",
        "no",
        "--quick-fix",
        "10m",
    ]);
    let reminded = home.run(&["messages", "remind"]).ends(ExitCode::Ok);
    assert!(!reminded.out.contains("impact"), "{}", reminded.out);
    reminded.says(&["30 minutes: the decision is due"]);
}
