//! Copies of a database in use.

use std::collections::BTreeMap;

use crate::{
    helpers::{capture_all, shop},
    servers::MAJORS,
};

#[test]
fn a_capture_has_everything_and_its_digests_are_of_what_was_written() {
    for major in MAJORS {
        let server = shop(major);
        let (captured, memory) = capture_all(&server, "shop");
        let facts = &captured.facts;
        let counted: BTreeMap<&str, u64> =
            facts.tables.iter().map(|(name, table)| (name.as_str(), table.rows.rows)).collect();
        assert_eq!(counted["public.orders"], 2000);
        assert_eq!(counted["public.nothing"], 2);
        assert_eq!(counted["public.parent"], 1);
        assert_eq!(counted["\"Odd schema.x\".\"Table with \"\"quotes\"\" and.dot\""], 2);
        assert_eq!(counted.len(), 17, "{counted:?}");
        assert_eq!(facts.sequences["public.order_no"].last_value, 99_999);
        assert!(!facts.sequences["public.order_no"].is_called);
        assert_eq!(facts.large_objects.as_ref().unwrap().objects, 3);
        assert_eq!(facts.migrations["public.schema_migrations"], "20260202");
        assert!(facts.roles.contains(&"odd Role".to_owned()), "{:?}", facts.roles);
        let files = memory.files.lock().unwrap();
        for (name, table) in &facts.tables {
            let mut digest = lifeboat_io::database::postgres::RowDigest::default();
            table.parts.iter().for_each(|part| digest.take(&files[&part.path]));
            assert_eq!(digest.facts(), table.rows, "{name}");
        }
        assert!(captured.post_data.contains("REFRESH MATERIALIZED VIEW public.sales;"));
        assert!(!captured.pre_data.contains("\\restrict") && captured.pre_data.contains("CREATE TABLE public.orders"));
        assert!(captured.globals.contains("CREATE ROLE \"odd Role\""), "{}", captured.globals);
        assert!(captured.entries.iter().any(|entry| entry.kind == "FK CONSTRAINT"));
    }
}
