//! PostgreSQL on a bad day: no backup at all, a provider that has to be asked, one way after the other that fails, a person who
//! interrupts.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use lifeboat_model::ExitCode;
use lifeboat_testkit::postgres::{Server, client_programs};

use crate::{
    home::Home,
    postgres::{run, shop},
};

fn orders(server: &Server) -> String {
    // Writes too: neither a fence nor a closed database is left.
    server.sql("shop", "UPDATE customers SET email = email WHERE id = 1");
    server.sql("shop", "SELECT count(*) || ' ' || sum(cents) FROM orders")
}

fn databases(server: &Server) -> String {
    server.sql("postgres", "SELECT string_agg(datname, ' ' ORDER BY 1) FROM pg_database WHERE datname LIKE 'shop%'")
}

/// RST-12: without a backup there are four ways, each looked up, the words for the provider, and what the audit log says of a day.
#[test]
fn rst_12_without_a_backup_it_says_what_else_there_is() {
    let (home, server) = (Home::bare(), shop(15));
    let name = format!("postgres:{}", server.url("shop"));
    let with = |words: &[&str]| run(&home, &[words, &["--vault", "./vault", "--for", &name]].concat());
    let hint = "lifeboat provider routes shop";
    with(&["restore", "shop", "--confirm", "shop/local"]).ends(ExitCode::Refused).says(&[hint]);
    server.sql(
        "shop",
        "CREATE TABLE audit_log (id bigserial PRIMARY KEY, created_at timestamptz NOT NULL DEFAULT now(), table_name text, action text);
         INSERT INTO audit_log (table_name, action) SELECT 'orders', 'DELETE' FROM generate_series(1, 1234);
         INSERT INTO audit_log (table_name, action, created_at) VALUES ('orders', 'INSERT', now() - interval '2 days')",
    );
    server.sql("postgres", "CREATE DATABASE shop_before_20260101000000_abcd");
    home.write("shop-backup-20260102.sql", "-- PostgreSQL database dump\nSELECT 1;\n");
    home.write(
        "lifeboat.toml",
        format!(
            "version = 1\n[app]\nname = \"shop\"\n[vault]\nlocation = \"./vault\"\npassword = {{ env = \"LIFEBOAT_VAULT_PASSWORD\" }}\n\
             [environments.local.resources.db]\nkind = \"postgres\"\nurl = \"postgres://postgres@:5432/shop?host={}\"\n",
            server.socket_folder().display().to_string().replace('/', "%2F")
        ),
    );
    let routes = run(&home, &["provider", "routes", "db"]).ends(ExitCode::Ok);
    let routes = routes.says(&[
        "1. Backups that the platform makes",
        "2. A restore by the provider",
        "3. Copies",
        "4. Mending by hand",
    ]);
    let routes = routes.says(&["shop_before_20260101000000_abcd", "provider ask db --to", "shop-backup-20260102.sql"]);
    routes.says(&["audit_log of the last 24 hours: 1234 rows", "orders DELETE: 1234"]);
    let told = run(&home, &["provider", "routes", "db", "--json"]).ends(ExitCode::Ok).json();
    assert_eq!(told["routes"]["audit"]["Ok"]["rows"], 1234);
    // What cannot be asked hides nothing else.
    let mut server = server;
    server.crash();
    let routes = run(&home, &["provider", "routes", "db"]).ends(ExitCode::Ok);
    routes.says(&["is not known: ", "It could not be asked: ", "shop-backup-20260102.sql"]);
}

/// RST-24: the request has all that a provider asks back for, and is open until its end is on record.
#[test]
fn rst_24_a_restore_by_the_provider_is_open_until_its_outcome_is_recorded() {
    let (home, server) = (Home::bare(), shop(15));
    let name = format!("postgres:{}", server.url("shop"));
    let with = |words: &[&str]| run(&home, &[words, &["--vault", "./vault", "--for", &name]].concat());
    let ask = ["provider", "ask", "shop", "--to", "2026-11-20T13:05:00Z", "--reason", "a migration emptied orders"];
    with(&ask).ends(ExitCode::Usage).says(&["what the provider calls the project", "--project"]);
    let named = [&ask[..], &["--project", "shop-eu-1", "--file", "request.txt"]].concat();
    with(&[&named[..], &["--dry-run"]].concat()).ends(ExitCode::Ok);
    assert!(!home.path("request.txt").exists(), "a look writes nothing");
    with(&named).ends(ExitCode::Ok).says(&["lifeboat provider ticket"]);
    let text = std::fs::read_to_string(home.path("request.txt")).unwrap();
    for part in ["shop-eu-1", "2026-11-20T13:05:00Z (UTC)", "a migration emptied orders", "NEW database"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    with(&named).ends(ExitCode::Usage).says(&["request.txt exists already"]);
    let future = ["provider", "ask", "shop", "--to", "2999-01-01T00:00:00Z", "--reason", "x", "--project", "p"];
    with(&future).ends(ExitCode::Usage).says(&["in the future"]);
    with(&["provider", "list"]).ends(ExitCode::Ok).says(&["open", "2026-11-20"]);
    with(&["status"]).ends(ExitCode::Ok).says(&["a restore of shop by the provider (without a number yet)"]);
    with(&["provider", "ticket", "48151623"]).ends(ExitCode::Ok);
    with(&["status"]).ends(ExitCode::Ok).says(&["(number 48151623)"]);
    with(&["provider", "show"]).ends(ExitCode::Ok).says(&["shop-eu-1"]);
    with(&["provider", "outcome", "--note", "x"]).ends(ExitCode::Usage);
    with(&["provider", "outcome", "--restored", "--note", "complete up to 13:04:58"]).ends(ExitCode::Ok);
    with(&["provider", "list"]).ends(ExitCode::Ok).says(&["restored", "48151623"]);
    assert!(!with(&["status"]).ends(ExitCode::Ok).out.contains("by the provider"));
    // OBJ-04: measured, and no promise is broken by it.
    with(&["objectives"]).says(&["restore of shop by the provider", "not rated"]);
    with(&["provider", "outcome", "--restored", "--note", "x"]).ends(ExitCode::Usage).says(&["is open"]);
    with(&["history"]).ends(ExitCode::Ok).says(&["provider"]);
}

/// RST-21, PHS-14 (appendix 3), C-25: one way fails, and the next, and a fresh database beside follows by itself; what failed is on
/// record with it, what is live and the backup are as they were. The same once more needs a word.
#[test]
fn rst_21_after_two_ways_that_fail_a_third_goes_and_knows_of_both() {
    let (home, server) = (Home::bare(), shop(15));
    let name = format!("postgres:{}", server.url("shop"));
    let with = |words: &[&str]| run(&home, &[words, &["--vault", "./vault", "--for", &name]].concat());
    // Large objects are in no schema: with one, an exchange of schemas would bring back less, and is no way.
    server.sql("shop", "SELECT lo_unlink(4711)");
    with(&["backup", "shop"]).ends(ExitCode::Ok);
    let then = orders(&server);
    let backup = with(&["backups", "list", "--json"]).ends(ExitCode::Ok).json();
    let backup = backup["backups"][0]["id"].as_str().unwrap().to_owned();
    server.sql("shop", "INSERT INTO orders (customer, cents) VALUES (1, 77)");
    let live = orders(&server);
    // Neither a database nor a schema takes the place of one that is held.
    server.sql("shop", "BEGIN; UPDATE customers SET email = 'held' WHERE id = 2; PREPARE TRANSACTION 'held'");
    let restore = ["restore", "shop", "--confirm", "shop/local", "--accept-loss", "any"];
    // Who wants one way has one.
    with(&[&restore[..], &["--one-way"]].concat()).ends(ExitCode::FailedUndone);
    assert_eq!(databases(&server), "shop");
    let class = with(&restore).ends(ExitCode::NeedsPerson).err;
    let class = class.split("--ack ").nth(1).unwrap().split([';', ' ', '\n']).next().unwrap().to_owned();
    let told = with(&[&restore[..], &["--ack", &class, "--json"]].concat()).ends(ExitCode::FailedUndone).json();
    let fresh = told["request"]["into"].as_str().unwrap().to_owned();
    assert!(fresh.starts_with("shop_fresh_"), "{told}");
    assert_eq!(databases(&server), format!("shop {fresh}"));
    let count = "SELECT count(*) || ' ' || sum(cents) FROM orders";
    assert_eq!((server.sql(&fresh, count), server.sql("shop", count)), (then, live.clone()));
    assert_eq!(told["tried"].as_array().unwrap().len(), 2, "{told}");
    let record = with(&["journal", "show", told["id"].as_str().unwrap(), "--json"]).ends(ExitCode::Ok).out;
    for (number, way) in ["by rename", "by schema"].iter().enumerate() {
        let (id, why) = (&told["tried"][number]["id"], &told["tried"][number]["why"]["message"]);
        let why = why.as_str().unwrap();
        let tried = format!("{} from {backup} failed and was put back ({way}; ", id.as_str().unwrap());
        assert!(record.contains(&tried) && why.contains("prepared"), "{tried} {why}: {record}");
        let its = with(&["journal", "show", id.as_str().unwrap(), "--json"]).ends(ExitCode::Ok).out;
        assert!(its.contains("put-back") && its.contains(&serde_json::to_string(why).unwrap()), "{its}");
    }
    with(&["backups", "verify", &backup]).ends(ExitCode::Ok);
    // The fresh one settles nothing of the live one.
    with(&restore).ends(ExitCode::NeedsPerson).says(&["tried the same", "--ack "]);
    server.sql("shop", "ROLLBACK PREPARED 'held'");
    assert_eq!(orders(&server), live);
}

/// RST-21: a backup that proves damaged leads to the newest *proven* one before it; but only so far as no more is lost than was
/// agreed to: else that one comes beside, and the live one stays.
#[test]
fn rst_21_a_damaged_backup_leads_to_the_newest_proven_one_before_it() {
    let (home, server) = (Home::bare(), shop(15));
    let name = format!("postgres:{}", server.url("shop"));
    let with = |words: &[&str]| run(&home, &[words, &["--vault", "./vault", "--for", &name]].concat());
    let backup = || {
        let told = run(&home, &["backup", &name, "--vault", "./vault", "--json"]).ends(ExitCode::Ok).json();
        told["backups"][0]["id"].as_str().unwrap().to_owned()
    };
    let (proven, then) = (backup(), orders(&server));
    with(&["prove", &proven]).ends(ExitCode::Ok);
    server.sql("shop", "INSERT INTO orders (customer, cents) VALUES (1, 5)");
    let unproven = backup();
    let packs = || -> std::collections::BTreeSet<_> {
        let data = home.path("vault").join("data");
        let folders = std::fs::read_dir(data).unwrap().map(|one| one.unwrap().path());
        folders.flat_map(|one| std::fs::read_dir(one).unwrap().map(|file| file.unwrap().path())).collect()
    };
    // Too much for one pack: definitions and manifest are in another.
    server.sql(
        "shop",
        "CREATE TABLE bulk AS SELECT n, (SELECT string_agg(md5(n || '-' || m || random()), '') FROM generate_series(1, 30) m) AS noise
           FROM generate_series(1, 40000) n",
    );
    let before = packs();
    let damaged = backup();
    let largest = packs().difference(&before).max_by_key(|path| path.metadata().unwrap().len()).unwrap().clone();
    std::fs::remove_file(&largest).unwrap();
    server.sql("shop", "INSERT INTO orders (customer, cents) VALUES (1, 77)");
    let live = orders(&server);
    // What was shown is what leaves since the newest one; the older one loses more.
    let shown = with(&["restore", "shop", "--confirm", "shop/local"]).ends(ExitCode::FailedUndone);
    let shown = shown.says(&["it would lose more than was agreed to", &format!("{proven} into a fresh database")]);
    assert!(!shown.err.contains(&format!("Next way: {unproven}")), "{}", shown.err);
    assert_eq!(orders(&server), live);
    let told = with(&["history", "--json"]).ends(ExitCode::Ok).out;
    let fresh = databases(&server).split(' ').find(|name| name.starts_with("shop_fresh_")).unwrap().to_owned();
    assert!(told.contains(&fresh), "{told}");
    let count = "SELECT count(*) || ' ' || sum(cents) FROM orders";
    assert_eq!(server.sql(&fresh, count), then);
    // A person who named a backup gets no other one.
    let named = ["restore", "shop", "--from", &damaged, "--confirm", "shop/local", "--ack", "damaged"];
    let named = with(&[&named[..], &["--accept-loss", "any"]].concat());
    assert!(named.code != Some(0) && named.err.contains("no proven backup before it"), "{}", named.err);
    assert_eq!(orders(&server), live);
    // Any loss was agreed to: it takes the place of the live one.
    let any = ["restore", "shop", "--accept-loss", "any", "--confirm", "shop/local", "--ack", "damaged"];
    with(&any).ends(ExitCode::Ok).says(&["Next way: the newest proven backup before it"]);
    assert_eq!(orders(&server), then);
}

/// RST-22: whoever interrupts the program while rows come in finds the database as it was; from there it goes on, or back.
#[test]
fn rst_22_a_restore_that_is_interrupted_leaves_what_was_there() {
    let server = shop(15);
    // Rows come in slowly, in a database that is being filled and nowhere else.
    server.sql(
        "shop",
        "CREATE FUNCTION slow() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
             IF current_database() LIKE 'shop_lifeboat_%' THEN PERFORM pg_sleep(3); END IF; RETURN true; END $$;
         CREATE TABLE waits (id int PRIMARY KEY CHECK (slow())); INSERT INTO waits VALUES (1)",
    );
    let home = Home::bare();
    let name = format!("postgres:{}", server.url("shop"));
    let with = |words: &[&str]| run(&home, &[words, &["--vault", "./vault", "--for", &name]].concat());
    with(&["backup", "shop"]).ends(ExitCode::Ok);
    let new = orders(&server);
    server.sql("shop", "INSERT INTO orders (customer, cents) VALUES (1, 77)");
    let old = orders(&server);
    for (signals, verb) in [(&["-INT", "-INT"][..], "nothing"), (&["-TERM"], "abort"), (&["-INT"], "resume")] {
        let words = ["restore", "shop", "--confirm", "shop/local", "--vault", "./vault", "--for", &name];
        let path = format!("{}:{}", client_programs(16).display(), std::env::var("PATH").unwrap_or_default());
        let mut command = home.command(&words);
        let child = command.env("PATH", path).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let loading = "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname LIKE 'shop_lifeboat_%' AND query LIKE 'COPY public.waits%'
                          AND wait_event = 'PgSleep'";
        let until = Instant::now() + Duration::from_secs(60);
        while server.sql("postgres", loading) != "t" {
            assert!(Instant::now() < until, "it never came to load");
        }
        for signal in signals {
            let sent = Command::new("kill").args([*signal, child.id().to_string().as_str()]).status().unwrap();
            assert!(sent.success());
            std::thread::sleep(Duration::from_millis(300));
        }
        let ended = home.ran(&words, child.wait_with_output().unwrap());
        let what = format!("{signals:?}: {:?} {}", ended.code, ended.err);
        assert_ne!(ended.code, Some(0), "{what}");
        assert_eq!(orders(&server), old, "{what}");
        match verb {
            "resume" => {
                with(&["resume"]).ends(ExitCode::Ok);
                assert_eq!(orders(&server), new);
            }
            _back => {
                // The second time it breaks off, and puts all of it back by itself.
                assert_eq!(ended.code == Some(1), verb == "nothing", "{what}");
                if verb == "abort" {
                    let put_back = with(&["abort"]);
                    assert!(matches!(put_back.code, Some(0 | 1)), "{what}: {}", put_back.err);
                }
                assert_eq!((orders(&server), databases(&server).as_str()), (old.clone(), "shop"), "{what}");
            }
        }
    }
}
