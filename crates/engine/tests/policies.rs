//! Row-level security on a real server with a Supabase project in it: repaired in one transaction, opened for a while, tried.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test says what went wrong by ending")]

use lifeboat_engine::Unwatched;
use lifeboat_io::Stop;
use lifeboat_model::{
    FailureKind, OperationState, Request, ResourceName,
    policy::{Policy, PolicyAsk, PolicyChange},
};
use lifeboat_testkit::{
    World,
    prove::{Case, prove_plan},
};
use serde_json::{Map, Value, json};

/// The policy of the document.
const NAME: &str = "Users can view shop customers";
const RULE: &str = "shop_id = auth.current_shop_id() OR auth.is_owner_or_admin()";

/// A project with the customers of two shops, and the document's policy in a broken form: everybody sees everything.
fn project() -> World {
    let world = World::on_supabase(15);
    let functions = "
        CREATE FUNCTION auth.current_shop_id() RETURNS int LANGUAGE sql STABLE
            AS $$ SELECT nullif(current_setting('request.jwt.claim.shop_id', true), '')::int $$;
        CREATE FUNCTION auth.is_owner_or_admin() RETURNS boolean LANGUAGE sql STABLE
            AS $$ SELECT current_setting('request.jwt.claim.role', true) IN ('owner', 'admin') $$;";
    let done = world.server().try_sql("supabase_admin", "postgres", functions);
    assert!(done.status.success(), "{done:?}");
    // As the customer does, who is no superuser.
    let customers = "
        SET ROLE postgres;
        CREATE TABLE customers (id int PRIMARY KEY, shop_id int NOT NULL, name text);
        INSERT INTO customers SELECT n, n % 2 + 1, 'customer ' || n FROM generate_series(1, 10) n;
        ALTER TABLE customers ENABLE ROW LEVEL SECURITY;";
    world.psql("postgres", customers);
    world.psql("postgres", &format!("CREATE POLICY \"{NAME}\" ON customers FOR SELECT TO authenticated USING (true)"));
    world
}

fn database() -> ResourceName {
    ResourceName::new("db").unwrap()
}

fn ask(about: PolicyAsk) -> Request {
    Request::Policy { database: database(), table: "public.customers".into(), about }
}

fn replace(using: &str) -> Request {
    let change =
        PolicyChange { name: NAME.into(), command: None, roles: vec![], using: Some(using.into()), check: None };
    ask(PolicyAsk::Replace { change })
}

fn open(for_ms: u64) -> Request {
    ask(PolicyAsk::Open { roles: vec!["anon".into(), "authenticated".into()], for_ms, why: "a test".into() })
}

fn policies(world: &World) -> (bool, Vec<Policy>) {
    let (_, url) = world.engine().guarded_database(None).unwrap();
    let there = world.engine().policies(&url, "public.customers").unwrap();
    (there.is_on, there.policies)
}

/// How many rows of its own and of others somebody of shop 1 sees; the role `None` is nobody who has logged in.
fn seen(world: &World, role: &str, claims: Value) -> (u64, u64) {
    let (_, url) = world.engine().guarded_database(None).unwrap();
    let claims: Map<String, Value> = claims.as_object().unwrap().clone();
    let seen = world.engine().policy_seen(&url, "public.customers", role, &claims, "shop_id = 1").unwrap();
    assert_eq!((seen.own, seen.others), (5, 5), "what there is is counted without policies");
    (seen.own_seen, seen.others_seen)
}

/// RBD-15, D-14: the document's policy is repaired in one transaction, and taken back; rows of other shops are invisible.
#[test]
fn rbd_15_a_policy_is_replaced_and_rows_of_other_shops_are_invisible() {
    let world = project();
    let of_shop_1 = json!({ "sub": "00000000-0000-0000-0000-000000000001", "shop_id": 1 });
    assert_eq!(seen(&world, "authenticated", of_shop_1.clone()), (5, 5), "the broken policy shows all");
    let before = policies(&world);
    let done = world.must(&replace(RULE));
    assert!(done.plan.notes.iter().any(|note| note.contains("using (true)")), "{:?}", done.plan.notes);
    assert_eq!(seen(&world, "authenticated", of_shop_1), (5, 0));
    assert_eq!(seen(&world, "authenticated", json!({ "shop_id": 2 })), (0, 5));
    assert_eq!(seen(&world, "authenticated", json!({ "role": "owner" })), (5, 5));
    assert_eq!(seen(&world, "anon", json!({})), (0, 0));
    let (is_on, after) = policies(&world);
    assert!(
        is_on && after.len() == 1 && after[0].command == "SELECT" && after[0].roles == ["authenticated"],
        "{after:?}"
    );
    // The same again changes nothing, and may be done.
    world.must(&replace(RULE));
    assert_eq!(policies(&world), (is_on, after));
    world.must(&Request::Undo { operation: done.id });
    assert_eq!(policies(&world), before);
}

/// RBD-15: an error between DROP and CREATE leaves the old policy, with row-level security on.
#[test]
fn rbd_15_an_error_between_drop_and_create_leaves_the_old_policy() {
    let world = project();
    let before = policies(&world);
    let ended = world.run(&replace("no_such_column = auth.current_shop_id()")).unwrap();
    assert!(matches!(ended.state, OperationState::PutBack { .. }), "{:?}", ended.state);
    assert_eq!(policies(&world), before);
    assert!(before.0);
    for bad in ["true); DROP TABLE customers; --", "true; SELECT 1", ""] {
        assert_eq!(world.run(&replace(bad)).unwrap_err().kind, FailureKind::Usage, "{bad}");
    }
    // What somebody has changed since the plan was made is not written over.
    let plan = world.engine().plan(&replace(RULE)).unwrap();
    world.psql("postgres", &format!("ALTER POLICY \"{NAME}\" ON customers USING (shop_id = 7)"));
    let theirs = policies(&world);
    let ended = world.engine().run(&plan, "a test", &Unwatched, &Stop::default()).unwrap();
    assert!(matches!(ended.state, OperationState::PutBack { .. }), "{:?}", ended.state);
    assert_eq!(policies(&world), theirs);
}

/// RBD-15: where it was off, it is on afterwards; a policy that was not there is made, and goes again.
#[test]
fn rbd_15_row_level_security_is_on_at_the_end() {
    let world = project();
    world.psql(
        "postgres",
        &format!("ALTER TABLE customers DISABLE ROW LEVEL SECURITY; DROP POLICY \"{NAME}\" ON customers"),
    );
    assert_eq!(world.run(&open(60_000)).unwrap_err().kind, FailureKind::Refused, "it is open already");
    let done = world.must(&replace(RULE));
    let (is_on, all) = policies(&world);
    assert!(is_on && all[0].command == "ALL" && all[0].roles == ["public"], "{all:?}");
    world.must(&Request::Undo { operation: done.id });
    assert_eq!(policies(&world), (true, vec![]), "nobody is let in by an undo");
}

/// RBD-15: wherever it is broken off, the policy is the old one or the new one.
#[test]
fn rbd_15_broken_off_anywhere_a_policy_is_whole() {
    let world = project();
    for request in [replace(RULE), open(60_000)] {
        let tried = prove_plan(&Case { world: &world, request, undo: false });
        assert!(tried.as_before > 0 && tried.as_meant > 0, "{tried:?}");
    }
}

/// RBD-15, D-14: a table is open for a while only, and closes by the server's clock, although we are dead by then.
#[test]
fn rbd_15_a_table_that_is_opened_closes_by_itself() {
    let world = project();
    world.must(&replace(RULE));
    let plan = world.engine().plan(&open(4_000)).unwrap();
    let ended = world.engine().run(&plan, "a test", &Unwatched, &Stop::default()).unwrap();
    assert_eq!(ended.state, OperationState::Done);
    assert!(policies(&world).0, "row-level security is never off");
    assert_eq!(seen(&world, "anon", json!({})), (5, 5));
    // Nothing of ours runs from here on.
    world.psql("postgres", "SELECT pg_sleep(4.5)");
    assert_eq!(seen(&world, "anon", json!({})), (0, 0));
    assert_eq!(seen(&world, "authenticated", json!({ "shop_id": 1 })), (5, 0));
    assert_eq!(policies(&world).1.len(), 2, "what is over lies there until it is taken away");
    // Opened again, what is over does not stand for what was asked for.
    world.must(&open(60_000));
    assert_eq!(seen(&world, "anon", json!({})), (5, 5));
    assert_eq!(policies(&world).1.len(), 2);
    world.must(&ask(PolicyAsk::Close));
    assert_eq!(policies(&world).1.len(), 1);
    let done = world.must(&open(3_600_000));
    assert_eq!(seen(&world, "anon", json!({})), (5, 5));
    world.must(&Request::Undo { operation: done.id });
    assert_eq!(seen(&world, "anon", json!({})), (0, 0));
    assert_eq!(world.run(&open(3_600_001)).unwrap_err().kind, FailureKind::Usage);
}
