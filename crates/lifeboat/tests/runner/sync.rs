//! `sync`, through the program.

use lifeboat_model::ExitCode;
use lifeboat_testkit::postgres::Server;

use crate::home::{Home, Ran};

/// A shop whose file is mirrored to a server of its own.
pub struct Shop {
    pub home: Home,
    pub server: Server,
}

impl Shop {
    fn new() -> Shop {
        let (home, server) = (Home::bare(), Server::start(15));
        server.sql("postgres", "CREATE DATABASE cloud");
        home.db().execute_batch("DROP TABLE \"quote\"\"d\n🦀\"; DROP TABLE empty; DROP TABLE pictures").unwrap();
        home.write(
            "lifeboat.toml",
            format!(
                "version = 1\n[app]\nname = \"shop\"\n[vault]\nlocation = \"./vault\"\npassword = {{ env = \"LIFEBOAT_VAULT_PASSWORD\" }}\n\
                 [environments.local.resources.db]\nkind = \"sqlite\"\npath = \"./shop.db\"\n\
                 [environments.local.links.cloud]\nfrom = \"db\"\nurl = \"{}\"\nenv_file = \"./.env\"\n",
                server.url("cloud")
            ),
        );
        Shop { home, server }
    }

    /// Its file is mirrored already.
    pub fn attached() -> Shop {
        let shop = Shop::new();
        shop.run(&["attach", "--yes"]).ends(ExitCode::Ok);
        shop
    }

    pub fn run(&self, words: &[&str]) -> Ran {
        self.home.run(&[&["sync"], words].concat())
    }

    fn status(&self) -> serde_json::Value {
        self.run(&["status", "--json"]).ends(ExitCode::Ok).json()
    }

    fn cloud(&self, question: &str) -> String {
        self.server.sql("cloud", question).trim().to_owned()
    }

    pub fn orders(&self) -> String {
        self.cloud("SELECT count(*) FROM mirror.orders")
    }
}

/// EMRG-12: a re-sync of a hundred thousand rows is killed on its way; begun again it ends, and nothing is there twice.
#[test]
fn emrg_12_a_re_sync_that_was_killed_ends_when_it_is_begun_again() {
    let shop = Shop::attached();
    shop.run(&["disable"]).ends(ExitCode::Ok);
    shop.home
        .db()
        .execute_batch(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 99960)
             INSERT INTO orders (what, created_at) SELECT 'thing ' || i, datetime('now') FROM n",
        )
        .unwrap();
    shop.run(&["queue", "clear", "--yes", "--reason", "a re-sync follows"]).ends(ExitCode::Ok);
    // Slow enough to be caught in the middle.
    shop.cloud(
        "TRUNCATE mirror.orders;
         CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.02); RETURN NULL; END';
         CREATE TRIGGER slow AFTER INSERT ON mirror.orders FOR EACH STATEMENT EXECUTE FUNCTION slow()",
    );
    let mut resync = shop.home.command(&["sync", "resync", "--yes", "-q"]).spawn().unwrap();
    let arrived = || shop.orders().parse::<u32>().unwrap();
    while arrived() < 40_000 {
        assert_eq!(resync.try_wait().unwrap(), None, "it ended before it was caught");
    }
    resync.kill().unwrap();
    resync.wait().unwrap();
    let half = arrived();
    assert!((40_000..100_000).contains(&half), "{half}");
    shop.cloud("DROP TRIGGER slow ON mirror.orders");
    shop.run(&["resync", "--yes"]).ends(ExitCode::Ok);
    assert_eq!(shop.orders(), "100000");
    assert_eq!(shop.cloud("SELECT count(DISTINCT id) FROM mirror.orders"), "100000");
    shop.run(&["check"]).ends(ExitCode::Ok).says(&["The cloud holds what the file holds"]);
}

#[test]
fn a_shop_is_mirrored_switched_off_cleared_and_made_equal_again() {
    let shop = Shop::new();
    shop.run(&["status"]).ends(ExitCode::Ok).says(&["lifeboat sync attach"]);
    shop.run(&["trigger"]).ends(ExitCode::Refused).says(&["no triggers of a mirror"]);
    shop.run(&["attach", "--dry-run"]).ends(ExitCode::Ok).says(&["CREATE TRIGGER", "_lifeboat_orders_i"]);
    assert!(!shop.status()["attached"].as_bool().unwrap(), "a dry run changes nothing");
    shop.run(&["attach"]).ends(ExitCode::NeedsPerson);
    shop.run(&["attach", "--yes"]).ends(ExitCode::Ok);
    assert_eq!(shop.orders(), "40");
    shop.home.sell(5);
    let status = shop.status();
    assert_eq!((&status["queue"]["queueSize"], &status["mode"]), (&5.into(), &"hybrid".into()), "{status}");
    shop.run(&["trigger"]).ends(ExitCode::Ok).says(&["5 changes delivered"]);
    assert_eq!(shop.orders(), "45");

    shop.run(&["disable", "--reason", "odd errors"]).ends(ExitCode::Ok);
    shop.run(&["trigger"]).ends(ExitCode::Refused).says(&["switched off", "odd errors", "lifeboat sync enable"]);
    shop.home.sell(3);
    shop.run(&["status"]).ends(ExitCode::Ok).says(&["holds changes", "odd errors", "3 changes"]);
    shop.run(&["queue", "list"]).ends(ExitCode::Ok).says(&["orders", "insert", "id=46"]);
    shop.run(&["queue", "save", "kept.json"]).ends(ExitCode::Ok).says(&["3 changes saved"]);
    shop.run(&["queue", "save", "kept.json"]).ends(ExitCode::Refused);
    shop.run(&["queue", "clear", "--yes"]).ends(ExitCode::Refused).says(&["no reason to clear"]);
    shop.run(&["queue", "clear", "--reason", "a test", "--yes"]).ends(ExitCode::Ok);
    assert_eq!(shop.status()["queue"]["queueSize"], 0);
    shop.run(&["enable"]).ends(ExitCode::Ok);
    shop.run(&["trigger"]).ends(ExitCode::Ok);
    assert_eq!(shop.orders(), "45", "what was cleared never arrives");
    shop.run(&["check"]).ends(ExitCode::Damaged).says(&["orders: 46; 47; 48", "lifeboat sync resync"]);
    shop.run(&["resync", "--dry-run"]).ends(ExitCode::Ok);
    shop.run(&["resync", "--yes"]).ends(ExitCode::Ok);
    shop.run(&["check"]).ends(ExitCode::Ok).says(&["The cloud holds what the file holds"]);
    shop.run(&["queue", "import", "kept.json"]).ends(ExitCode::Ok);
    shop.run(&["trigger", "--json"]).ends(ExitCode::Ok);
    assert_eq!(shop.orders(), "48");
    shop.run(&["detach", "--yes"]).ends(ExitCode::Ok);
    shop.home.sell(1);
    assert!(!shop.status()["attached"].as_bool().unwrap());
}

#[test]
fn sync_07_and_08_what_the_app_s_env_file_says_wins() {
    let shop = Shop::new();
    shop.run(&["attach", "--yes"]).ends(ExitCode::Ok);
    shop.home.write(".env", "SYNC_ENABLED=false\n");
    let status = shop.status();
    assert_eq!((status["enabled"].as_bool(), status["reason"].as_str()), (Some(false), Some("SYNC_ENABLED=false")));
    shop.run(&["enable"]).ends(ExitCode::Refused).says(&["SYNC_ENABLED=false", ".env"]);
    shop.home.write(".env", "ENABLE_SUPABASE=false\nSYNC_BATCH_SIZE=7\n");
    assert_eq!(shop.status()["mode"], "local-only");
    shop.run(&["check"]).ends(ExitCode::Refused).says(&["ENABLE_SUPABASE=false"]);
    shop.home.run(&["config", "show"]).ends(ExitCode::Ok).says(&["links.cloud.batch_rows", "SYNC_BATCH_SIZE"]);
    shop.home.write(".env", "SYNC_BATCH_SIZE=many\n");
    shop.run(&["status"]).ends(ExitCode::Usage).says(&["SYNC_BATCH_SIZE is no number"]);
}

#[test]
fn a_worker_delivers_until_it_is_ended() {
    let shop = Shop::new();
    shop.run(&["attach", "--yes"]).ends(ExitCode::Ok);
    let mut worker = shop.home.command(&["sync", "run"]).spawn().unwrap();
    shop.home.sell(2);
    let waited = std::time::Instant::now();
    while shop.orders() != "42" {
        assert!(waited.elapsed().as_secs() < 60, "nothing was delivered");
        std::thread::yield_now();
    }
    assert!(std::process::Command::new("kill").arg(worker.id().to_string()).status().unwrap().success());
    assert!(worker.wait().unwrap().success(), "ended when it was asked to");
}

/// `doctor` knows mirrors: whether changes are noted, the cloud answers, its tables fit, and what waits.
#[test]
fn doctor_looks_at_the_mirror() {
    let shop = Shop::new();
    let doctor = || shop.home.run(&["doctor"]);
    doctor().says(&[
        "failed   cloud",
        "no triggers: changes are not noted",
        "next: lifeboat sync attach",
        "tables or columns are made",
    ]);
    shop.run(&["attach", "--yes"]).ends(ExitCode::Ok);
    doctor().says(&["changes are noted and delivered", "its tables hold what the file has", "0 changes wait"]);
    shop.run(&["disable"]).ends(ExitCode::Ok);
    shop.home.db().execute_batch(
        "INSERT INTO orders (what, created_at) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1001) SELECT i, '' FROM n;
         CREATE TABLE later (id INTEGER PRIMARY KEY);",
    ).unwrap();
    doctor().says(&["changes are noted and held", "1001 changes wait", "1 tables or columns are made"]);
    shop.home.write(".env", "SUPABASE_URL=http://127.0.0.1:1\n");
    doctor().says(&["cloud over HTTP", "SUPABASE_URL does not answer"]);
    shop.home.write(".env", "SUPABASE_URL=http://127.0.0.1:1\nENABLE_SUPABASE=false\n");
    let told = doctor().says(&["no connection to the cloud is opened"]);
    assert!(!told.out.contains("SUPABASE_URL does not"), "{}", told.out);
}
