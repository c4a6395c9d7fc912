//! `lifeboat plan` and `lifeboat apply`.

use lifeboat_model::ExitCode;
use serde_json::Value;

use crate::home::Home;

fn planned(home: &Home) -> Value {
    home.run(&["plan", "restore", "db", "--json"]).ends(ExitCode::Ok).json()
}

#[test]
fn a_plan_is_shown_kept_and_carried_out() {
    let (home, _) = Home::protected();
    home.sell(7);
    let ran = home.run(&["plan", "restore", "db"]).ends(ExitCode::Ok);
    insta::assert_snapshot!(ran.masked(), @r#"
    Plan p-ID: restore db of shop/local from b-ID

    # PHASE STEP BUDGET EXPECTED
    1 preflight N MiB free on ~/app -
    N MiB free on ./state/lifeboat/shop/staging/p-ID
    N MiB free on ./vault
    b-ID is whole in the vault
    2 keep copy ./shop.db while it is in use - N s (1 run)
    store as b-ID: check, chunk, compress, encrypt
    read back that b-ID is whole
    3 restore bring it to ./.shop.db.lifeboat-p-ID - N s (guess)
    4 verify compare it with the manifest: integrity, rows, digests - N s (guess)
    5 swap nobody has it open -
    count the rows that are lost
    keep what is there as ./shop.db.REPLACED.#-#
    -- point of no return: before this line everything is put back when something fails --
    give it the name ./shop.db
    6 clean remove working copies -
    expected in all: N s (guess); nineteen of twenty within N s

    What changes in db (written after #-#-# #:#:# UTC):
    orders: 47 rows now, 40 in what comes back: 7 leave; 7 created, changed rows are counted before the swap, last created_at #-#-# #:#:#
    All of it is kept in emergency backup b-ID and ~/app/shop.db.REPLACED.#-#.

    b-ID is complete up to #-#-# #:#:# UTC and has not been proven yet; it is verified before the swap.
    To take it back afterwards: lifeboat undo.

    To run exactly this plan: lifeboat apply p-ID
    "#);
    let apply =
        ran.out.lines().find_map(|line| line.strip_prefix("To run exactly this plan: lifeboat apply ")).unwrap();
    assert_eq!(home.orders(), 47);
    home.run(&["apply", apply]).ends(ExitCode::NeedsPerson).says(&["--confirm shop/local"]);
    home.run(&["apply", apply, "--dry-run"]).ends(ExitCode::Ok).says(&["Nothing was changed."]);
    home.run(&["apply", &apply[..7], "--confirm", "shop/local"]).ends(ExitCode::Ok);
    assert_eq!(home.orders(), 40);
    home.run(&["apply", apply, "--confirm", "shop/local"]).ends(ExitCode::Stale);
}

#[test]
fn a_stale_plan_is_refused_and_names_what_changed() {
    let (home, _) = Home::protected();
    let plan = planned(&home);
    std::fs::copy(home.path("shop.db"), home.path("other.db")).unwrap();
    std::fs::rename(home.path("other.db"), home.path("shop.db")).unwrap();
    for dry in
        [&["apply", plan["id"].as_str().unwrap(), "--yes"][..], &["apply", plan["id"].as_str().unwrap(), "--dry-run"]]
    {
        home.run(dry).ends(ExitCode::Stale).says(&["is stale", "which file is at", "shop.db: was device"]);
    }
    let told = home.run(&["apply", plan["id"].as_str().unwrap(), "--yes", "--json"]).ends(ExitCode::Stale).json();
    assert_eq!((&told["schema"], &told["kind"]), (&"lifeboat/failure@1".into(), &"stale".into()));
}

/// RST-29: the plan carries the loss that was shown; what was written since is nothing that anybody agreed to.
#[test]
fn a_plan_whose_loss_has_grown_is_refused_and_names_the_tables() {
    let (home, _) = Home::protected();
    home.sell(7);
    let plan = planned(&home);
    home.sell(2);
    let id = plan["id"].as_str().unwrap();
    let ran = home.run(&["apply", id, "--confirm", "shop/local"]).ends(ExitCode::Stale);
    ran.says(&["9 rows in all", "orders: 9 rows came", "lifeboat restore db --from b-", "--accept-loss 9"]);
    assert_eq!(home.orders(), 49);
    let told =
        home.run(&["restore", "db", "--confirm", "shop/local", "--accept-loss", "8"]).ends(ExitCode::NeedsPerson);
    told.says(&["9 rows would be lost, and 8 were agreed to", "--accept-loss 9"]);
    let told = home
        .run(&["restore", "db", "--confirm", "shop/local", "--accept-loss", "9", "--json"])
        .ends(ExitCode::Ok)
        .json();
    assert_eq!(told["lost"][0]["created"], 9, "{told}");
    assert_eq!(home.orders(), 40);
    home.run(&["restore", "db", "--accept-loss", "many"]).ends(ExitCode::Usage).says(&["a number of rows, or any"]);
}

#[test]
fn a_plan_from_a_file_must_be_one_of_this_kind_and_place() {
    let (home, _) = Home::protected();
    let plan = planned(&home);
    home.write("plan.json", plan.to_string().replace("lifeboat/plan@1", "lifeboat/plan@9"));
    home.run(&["apply", "./plan.json", "--yes"]).ends(ExitCode::Usage).says(&["lifeboat/plan@9"]);
    home.write("plan.json", "{}");
    home.run(&["apply", "./plan.json", "--yes"]).ends(ExitCode::Usage).says(&["is not a plan"]);
    home.write("plan.json", plan.to_string().replace("\"environment\":\"local\"", "\"environment\":\"production\""));
    home.run(&["apply", "./plan.json", "--yes"]).ends(ExitCode::Usage).says(&["--env production"]);
    let kept = std::fs::read_to_string(plan["file"].as_str().unwrap()).unwrap();
    home.write("plan.json", kept);
    home.run(&["apply", "./plan.json", "--yes"]).ends(ExitCode::Ok);
}

#[test]
fn everything_that_can_be_asked_can_be_planned() {
    let (home, _) = Home::protected();
    for what in [&["backup"][..], &["prove"], &["retention"], &["prune"], &["restore", "db", "--into", "./x.db"]] {
        let args = [&["plan"], what, &["--json"]].concat();
        let told = home.run(&args).ends(ExitCode::Ok).json();
        assert_eq!(told["schema"], "lifeboat/plan@1");
        assert!(std::path::Path::new(told["file"].as_str().unwrap()).exists(), "{what:?}");
    }
}
