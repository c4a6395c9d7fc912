//! `lifeboat history`.

use lifeboat_model::ExitCode;

use crate::home::Home;

/// AUD-08, RST-26.
#[test]
fn every_operation_is_listed_newest_first_with_its_record() {
    let (home, backup) = Home::protected();
    home.sell(7);
    home.run(&["restore", "db", "--confirm", "shop/local"]).ends(ExitCode::Ok);
    insta::assert_snapshot!(home.run(&["history"]).ends(ExitCode::Ok).masked(), @r#"
    OPERATION BEGUN (UTC) TOOK HOW WHAT
    o-ID #-#-# #:#:# N s done restore db of shop/local from b-ID
    o-ID #-#-# #:#:# N s done back up db of shop/local
    "#);
    let told = home.run(&["history", "--json"]).ends(ExitCode::Ok).json();
    let restore = &told["operations"][0];
    assert_eq!((&restore["kind"], &restore["outcome"]), (&"restore".into(), &"done".into()));
    assert_eq!(restore["source"], backup.as_str());
    assert!(restore["backups"][0]["id"].as_str().unwrap().starts_with("b-"), "its emergency backup");
    assert_eq!(restore["losses"][0]["what"][0]["rows_now"], 47);
    assert!(restore["elapsed_ms"].as_u64().is_some() && !restore["checks"].as_array().unwrap().is_empty());
    let told = home.run(&["history", "--limit", "1", "--json"]).ends(ExitCode::Ok).json();
    assert_eq!(told["operations"].as_array().unwrap().len(), 1);
}

#[test]
fn without_a_past_there_is_no_history() {
    assert_eq!(Home::shop().run(&["history"]).ends(ExitCode::Ok).out, "");
}
