//! What a mirror needs of a server: sums of rows that both sides compute alike.

use lifeboat_io::{
    Stop,
    database::postgres::{RangeSum, RowSummer, Session, Sums, cloud_tables, range_rows, range_sum, sums_of},
};
use lifeboat_model::sync::ValueRef;

use crate::{
    helpers::address,
    servers::{MAJORS, NEWER, Server},
};

/// Rows of every kind of column, as a file has them and as a server reads them.
fn rows(i: i64) -> [ValueRef<'static>; 10] {
    let text = ["", "ä", "more than twelve bytes of text", "a\tb\\c'\"", "x"];
    let real = [0.0, -1.5, 1e300, f64::INFINITY, 1.0 / 3.0];
    let number = [0, -1, i64::MAX, i64::MIN, 1_764_201_600_123];
    let at = usize::try_from(i).unwrap() % 5;
    let null = |value: ValueRef<'static>, every: i64| if i % every == 0 { ValueRef::Null } else { value };
    [
        ValueRef::Integer(i),
        null(ValueRef::Integer(number[at]), 7),
        null(ValueRef::Integer(i % 300), 3),
        null(ValueRef::Integer(-i), 4),
        null(ValueRef::Integer(i % 2), 5),
        null(ValueRef::Real(real[at]), 8),
        null(ValueRef::Real(0.25 * i as f64), 6),
        null(ValueRef::Text(text[at]), 9),
        null(ValueRef::Blob(&[0, 255, 7], false), 2),
        null(ValueRef::Real(i as f64 / 8.0), 10),
    ]
}

fn literal(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "NULL".to_owned(),
        ValueRef::Integer(number) => format!("'{number}'"),
        ValueRef::Real(number) => format!("'{number:?}'").replace("inf", "Infinity"),
        ValueRef::Text(text) => format!("'{}'", text.replace('\'', "''")),
        ValueRef::Blob(..) => "'\\x00ff07'".to_owned(),
    }
}

/// With every version, and in a database of another encoding too.
#[test]
fn both_sides_compute_the_same_sums() {
    for major in MAJORS.into_iter().chain(NEWER) {
        let server = Server::start(major);
        server
            .sql("postgres", "CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
        for (database, wanted) in [("postgres", Sums::Hash), ("latin", Sums::Md5)] {
            let mut session = Session::open(&address(&server.url(database)), &Stop::default()).unwrap();
            let values: Vec<String> = (1..=500).map(|i| format!("({})", rows(i).map(literal).join(", "))).collect();
            session
                .run(&format!(
                    "CREATE SCHEMA m; CREATE TABLE m.t (id bigint PRIMARY KEY, b bigint, s smallint, i integer, yes boolean, d double precision,
                         r real, t text, y bytea, n numeric); INSERT INTO m.t VALUES {}",
                    values.join(", ")
                ))
                .unwrap();
            let table = cloud_tables(&mut session, "m").unwrap().remove(0);
            let columns: Vec<usize> = (0..table.columns.len()).collect();
            assert_eq!(sums_of(&mut session).unwrap(), wanted, "{major} {database}");
            for sums in if wanted == Sums::Hash { vec![Sums::Hash, Sums::Md5] } else { vec![Sums::Md5] } {
                let summer = RowSummer::of(sums, &table, &columns);
                let ours: Vec<i64> = (1..=500).map(|i| summer.sum(|at| rows(i)[at]).unwrap()).collect();
                let there = range_rows(&mut session, sums, &table, (&[0], &columns), "true ORDER BY t.id").unwrap();
                let theirs: Vec<i64> = there.iter().map(|row| row.sum).collect();
                assert_eq!(ours, theirs, "{major} {database} {sums:?}");
                let mut all = RangeSum::default();
                ours.iter().for_each(|sum| all.add(*sum));
                assert_eq!(range_sum(&mut session, sums, &table, &columns, "true").unwrap(), all, "{major} {database}");
            }
        }
    }
}
