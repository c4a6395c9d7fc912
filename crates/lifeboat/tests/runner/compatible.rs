//! What people, scripts and old habits rely on: the addresses that the document asks with `curl`, and the names of files.

use std::collections::BTreeSet;

use lifeboat_model::ExitCode;
use serde_json::Value;

use crate::{
    document::{ADD_CUSTOMER, Shop},
    home::collect,
};

/// CMP-04: whatever the document asks is answered, as it is written; only the port may be another on this host.
#[test]
fn cmp_04_every_curl_of_the_document_is_answered() {
    let shop = Shop::open();
    let document = std::fs::read_to_string(shop.home.path("DISASTER-RECOVERY.md")).unwrap();
    let mut asked = BTreeSet::new();
    for curl in curls(&document) {
        let told = shop.shell(&format!("{curl} -s -w '\n%{{http_code}}'")).ends(ExitCode::Ok).out;
        let (body, status) = told.trim_end().rsplit_once('\n').unwrap_or_else(|| panic!("{curl}: {told}"));
        let body: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{curl}: {told}"));
        // Only who is an admin clears, also where the document forgets to say so.
        let needs_token = curl.contains("queue/clear") && !curl.contains("Authorization");
        match (status, needs_token) {
            ("401", true) => assert!(body["title"].is_string(), "{curl}: {body}"),
            ("200" | "201", false) => assert!(!body["data"].is_null(), "{curl}: {body}"),
            _ => panic!("{curl}: {status} {body}"),
        }
        let address = curl.split("localhost:3002").nth(1).unwrap();
        asked.insert(address.split([' ', '?']).next().unwrap().to_owned());
    }
    let all = [
        "/api/auth/login",
        "/api/customers",
        "/api/health",
        "/api/repair-orders",
        "/api/sync/disable",
        "/api/sync/enable",
        "/api/sync/queue",
        "/api/sync/queue/clear",
        "/api/sync/status",
        "/api/sync/trigger",
    ];
    assert_eq!(asked.iter().map(String::as_str).collect::<Vec<_>>(), all);
}

/// Every `curl` of a document with its words, without what the shell does with its answer.
fn curls(document: &str) -> Vec<String> {
    let whole = document.replace("\\\n", " ");
    let of_line = |line: &str| {
        let curl = &line[line.find("curl ")?..];
        let (mut end, mut quote) = (curl.len(), None);
        for (at, letter) in curl.char_indices() {
            match (quote, letter) {
                (None, '|' | '>' | ')' | '#') => {
                    end = at;
                    break;
                }
                (None, '\'' | '"') => quote = Some(letter),
                (Some(open), letter) if open == letter => quote = None,
                _ => {}
            }
        }
        Some(curl[..end].trim().to_owned())
    };
    whole.lines().filter_map(of_line).filter(|curl| curl.contains("http://localhost:3002")).collect()
}

/// CMP-05: what is made by which command, under which name.
#[test]
fn cmp_05_files_have_the_names_that_the_document_gives_them() {
    let shop = Shop::open();
    let settings = std::fs::read_to_string(shop.home.path("lifeboat.toml")).unwrap();
    let here = settings.replace("s3://collision-os-offsite/backups/", "./offsite/");
    assert_ne!(settings, here);
    shop.home.write("lifeboat.toml", here);
    let level_2 = format!("lifeboat sync disable && {ADD_CUSTOMER} && lifeboat level 2 --reason odd --yes");
    let table = [
        // The shop's first backup has made it.
        ("app/database.sqlite.backup.YYYYMMDD", ""),
        ("app/backups/database-pre-change-YYYYMMDD-HHMMSS.sqlite", "./scripts/backup-now.sh"),
        ("app/database.sqlite.backup", ""),
        ("app/offsite/collision-os-YYYYMMDD.sqlite", "lifeboat vault copy"),
        ("app/database-test.sqlite", "lifeboat restore db --into database-test.sqlite"),
        ("queue-backup-YYYYMMDD-HHMMSS.json", level_2.as_str()),
        (
            "app/database.sqlite.CORRUPTED.YYYYMMDD-HHMMSS",
            "lifeboat prove && pm2 stop collision-os && printf 'no database here' | dd of=database.sqlite conv=notrunc status=none && \
             lifeboat level 5 --watch 0s --confirm collisionos/production",
        ),
    ];
    for (pattern, command) in table {
        shop.setup(command);
        let names = names(&shop);
        let fitting = names.iter().filter(|name| ends_as(name, pattern)).count();
        assert_eq!(fitting, 1, "{pattern} after {command:?}: {names:#?}");
    }
    // And nothing that looks like one of them has another name.
    let odd: Vec<String> = names(&shop)
        .into_iter()
        .filter(|name| name.contains("backup") || name.contains("CORRUPTED") || name.ends_with(".sqlite"))
        .filter(|name| !name.starts_with("app/backups/vault/") && !name.ends_with("app/database.sqlite"))
        .filter(|name| !name.ends_with("backup-now.sh") && !name.ends_with("-wal") && !name.ends_with("-shm"))
        .filter(|name| !table.iter().any(|(pattern, _)| ends_as(name, pattern)))
        .collect();
    assert_eq!(odd, Vec::<String>::new());
    shop.setup("git commit --quiet -am offsite && lifeboat level 3 --stable --yes");
    let branches = shop.setup("git -C ../remote.git branch --format '%(refname:short)'");
    assert_eq!(branches.lines().filter(|name| ends_as(name, "backup-YYYYMMDD")).count(), 1, "{branches}");
}

/// All files, without the working copies of git.
fn names(shop: &Shop) -> Vec<String> {
    let (mut found, root) = (Vec::new(), shop.home.app().parent().unwrap().to_owned());
    collect(&root, &mut found);
    let names = found.iter().map(|(path, _)| path.strip_prefix(&root).unwrap_or(path).display().to_string());
    names.filter(|name| !name.contains(".git/") && !name.starts_with("remote.git/")).collect()
}

/// Whether a name, or the end of it from a `/` on, is as a pattern says, in which letters stand for the digits of a time.
fn ends_as(name: &str, pattern: &str) -> bool {
    let starts = std::iter::once(0).chain(name.match_indices('/').map(|(at, _)| at + 1));
    starts.map(|at| &name[at..]).any(|end| {
        let (end, mut rest) = (end.as_bytes(), pattern);
        let mut at = 0;
        while !rest.is_empty() {
            let stamp = ["YYYYMMDD", "HHMMSS"].into_iter().find(|stamp| rest.starts_with(stamp));
            let length = stamp.map_or(1, str::len);
            let Some(part) = end.get(at..at + length) else { return false };
            let fits = match stamp {
                Some(_) => part.iter().all(u8::is_ascii_digit),
                None => part == &rest.as_bytes()[..1],
            };
            if !fits {
                return false;
            }
            (at, rest) = (at + length, &rest[length..]);
        }
        at == end.len()
    })
}
