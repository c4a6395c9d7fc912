//! FNC-07: features of the app that are switched off one by one, and go on again when it is over.

use std::os::unix::process::ExitStatusExt;

use lifeboat_model::ExitCode;
use lifeboat_testkit::app::App;

use crate::home::Home;

/// A shop whose imports are switched by a command and whose search by a variable; the app looks at both at each request.
fn home() -> (Home, App) {
    let home = Home::shop();
    let (flag, env) = (home.path("imports.off"), home.path(".env"));
    home.write(".env", "# kept\nTOKEN='s3cret value'\nSEARCH=true\nLAST=1\n");
    home.write("flag.sh", "#!/bin/sh\nif [ \"$1\" = off ]; then touch imports.off; else rm -f imports.off; fi\n");
    let app = App::new(move |_method, path, _body| match path {
        "/imports" if flag.exists() => (503, "off for now".to_owned()),
        "/search" if std::fs::read_to_string(&env).unwrap().contains("SEARCH=false") => (404, String::new()),
        _other => (200, "fine".to_owned()),
    });
    let settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
    let folder = home.path(".");
    let words = |word: &str| format!("[\"sh\", \"-c\", \"cd {} && sh flag.sh {word}\"]", folder.display());
    let url = app.url();
    home.write(
        "lifeboat.toml",
        format!(
            "{settings}[environments.local.resources.env]\nkind = \"env\"\npath = \"./.env\"\n\n[features.imports]\noff = {}\non = {}\nprobe = \
             \"{url}/imports\"\n\n[features.search]\nvariable = {{ resource = \"env\", name = \"SEARCH\", off = \"false\", on = \
             \"true\" }}\nprobe = \"{url}/search\"\n",
            words("off"),
            words("on")
        ),
    );
    (home, app)
}

fn status_of(app: &App, path: &str) -> u16 {
    let url = format!("{}{path}", app.url());
    let request = lifeboat_io::HttpRequest { method: "GET", url: &url, headers: &[], body: None };
    lifeboat_io::ask_over_http(&request).unwrap().status
}

#[test]
fn fnc_07_a_feature_is_off_until_the_incident_is_over() {
    let (home, app) = home();
    home.run(&["feature", "list"]).ends(ExitCode::Ok).says(&["imports", "on", "never switched"]);
    home.run(&["feature", "off", "nothing", "--reason", "x"]).ends(ExitCode::Usage).says(&["imports, search"]);
    home.run(&["feature", "off", "imports", "--reason", "x", "--dry-run"]).ends(ExitCode::Ok).says(&["503"]);
    assert_eq!(status_of(&app, "/imports"), 200, "a look changes nothing");

    // One that was off before stays off when the incident is over.
    home.run(&["feature", "off", "search", "--reason", "slow", "--yes"]).ends(ExitCode::Ok);
    home.run(&["incident", "open", "prices are wrong"]).ends(ExitCode::Ok);
    home.run(&["feature", "off", "imports", "--reason", "writes wrong prices", "--yes"]).ends(ExitCode::Ok);
    assert_eq!([status_of(&app, "/imports"), status_of(&app, "/search")], [503, 404]);
    let file = std::fs::read_to_string(home.path(".env")).unwrap();
    assert_eq!(
        file,
        "# kept
TOKEN='s3cret value'
SEARCH=false
LAST=1
",
        "nothing else of the file was touched"
    );
    let listed = home.run(&["feature", "list", "--json"]).ends(ExitCode::Ok).json();
    let imports = &listed["features"][0];
    assert_eq!(
        (&imports["on"], &imports["by"], &imports["why"]),
        (&false.into(), &"tester".into(), &"writes wrong prices".into())
    );
    assert!(imports["incident"].is_string() && listed["features"][1].get("incident").is_none(), "{listed}");
    home.run(&["status"]).says(&["feature imports is off since", "writes wrong prices", "lifeboat feature on imports"]);

    home.run(&["incident", "close", "--note", "mended", "--dry-run"]).ends(ExitCode::Ok).says(&["imports is on"]);
    home.run(&["incident", "close", "--note", "mended"]).ends(ExitCode::Ok);
    assert_eq!([status_of(&app, "/imports"), status_of(&app, "/search")], [200, 404]);
    let status = home.run(&["status"]).says(&["feature search is off"]);
    assert!(!status.out.contains("feature imports"), "{}", status.out);
}

#[test]
fn fnc_07_a_switch_is_taken_back_and_one_that_is_not_seen_is_none() {
    let (home, app) = home();
    home.run(&["feature", "off", "search", "--reason", "slow", "--yes"]).ends(ExitCode::Ok);
    home.run(&["undo", "--yes"]).ends(ExitCode::Ok);
    assert_eq!(status_of(&app, "/search"), 200);
    assert!(std::fs::read_to_string(home.path(".env")).unwrap().contains("SEARCH=true\n"));
    // Its switch does nothing: it is not off, whatever was typed.
    let settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
    home.write(
        "lifeboat.toml",
        settings.replace("sh flag.sh off", "true")
            + "target = \"app\"\n\n[environments.local.targets.app]\n\
        folder = \".\"\nstop = [\"true\"]\nstart = [\"true\"]\nanswer_within = \"1s\"\n",
    );
    let settings = std::fs::read_to_string(home.path("lifeboat.toml")).unwrap();
    home.write("lifeboat.toml", settings.replace("[features.search]", "target = \"app\"\n\n[features.search]"));
    let failed = home.run(&["feature", "off", "imports", "--reason", "x", "--yes"]).ends(ExitCode::FailedUndone);
    assert!(failed.err.contains("that is not to be seen") && failed.err.contains("answers with 200"), "{}", failed.err);
    assert_eq!(home.run(&["feature", "list", "--json"]).json()["features"][0]["on"], true);
    // A file that holds something else is not overwritten.
    home.write(".env", "SEARCH=maybe\n");
    home.run(&["feature", "off", "search", "--reason", "x", "--yes"]).ends(ExitCode::Refused).says(&["holds neither"]);
}

#[test]
fn fnc_07_killed_anywhere_it_is_finished_or_put_back() {
    for (word, wanted) in [("resume", 404), ("abort", 200)] {
        for line in 1.. {
            let (home, app) = home();
            let off = ["feature", "off", "search", "--reason", "slow", "--yes"];
            let killed = home.command(&off).env("LIFEBOAT_FAILPOINT", format!("journal:{line}")).output().unwrap();
            if killed.status.success() {
                assert!(line > 4, "the journal has a line for each step");
                break;
            }
            assert_eq!(killed.status.signal(), Some(9), "line {line}");
            let over = home.run(&[word]);
            let status = status_of(&app, "/search");
            let is_off = home.run(&["feature", "list", "--json"]).json()["features"][1]["on"] == false;
            assert_eq!(status == 404, is_off, "line {line}: what is on record is what is: {}", over.err);
            if over.code == Some(ExitCode::Ok as i32) {
                assert_eq!(status, wanted, "{word} after line {line}: {}", over.err);
            }
        }
    }
}
