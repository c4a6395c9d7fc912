//! `lifeboat verify` of PostgreSQL databases, and what is said when one does not answer, or was restored from the wrong backup.

use lifeboat_model::ExitCode;
use lifeboat_testkit::postgres::Server;

use crate::{
    home::Home,
    postgres::{run, shop},
};

fn address(server: &Server) -> String {
    format!("postgres:{}", server.url("shop"))
}

/// VFY-02, VFY-03, VFY-15: questions of one's own, each with its answer; a question that cannot be asked is unknown.
#[test]
fn vfy_15_a_file_of_assertions_is_asked_and_each_answer_told() {
    let (home, server) = (Home::bare(), shop(15));
    let name = address(&server);
    let check = |name: &str, sql: &str, expect: &str, severity: &str| {
        format!("[[check]]\nname = \"{name}\"\nsql = \"{sql}\"\nexpect = {expect}\nseverity = \"{severity}\"\n")
    };
    let orphans = check(
        "orphans",
        "SELECT id FROM orders WHERE customer NOT IN (SELECT id FROM customers)",
        "\"empty\"",
        "critical",
    );
    let sold = check("sold", "SELECT count(*) FROM orders", "{ min = 5000, max = 6000 }", "major");
    let quality = check(
        "addresses",
        "SELECT 100.0 * count(*) FILTER (WHERE email LIKE '%@%') / count(*) FROM customers",
        "{ percent = 85 }",
        "major",
    );
    let first = check("first", "SELECT email FROM customers ORDER BY id LIMIT 1", "\"c1@example.org\"", "minor");
    let verify = |text: &str| {
        home.write("validate.toml", text);
        run(&home, &["verify", &name, "--checks", "validate.toml"])
    };
    let all = format!("score = 85\n{orphans}{sold}{quality}{first}");
    verify(&all).ends(ExitCode::Ok).says(&[
        "addresses (major): 100.00",
        "orphans (critical): no rows",
        "score: 100 %",
        "GO",
    ]);
    let told = run(&home, &["verify", &name, "--checks", "validate.toml", "--json"]).ends(ExitCode::Ok).json();
    let one = &told["resources"][0]["assertions"][0];
    assert_eq!(
        (one["name"].as_str(), one["severity"].as_str(), one["outcome"].as_str()),
        (Some("orphans"), Some("critical"), Some("pass"))
    );

    // 84 of 100 addresses: the rule of 85 is not met, however the rest stands.
    server.sql("shop", "UPDATE customers SET email = 'nobody' || id WHERE id > 84");
    verify(&all).ends(ExitCode::Damaged).says(&[
        "84.00",
        "it must be at least 85",
        "NO-GO",
        "score: 75 %; it must be at least 85 %",
    ]);
    // What is minor is told, and counts in the score alone.
    server.sql("shop", "UPDATE customers SET email = 'c' || id || '@example.org'; UPDATE customers SET email = 'x@example.org' WHERE id = 1");
    verify(&format!("score = 75\n{orphans}{sold}{quality}{first}"))
        .ends(ExitCode::Ok)
        .says(&["first (minor): x@example.org; it must be c1@example.org", "GO"]);
    verify(&all).ends(ExitCode::Damaged).says(&["score: 75 %"]);
    // Unknown is not good; and nothing that is asked can write.
    let nothing = check("nothing", "SELECT count(*) FROM no_such_table", "0", "major");
    verify(&nothing).ends(ExitCode::Unknown).says(&["no_such_table", "UNKNOWN"]);
    let writes = check("writes", "DELETE FROM orders RETURNING id", "\"empty\"", "major");
    verify(&writes).ends(ExitCode::Unknown).says(&["read-only"]);
    assert_eq!(server.sql("shop", "SELECT count(*) FROM orders"), "5000");
    verify("[[check]]\nname = \"a\"").ends(ExitCode::Usage).says(&["validate.toml cannot be used"]);
    run(&home, &["verify", "sqlite:./shop.db", "--checks", "validate.toml"]).ends(ExitCode::Usage);
}

/// RST-20: rows are missing after a restore that worked: it was the wrong backup, and which one would be right is said.
#[test]
fn rst_20_missing_rows_are_traced_to_the_backup_they_were_restored_from() {
    let (home, server) = (Home::bare(), shop(15));
    let name = address(&server);
    let with = |words: &[&str]| run(&home, &[words, &["--vault", "./vault", "--for", &name]].concat());
    let id = |ran: crate::home::Ran| ran.ends(ExitCode::Ok).json()["backups"][0]["id"].as_str().unwrap().to_owned();
    server.sql("shop", "CREATE TABLE kept AS SELECT * FROM orders; DELETE FROM orders WHERE id > 50");
    let old = id(run(&home, &["backup", &name, "--vault", "./vault", "--json"]));
    server.sql("shop", "INSERT INTO orders SELECT * FROM kept WHERE id > 50");
    let new = id(run(&home, &["backup", &name, "--vault", "./vault", "--json"]));
    with(&["verify"]).ends(ExitCode::Ok).says(&["record counts: within 50 %"]);
    with(&["restore", "shop", "--from", &old, "--confirm", "shop/local"]).ends(ExitCode::Ok);
    let told = with(&["verify"]).ends(ExitCode::Damaged);
    let restored = format!("what is live was restored from {old}, complete up to ");
    let better = format!("a better candidate is {new}, complete up to ");
    told.says(&["public.orders has 50 rows", &restored, &better, &format!("lifeboat restore shop --from {new}")]);
}

/// RST-23: a server that does not answer is no damaged database: nothing is tried, another server is offered.
#[test]
fn rst_23_unreachable_is_told_from_damaged() {
    let (home, mut server) = (Home::bare(), shop(15));
    let name = address(&server);
    let with = |words: &[&str]| run(&home, &[words, &["--vault", "./vault", "--for", &name]].concat());
    run(&home, &["backup", &name, "--vault", "./vault"]).ends(ExitCode::Ok);
    server.crash();
    let refused = with(&["restore", "shop", "--confirm", "shop/local"]).ends(ExitCode::Refused);
    refused.says(&[
        "the server of shop is unreachable",
        "its data may be unharmed",
        "onto another server: lifeboat restore postgres://",
    ]);
    with(&["verify"]).ends(ExitCode::Unknown).says(&["unreachable, which says nothing about the data"]);
    let history = with(&["history", "--json"]).ends(ExitCode::Ok).json();
    assert!(!history.to_string().contains("\"restore"), "nothing was tried: {history}");
    home.write(
        "lifeboat.toml",
        format!(
            "version = 1\n[app]\nname = \"shop\"\n[vault]\nlocation = \"./vault\"\n[environments.local.resources.db]\nkind = \"postgres\"\n\
             url = \"postgres://postgres@:5432/shop?host={}\"\n",
            server.socket_folder().display().to_string().replace('/', "%2F")
        ),
    );
    run(&home, &["doctor"]).says(&["it is unreachable, which says nothing about its data"]);
    server.restart();
    with(&["restore", "shop", "--confirm", "shop/local"]).ends(ExitCode::Ok);
    // A table whose file lost its bytes can be reached, and is damaged.
    let file = server.sql("shop", "SELECT pg_relation_filepath('orders')");
    server.sql("postgres", "CHECKPOINT");
    server.crash();
    let file = server.data_folder().join(file);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[8192..8192 + 4096].fill(0xff);
    std::fs::write(&file, bytes).unwrap();
    server.restart();
    with(&["verify"]).ends(ExitCode::Damaged).says(&["invalid page", "bring back a good backup"]);
    with(&["restore", "shop", "--confirm", "shop/local", "--without-emergency-backup", "it cannot be read"])
        .ends(ExitCode::Ok);
    with(&["verify"]).ends(ExitCode::Ok);
}

/// RST-16: the same once more, after a failure, needs somebody who names its class; another backup does not.
#[test]
fn rst_16_the_same_again_needs_the_class_of_the_failure() {
    let (home, server) = (Home::bare(), shop(15));
    let name = address(&server);
    let with = |words: &[&str]| run(&home, &[words, &["--vault", "./vault", "--for", &name]].concat());
    run(&home, &["backup", &name, "--vault", "./vault"]).ends(ExitCode::Ok);
    // A prepared transaction holds the database: the swap is refused before anything is lost.
    server.sql("shop", "BEGIN; UPDATE customers SET email = 'held' WHERE id = 1; PREPARE TRANSACTION 'held'");
    let restore = ["restore", "shop", "--confirm", "shop/local", "--accept-loss", "any"];
    let first = with(&restore);
    assert_ne!(first.code, Some(0));
    let again = with(&restore).ends(ExitCode::NeedsPerson).says(&["tried the same and failed", "--ack "]);
    let class = again.err.split("--ack ").nth(1).unwrap().split([';', ' ', '\n']).next().unwrap().to_owned();
    with(&[&restore[..], &["--ack", "something-else"]].concat()).ends(ExitCode::NeedsPerson);
    with(&[&restore[..], &["--dry-run"]].concat()); // looking is free
    // A plan is no way around: the word is part of what was asked for.
    let planned = |more: &[&str]| {
        let words = ["plan", "restore", "shop", "--accept-loss", "any", "--json"];
        let told = with(&[&words[..], more].concat()).ends(ExitCode::Ok).json();
        told["id"].as_str().unwrap().to_owned()
    };
    with(&["apply", &planned(&[]), "--confirm", "shop/local"]).ends(ExitCode::NeedsPerson).says(&["tried the same"]);
    server.sql("shop", "ROLLBACK PREPARED 'held'");
    with(&["apply", &planned(&["--ack", &class]), "--confirm", "shop/local"]).ends(ExitCode::Ok);
    with(&restore).ends(ExitCode::Ok); // what went well needs nothing
}

/// SLV-08, SLV-09, AUD-04: what the app's own log says was done, all of it, not its first hundred rows; and the backup from before
/// it went wrong.
#[test]
fn slv_09_the_audit_log_tells_what_was_done_and_which_backup_is_from_before() {
    let (home, server) = (Home::bare(), shop(15));
    let name = format!("postgres:{}", server.url("shop"));
    let ask = |more: &[&str]| run(&home, &[&["salvage", "scope", &name, "--vault", "./vault"], more].concat());
    ask(&[]).ends(ExitCode::Ok).says(&["has no audit log"]);
    server.sql(
        "shop",
        "CREATE TABLE audit_log (id bigserial PRIMARY KEY, created_at timestamptz NOT NULL DEFAULT now(), table_name text, action text);
         INSERT INTO audit_log (table_name, action, created_at) SELECT 'orders', 'INSERT', now() - interval '2 days' FROM generate_series(1, 50);
         INSERT INTO audit_log (table_name, action) SELECT CASE WHEN n % 5 = 0 THEN 'customers' ELSE 'orders' END, 'INSERT' FROM generate_series(1, 4990) n",
    );
    let backup = || run(&home, &["backup", &name, "--vault", "./vault", "--json"]).ends(ExitCode::Ok).json();
    backup();
    let good = backups(&home, &name).pop().unwrap();
    server.sql(
        "shop",
        "INSERT INTO audit_log (table_name, action) SELECT 'orders', 'UPDATE' FROM generate_series(1, 10)",
    );
    backup();
    let told = ask(&["--json"]).ends(ExitCode::Ok).json();
    assert_eq!(told["scope"]["rows"], 5000);
    let groups: Vec<String> = told["scope"]["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| {
            format!("{} {} {}", group["what"].as_str().unwrap(), group["action"].as_str().unwrap(), group["rows"])
        })
        .collect();
    assert_eq!(groups, ["orders INSERT 3992", "customers INSERT 998", "orders UPDATE 10"]);
    assert_eq!(told["scope"]["newest"].as_array().unwrap().len(), 100);
    assert_eq!(told["scope"]["newest"][0]["action"], "UPDATE");
    let bad = ["--where", "table_name = 'orders' AND action = 'UPDATE'"];
    let told = ask(&[&bad[..], &["--json"]].concat()).ends(ExitCode::Ok).json();
    assert_eq!((told["scope"]["rows"].as_u64(), &told["before"]), (Some(10), &good));
    ask(&bad).ends(ExitCode::Ok).says(&["orders", "UPDATE", "the newest good backup is", "--dry-run"]);
}

fn backups(home: &Home, name: &str) -> Vec<serde_json::Value> {
    let told = run(home, &["backups", "list", "--for", name, "--vault", "./vault", "--json"]).ends(ExitCode::Ok).json();
    told["backups"].as_array().unwrap().iter().map(|backup| backup["id"].clone()).collect()
}
