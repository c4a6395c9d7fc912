//! A bad settings file: every problem at once, each with its line, a sentence, and what to write instead.

use std::path::Path;

use lifeboat::settings;

const GOOD: &str = "version = 1\n[app]\nname = \"shop\"\n";
const DB: &str = "[environments.production.resources.db]\nkind = \"sqlite\"\npath = \"./shop.db\"\n";

/// The problems of a file, as `line: sentence; remedy`.
fn problems(text: &str) -> Vec<String> {
    match settings::check(text, Path::new("/srv/shop")) {
        Ok(_) => Vec::new(),
        Err(problems) => {
            problems.iter().map(|problem| problem.at(Path::new("x")).strip_prefix("x:").unwrap().to_owned()).collect()
        }
    }
}

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    assert_eq!(problems(text), expected, "{text}");
}

/// A good file with these lines about its database: they begin at line 7.
fn about_db(lines: &str) -> String {
    format!("{GOOD}{DB}{lines}")
}

/// A good file with these lines at its end: they begin at line 7.
fn with(lines: &str) -> String {
    about_db(lines)
}

#[test]
fn a_good_file_has_none() {
    check(&with(""), &[]);
}

#[test]
fn what_is_no_toml_is_told_with_its_line() {
    check("version = 1\n[app\nname = \"x\"\n", &["2: this is not TOML: unclosed table, expected `]`"]);
    check("version = 1\nversion = 1\n", &["2: this is not TOML: duplicate key"]);
}

#[test]
fn times_are_written_as_cron_does() {
    check(
        &with("[schedule]\nbackup = \"daily\"\ncopy = \"never\"\nprove = \"30 4 * * sun\"\n"),
        &[
            "8: schedule.backup is no point in time; write minute, hour, day, month and weekday as cron does: \"0 2 * * *\" is 02:00 each day; or \"never\"",
        ],
    );
}

#[test]
fn unknown_keys_come_with_a_near_miss() {
    check(
        &with("[vault]\nlocaton = \"./v\"\n"),
        &["8: there is no setting \"localton\" in [vault]; did you mean \"location\"?"
            .replace("localton", "locaton")
            .as_str()],
    );
    check(
        &with("[vault]\nurl = \"./v\"\n"),
        &["8: there is no setting \"url\" in [vault]; known here: copies, location, password, prune_grace"],
    );
    check(
        &about_db("critical-tables = []\n"),
        &[
            "7: there is no setting \"critical-tables\" in [environments.production.resources.db]; did you mean \"critical_tables\"?",
        ],
    );
    check(
        &with("[budgets]\nrestor = \"4m\"\n"),
        &["8: there is no setting \"restor\" in [budgets]; did you mean \"restore\"?"],
    );
}

#[test]
fn bkp_07_a_file_a_day_needs_a_place_and_a_day() {
    check(
        &about_db("send_to = \"s3://bucket/shop.sqlite\"\n"),
        &["7: send_to of db is no place for a file a day; its name has no day: YYYYMMDD is needed in it, once"],
    );
    check(
        &about_db("send_to = \"shop-YYYYMMDD.sqlite\"\n"),
        &[
            "7: send_to of db is no place for a file a day; it needs a place and a name: s3://bucket/folder/NAME-YYYYMMDD.sqlite",
        ],
    );
}

#[test]
fn what_is_missing_is_named() {
    check(
        "",
        &[
            "1: the file has no version; write version = 1",
            "1: the file has no app; write [app] with name = \"shop\"",
            "1: the file has no environments; write [environments.production.resources.db] with kind and path",
        ],
    );
    check(
        &format!("{GOOD}[environments.production.resources.db]\n"),
        &[
            "4: [environments.production.resources.db] has no kind; write kind = \"sqlite\", \"postgres\", \"files\" or \"env\"",
        ],
    );
    check(
        &format!("{GOOD}[environments.production]\n"),
        &[
            "4: environment production has no resources; write [environments.production.resources.db] with kind and path",
        ],
    );
    check(
        &format!("{GOOD}[environments]\n"),
        &["4: there is no environment; write [environments.production.resources.db] with kind and path"],
    );
}

#[test]
fn wrong_types_say_what_to_write() {
    check(
        &with("[keep]\ndaily = \"7\"\nwithin = 2\n[objectives]\nrpo = \"soon\"\nproof_max_age = 7.5\n"),
        &[
            "8: keep.daily must be a whole number; write daily = 1 without quotes",
            "9: keep.within must be a length of time; write a number with a unit in quotes: \"90s\", \"15m\", \"6h\" or \"7d\"",
            "11: objectives.rpo is not a length of time; write a number with a unit: \"90s\", \"15m\", \"6h\" or \"7d\"",
            "12: objectives.proof_max_age must be a length of time; write a number with a unit in quotes: \"90s\", \"15m\", \"6h\" or \"7d\"",
        ],
    );
    check(
        &about_db("stop = \"systemctl stop shop\"\ncritical_tables = \"orders\"\n"),
        &[
            "7: environments.production.resources.db.stop must be a list of words; write stop = [\"program\", \"argument\"]; no shell reads it",
            "8: environments.production.resources.db.critical_tables must be a list; write critical_tables = [\"…\"]",
        ],
    );
    check(
        "version = 2\napp = \"shop\"\n[environments.production.resources.db]\nkind = \"sqlite\"\npath = 1\n",
        &[
            "1: version is not a version that this program understands; write version = 1, or use the lifeboat that this file was written for",
            "2: app must be a table; write [app]",
            "5: environments.production.resources.db.path must be text; write path = \"…\"",
        ],
    );
    check(
        &with("[keep]\nlast = -1\nproven = 0\n"),
        &["8: keep.last is out of range; write a number from 0 to 4294967295"],
    );
    check(&with("[keep]\nproven = 0\n"), &["8: keep.proven is a floor and cannot be 0; write 1 or more"]);
}

#[test]
fn kinds_of_resources_are_few() {
    let kind =
        |kind: &str| format!("{GOOD}[environments.production.resources.db]\nkind = \"{kind}\"\npath = \"./x\"\n");
    check(
        &kind("sqlte"),
        &["5: environments.production.resources.db.kind is no kind of resource; did you mean \"sqlite\"?"],
    );
    check(
        &kind("spreadsheet"),
        &[
            "5: environments.production.resources.db.kind is no kind of resource; write \"sqlite\", \"postgres\", \"files\" or \"env\"",
        ],
    );
    check(
        &kind("s3"),
        &[
            "5: environments.production.resources.db.kind names something that this release cannot protect yet; this release protects \
           \"sqlite\", \"postgres\", \"files\" and \"env\"; leave it as a comment until then",
        ],
    );
}

#[test]
fn files_have_a_path_and_databases_on_servers_an_address() {
    let db = |lines: &str| format!("{GOOD}[environments.production.resources.db]\n{lines}\n");
    check(&db("kind = \"sqlite\""), &["5: db has no path; add path = \"./shop.db\", for example"]);
    check(
        &db("kind = \"postgres\"\npath = \"./x\"\nurl = \"postgres://shop@db/shop\""),
        &["6: db is on a server and has no path; take it out; url says where it is"],
    );
    check(
        &db("kind = \"postgres\""),
        &[
            "5: db is a PostgreSQL database without an address; add url = \"postgres://role@host/database\", or url_from = { env = \"DATABASE_URL\" }",
        ],
    );
    check(
        &db("kind = \"postgres\"\nurl = \"postgres://shop@db/shop\"\nurl_from = { env = \"X\" }"),
        &["7: db has two addresses; take out url or url_from"],
    );
    check(
        &db("kind = \"env\"\npath = \"./.env\"\nschemas = [\"public\"]"),
        &["7: db is a file and has no schemas; take it out, or write kind = \"postgres\""],
    );
}

#[test]
fn names_are_narrow() {
    let narrow = "use 1 to 64 letters, digits, '-', '_' or '.', not beginning with '.' or '-'";
    let text = "version = 1\n[app]\nname = \"my shop\"\n[environments.\"a b\".resources.\"d\\\"b\\n☂\"]\nkind = \"sqlite\"\npath = \"./x\"\n";
    check(
        text,
        &[
            &format!("3: app.name cannot be a name; {narrow}"),
            &format!("4: \"a b\" cannot name an environment; {narrow}"),
            &format!("4: \"d\\\"b\\n☂\" cannot name a resource; {narrow}"),
        ],
    );
    check(
        "version = 1\n[app]\nname = \"shop\"\ntimezone = \"Middle/Earth\"\n[environments.production.resources.db]\nkind = \"sqlite\"\npath = \"x\"\n",
        &["4: app.timezone is not a known time zone; write a name such as \"Europe/Berlin\" or \"UTC\""],
    );
}

#[test]
fn every_placeholder_of_the_documents_is_listed() {
    let placeholders = [
        ("your-project", "your-project"),
        ("s3://your-bucket/x", "your-bucket"),
        ("/path/to/shop", "/path/to/"),
        ("[NAME]", "[NAME]"),
        ("[PHONE]", "[PHONE]"),
        ("./[PREVIOUS_STABLE_TAG]/x", "[PREVIOUS_STABLE_TAG]"),
        ("backup-YYYYMMDD.db", "YYYYMMDD"),
        ("affected-course-id", "affected-course-id"),
        ("changeme", "changeme"),
        ("./<app>/x.db", "<app>"),
        ("${HOME}/x.db", "${HOME}"),
        ("{{ folder }}/x.db", "{{ folder }}"),
    ];
    for (text, found) in placeholders {
        let file = format!("{GOOD}[environments.production.resources.db]\nkind = \"sqlite\"\npath = \"{text}\"\n");
        let expected = format!(
            "6: environments.production.resources.db.path still has the placeholder {found:?}; write your own value"
        );
        check(&file, &[&expected]);
    }
    // In SQL, brackets and angles mean something.
    check(&about_db("checks.a = { sql = \"select count(*) from [ORDERS] where 1 < 2 and 3 > 2\", min = 1 }\n"), &[]);
}

#[test]
fn several_at_once_come_in_the_order_of_their_lines() {
    let text = "version = 1\n[app]\nname = \"[NAME]\"\n[vault]\nlocation = \"gs://x\"\n[environments.production.resources.db]\nkind = \"sqlit\"\n\
                path = \"/path/to/db\"\ncolour = \"red\"\n";
    check(
        text,
        &[
            "3: app.name still has the placeholder \"[NAME]\"; write your own value",
            "5: vault.location is no place for a vault: \"gs\" is not a kind of place; write a folder or s3://bucket/folder",
            "7: environments.production.resources.db.kind is no kind of resource; did you mean \"sqlite\"?",
            "8: environments.production.resources.db.path still has the placeholder \"/path/to/\"; write your own value",
            "9: there is no setting \"colour\" in [environments.production.resources.db]; known here: alias, checks, critical_tables, dated_days, exclude, kind, \
             lock_timeout, may_be_empty, migrations, owner_columns, password, path, roles, salvage_columns, schedule, schemas, send_to, start, \
             statement_timeout, stop, swap, url, url_from",
        ],
    );
}

#[test]
fn secrets_do_not_belong_here() {
    check(
        &with("[vault]\npassword = \"hunter2\"\n"),
        &[
            "8: vault.password is written here, where everybody can read it; say where it comes from: { env = \"LIFEBOAT_VAULT_PASSWORD\" }, \
           { file = \"…\" } or { cmd = [\"…\"] }",
        ],
    );
    let url = "holds a URL with a password in it; take user and password out of it; keys of a bucket come from AWS_ACCESS_KEY_ID and \
               AWS_SECRET_ACCESS_KEY";
    check(&with("[vault]\nlocation = \"s3:https://me:hunter2@host/bucket\"\n"), &[&format!("8: vault.location {url}")]);
    check(
        &format!(
            "{GOOD}[environments.production.resources.db]\nkind = \"sqlite\"\npath = \"postgres://app:hunter2@db/shop\"\n"
        ),
        &[&format!("6: environments.production.resources.db.path {url}")],
    );
    check(
        &about_db("stop = [\"curl\", \"-H\", \"Authorization: ghp_abcdefghijklmnop\"]\nstart = [\"true\"]\n"),
        &[
            "7: environments.production.resources.db.stop holds a GitHub token; take it out of this file; it names where secrets are, never what they are",
        ],
    );
    check(
        &with("[vault]\npassword = {}\n"),
        &["8: vault.password does not say where the password comes from; write exactly one of env, file and cmd"],
    );
    check(
        &with("[vault]\npassword = { env = \"A\", file = \"b\" }\n"),
        &[
            "8: vault.password says several places where the password comes from; write exactly one of env, file and cmd",
        ],
    );
    check(
        &with("[vault]\npassword = { env = \"$A B\" }\n"),
        &[
            "8: vault.password.env cannot be the name of a variable; write its name only, such as \"SHOP_VAULT_PASSWORD\"",
        ],
    );
    check(
        &with("[vault]\npassword = { cmd = [] }\n"),
        &["8: vault.password.cmd is an empty command; write the program and its arguments as a list of words"],
    );
}

#[test]
fn halves_and_contradictions_are_found() {
    check(
        &about_db("stop = [\"a\"]\n"),
        &["7: db says how to stop its writer and not how to start it; add start = [\"…\"]"],
    );
    check(
        &about_db("start = [\"a\"]\n"),
        &["7: db says how to start its writer and not how to stop it; add stop = [\"…\"]"],
    );
    check(
        &about_db("stop = [\"systemctl stop shop\"]\nstart = [\"\"]\n"),
        &[
            "7: the stop command of db is one word with spaces in it; write each word by itself: [\"systemctl\", \"stop\", \"shop\"]",
            "8: the start command of db has no program; write the program as the first word",
        ],
    );
    check(
        &about_db("exclude = [\"*.tmp\"]\n"),
        &["7: db is a single file, from which nothing can be left out; take it out, or write kind = \"files\""],
    );
    check(
        &about_db("critical_tables = [\"a\"]\nmay_be_empty = [\"a\"]\n"),
        &["8: table \"a\" of db is critical and may be empty at once; take it out of one of the two"],
    );
    check(
        &about_db("checks.a = { sql = \"select 1\" }\nchecks.b = { sql = \" \", min = 1 }\n"),
        &[
            "7: check \"a\" of db does not say what a good answer is; add min = 1, equals = \"…\", percent = 85, or sample = true",
            "8: check \"b\" of db asks nothing; write sql = \"select count(*) from …\"",
        ],
    );
    check(
        &with(
            "[environments.production.resources.env]\nkind = \"env\"\npath = \"~/.env\"\ncritical_tables = [\"a\"]\n",
        ),
        &[
            "9: the path of env begins with ~, which only a shell understands; write the whole path",
            "10: env is no database and has no critical_tables; take it out, or write kind = \"sqlite\"",
        ],
    );
    check(
        &with("[keep]\nwithin = \"0s\"\nlast = 0\ndaily = 0\nweekly = 0\nmonthly = 0\n"),
        &[
            "7: [keep] keeps nothing; write at least one of within, last, hourly, daily, weekly, monthly, yearly above 0",
        ],
    );
}

#[test]
fn two_resources_never_share_a_place() {
    check(
        &with("[environments.staging.resources.db]\nkind = \"sqlite\"\npath = \"../shop/./shop.db\"\n"),
        &[
            "9: staging.db and production.db are the same place; give each its own path; restoring one would overwrite the other",
        ],
    );
    check(
        &with(
            "[vault]\nlocation = \"./data/vault\"\n[environments.production.resources.data]\nkind = \"files\"\npath = \"./data\"\n",
        ),
        &[
            "8: the vault lies inside production.data, which it is to keep; put the vault somewhere else, best on another disk",
        ],
    );
}

/// The shape is checked by the schema and then read by serde: nothing that the first lets through may be refused by the
/// second, which could only say so without a reason. Each value of the long example is replaced by values of every kind.
#[test]
fn what_the_schema_lets_through_can_be_read() {
    let example = std::fs::read_to_string(crate::world::workspace().join("lifeboat.example.toml")).unwrap();
    let lines: Vec<&str> = example.lines().collect();
    let values = [
        "1",
        "-1",
        "4294967296",
        "9223372036854775808",
        "1.5",
        "true",
        "1979-05-27",
        "\"\"",
        "\"x\"",
        "\"7d\"",
        "[]",
        "[1]",
        "[\"x\"]",
        "{}",
        "{ env = 1 }",
        "{ x = {} }",
    ];
    let (mut refused, mut fine) = (0, 0);
    for (at, line) in lines.iter().enumerate() {
        let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) else { continue };
        for value in values {
            let mut changed = lines.clone();
            let new = format!("{key} = {value}");
            changed[at] = &new;
            let problems = problems(&changed.join("\n"));
            assert!(
                !problems.iter().any(|problem| problem.contains("though its keys are right")),
                "{new}: {problems:?}"
            );
            *(if problems.is_empty() { &mut fine } else { &mut refused }) += 1;
        }
    }
    assert!(refused > 300 && fine > 50, "{refused} refused, {fine} fine");
}
