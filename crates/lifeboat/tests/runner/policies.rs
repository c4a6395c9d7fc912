//! RBD-15: row-level security repaired by the program itself, in the cloud of a Supabase project.

use lifeboat_model::ExitCode;
use lifeboat_testkit::postgres::{Server, ServerOptions};

use crate::home::Home;

const NAME: &str = "Users can view shop customers";

/// A project where everybody sees the customers of every shop, and a home whose only database on a server it is.
fn project() -> (Home, Server) {
    let server = Server::supabase(15, ServerOptions::default());
    let functions = "CREATE FUNCTION auth.current_shop_id() RETURNS int LANGUAGE sql STABLE
        AS $$ SELECT (nullif(current_setting('request.jwt.claims', true), '')::json->>'shop_id')::int $$;";
    let done = server.try_sql("supabase_admin", "postgres", functions);
    assert!(done.status.success(), "{done:?}");
    server.sql(
        "postgres",
        &format!(
            "SET ROLE postgres; CREATE TABLE customers (id int PRIMARY KEY, shop_id int, name text);
             INSERT INTO customers VALUES (1, 1, 'ours'), (2, 2, 'theirs');
             ALTER TABLE customers ENABLE ROW LEVEL SECURITY;
             CREATE POLICY \"{NAME}\" ON customers FOR SELECT TO authenticated USING (true)"
        ),
    );
    let home = Home::bare();
    home.write(
        "lifeboat.toml",
        format!(
            "version = 1\n[app]\nname = \"shop\"\n[vault]\nlocation = \"./vault\"\n\
             [environments.production.resources.cloud]\nkind = \"postgres\"\nurl = \"{}\"\n",
            server.url_as("postgres", "postgres")
        ),
    );
    (home, server)
}

#[test]
fn rbd_15_the_document_s_policy_is_repaired_tested_and_undone() {
    let (home, server) = project();
    let test = ["policy", "test", "customers", "--as", "authenticated", "--claim", "shop_id=1", "--own", "shop_id = 1"];
    home.run(&test).ends(ExitCode::ActionAdvised).says(&["1 of 1 rows of its own", "1 of 1 of others", "visible"]);
    home.run(&["policy", "list", "customers"]).ends(ExitCode::Ok).says(&[NAME, "SELECT", "authenticated", "true"]);
    let replace = ["policy", "replace", "customers", NAME, "--using"];
    let with = |using: &'static str, more: &[&'static str]| home.run(&[&replace[..], &[using], more].concat());
    with("shop_id = auth.current_shop_id()", &["--dry-run"]).ends(ExitCode::Ok).says(&["Now:", "Then:", "(true)"]);
    home.run(&test).ends(ExitCode::ActionAdvised);
    with("shop_id = no_such_function()", &["--yes"]).ends(ExitCode::FailedUndone).says(&["no_such_function"]);
    let done = with("shop_id = auth.current_shop_id()", &["--yes", "--json"]).ends(ExitCode::Ok).json();
    home.run(&test).ends(ExitCode::Ok).says(&["0 of 1 of others"]);
    home.run(&["policy", "test", "customers", "--own", "shop_id = 1"])
        .ends(ExitCode::ActionAdvised)
        .says(&["anon sees 0"]);

    let open =
        ["policy", "open", "customers", "--to", "anon", "--time", "30m", "--reason", "is it the policy?", "--yes"];
    home.run(&open).ends(ExitCode::Ok).says(&["customers"]);
    home.run(&["policy", "test", "customers"]).ends(ExitCode::ActionAdvised).says(&["2 of 2 of others"]);
    let is_on = || server.sql("postgres", "SELECT relrowsecurity FROM pg_class WHERE relname = 'customers'");
    assert_eq!(is_on().trim(), "t");
    home.run(&["policy", "close", "customers"]).ends(ExitCode::Ok);
    home.run(&["policy", "test", "customers"]).ends(ExitCode::Ok);

    home.run(&["undo", done["id"].as_str().unwrap(), "--yes"]).ends(ExitCode::Ok);
    home.run(&test).ends(ExitCode::ActionAdvised);
    server.sql("postgres", "ALTER TABLE customers DISABLE ROW LEVEL SECURITY");
    home.run(&["policy", "list", "customers"]).ends(ExitCode::ActionAdvised).says(&["is OFF", "policy close"]);
    home.run(&["policy", "list", "orders2"]).ends(ExitCode::Usage).says(&["there is no table"]);
}
