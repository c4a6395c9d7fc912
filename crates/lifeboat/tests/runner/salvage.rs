//! `salvage`, through the program.

use std::os::unix::fs::PermissionsExt;

use lifeboat_model::ExitCode;

use crate::{
    home::Home,
    postgres::{run, shop},
};

#[test]
fn rows_that_left_are_listed_shown_written_out_and_brought_back() {
    let (home, server) = (Home::bare(), shop(15));
    let name = format!("postgres:{}", server.url("shop"));
    let with = |words: &[&str]| {
        let place = ["--vault", "./vault", "--for", &name];
        run(&home, &[words, &place[..]].concat())
    };
    run(&home, &["backup", &name, "--vault", "./vault"]).ends(ExitCode::Ok);
    with(&["salvage", "list"]).ends(ExitCode::Ok).says(&["No operation keeps rows"]);
    server.sql(
        "shop",
        "INSERT INTO customers (email) VALUES ('late, \"very\"'); INSERT INTO orders (customer, cents) VALUES (101, 5), (101, 6);
         UPDATE orders SET cents = 9 WHERE id = 1; DELETE FROM orders WHERE id = 2",
    );
    // SLV-11: what was created and what will be reverted, before anybody agrees.
    let shown = with(&["restore", "shop", "--dry-run"]).ends(ExitCode::Ok);
    shown.says(&["Rows created since, which leave: 3", "Changes that will be reverted: 1"]);
    with(&["restore", "shop", "--confirm", "shop/local"]).ends(ExitCode::Ok).says(&["lifeboat salvage list"]);
    let told = with(&["salvage", "list", "--json"]).ends(ExitCode::Ok).json();
    let operation = told["salvages"][0]["operation"].as_str().unwrap().to_owned();
    with(&["salvage", "list", &operation]).ends(ExitCode::Ok).says(&["public.orders", "public.customers"]);
    let rows = with(&["salvage", "show", &operation, "--table", "orders"]).ends(ExitCode::Ok);
    rows.says(&[
        "2 inserted, 1 updated, 1 deleted",
        "inserted,5001,101,5",
        "updated,1,2,9",
        "before,1,2,1",
        "deleted,2,3,2",
    ]);

    with(&["salvage", "export", &operation, "--to", "lost"]).ends(ExitCode::Ok);
    let file = home.app().join("lost/public.customers.csv");
    assert!(std::fs::read_to_string(&file).unwrap().contains("inserted,101,\"late, \"\"very\"\"\"\n"));
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    with(&["salvage", "export", &operation, "--to", "lost"]).ends(ExitCode::Refused);

    let count = || server.sql("shop", "SELECT count(*) FROM orders");
    with(&["salvage", "apply", &operation, "--dry-run"])
        .ends(ExitCode::Ok)
        .says(&["public.orders", "Nothing was changed"]);
    assert_eq!(count(), "5000");
    let both = ["salvage", "apply", &operation, "--overwrite", "--deletes", "--dry-run", "--json"];
    let told = with(&both).ends(ExitCode::Ok).json();
    assert_eq!(
        (&told["overwritten"], &told["removed"], &told["conflicts"]),
        (&1.into(), &1.into(), &0.into()),
        "{told}"
    );
    with(&["salvage", "apply", &operation]).ends(ExitCode::NeedsPerson);
    with(&["salvage", "apply", &operation, "--yes"]).ends(ExitCode::Ok).says(&["3 rows were inserted"]);
    assert_eq!(count(), "5002");
    with(&["salvage", "apply", &operation, "--yes"])
        .ends(ExitCode::Ok)
        .says(&["0 rows were inserted, 3 were there already"]);
    with(&["undo", "--yes"]).ends(ExitCode::Ok);
    assert_eq!(count(), "5002", "the second one had inserted nothing");
    with(&["salvage", "show", "o-nothing"]).ends(ExitCode::Usage);

    // One table out of the backup, beside the live one.
    let table = ["restore", "shop", "--table", "orders", "--where", "id = 3"];
    server.sql("shop", "DELETE FROM orders WHERE id = 3");
    with(&table).ends(ExitCode::Ok).says(&["1 rows are only in the backup", "lifeboat undo"]);
    with(&[&table[..], &["--apply", "--yes"]].concat()).ends(ExitCode::Ok).says(&["1 rows were inserted"]);
    assert_eq!(server.sql("shop", "SELECT cents FROM orders WHERE id = 3"), "3");
    with(&["restore", "shop", "--table", "nothing"]).ends(ExitCode::Usage).says(&["no table nothing"]);
}
