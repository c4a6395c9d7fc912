//! Which backups stay, which go, and why: the cases people ask about, and what must hold for any list and any policy.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by ending")]

use std::collections::BTreeSet;

use lifeboat_model::{
    Backup, BackupId, BackupReason, Duration, Keep, ResourceName, Scope, Timestamp, Verdict, decide_keep,
};
use proptest::prelude::*;

const DAY_S: i64 = 86_400;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + seconds).unwrap() // the beginning of 2026
}

fn days(count: u64) -> Duration {
    Duration::from_secs(count * DAY_S as u64)
}

fn id(number: usize) -> BackupId {
    BackupId::from_random(number as u64)
}

/// A good, unproven backup of `db`, complete up to so many seconds after the beginning of 2026.
fn backup(number: usize, seconds: i64) -> Backup {
    Backup {
        id: id(number),
        snapshot: format!("{number:064x}"),
        scope: Scope { app: "shop".into(), environment: "production".into() },
        resources: vec![ResourceName::new("db").unwrap()],
        recovery_point: at(seconds),
        taken_at: at(seconds),
        reason: BackupReason::Scheduled,
        label: None,
        bytes: 1,
        bytes_added: 1,
        proven_at: None,
        held: None,
        suspect: None,
    }
}

fn proven(backup: Backup) -> Backup {
    Backup { proven_at: Some(backup.recovery_point), ..backup }
}

fn holding(backup: Backup, names: &[&str]) -> Backup {
    Backup { resources: names.iter().map(|name| ResourceName::new(*name).unwrap()).collect(), ..backup }
}

fn emergency(backup: Backup) -> Backup {
    Backup { reason: BackupReason::Emergency, ..backup }
}

/// A policy that wishes for nothing; cases add what they are about.
fn nothing() -> Keep {
    Keep {
        within: None,
        last: 0,
        hourly: 0,
        daily: 0,
        weekly: 0,
        monthly: 0,
        yearly: 0,
        proven: 1,
        emergency: days(30),
    }
}

/// Numbers of the backups that stay.
fn kept(backups: &[Backup], keep: &Keep, now: Timestamp) -> Vec<usize> {
    let verdicts = decide_keep(backups, keep, now);
    assert_eq!(verdicts.len(), backups.len(), "every backup gets a verdict");
    (0..backups.len()).filter(|number| !verdicts[&backups[*number].id].is_forget()).collect()
}

fn verdict(backups: &[Backup], keep: &Keep, now: Timestamp, number: usize) -> Verdict {
    decide_keep(backups, keep, now)[&backups[number].id].clone()
}

/// One a day at noon, the first one day `first` of 2026; the last one proven.
fn daily(count: usize) -> Vec<Backup> {
    let mut all: Vec<Backup> = (0..count).map(|day| backup(day, day as i64 * DAY_S + DAY_S / 2)).collect();
    all.last_mut().unwrap().proven_at = Some(at(count as i64 * DAY_S));
    all
}

#[test]
fn ret_01_within_eight_days_keeps_the_seven_day_old_and_lets_the_eight_day_old_go() {
    let backups = daily(10);
    let now = backups[9].recovery_point;
    let keep = Keep { within: Some(days(8)), ..nothing() };
    assert_eq!(kept(&backups, &keep, now), [2, 3, 4, 5, 6, 7, 8, 9], "ages 7 to 0 days; 8 and 9 days go");
    let until = |number| match verdict(&backups, &keep, now, number) {
        Verdict::Keep { until, because } => (until, because),
        Verdict::Forget { .. } => panic!("{number} goes"),
    };
    assert_eq!(until(2), (Some(backups[2].recovery_point + days(8)), "younger than 8 d".to_owned()));
    // The file from "find -mtime +7" would have kept the eight-day-old one for another day.
    assert!(!kept(&backups, &keep, now).contains(&1));
}

#[test]
fn ret_02_thirty_daily_ones_stay_of_thirty_one() {
    let backups = daily(31);
    let keep = Keep { daily: 30, ..nothing() };
    let expected: Vec<usize> = (1..31).collect();
    assert_eq!(kept(&backups, &keep, backups[30].recovery_point), expected);
}

#[test]
fn ret_05_all_old_and_none_proven_none_goes() {
    let backups: Vec<Backup> = (0..5).map(|day| backup(day, day as i64 * DAY_S)).collect();
    let keep = Keep { last: 1, ..nothing() };
    assert_eq!(kept(&backups, &keep, at(1000 * DAY_S)), [0, 1, 2, 3, 4]);
    let Verdict::Keep { because, until } = verdict(&backups, &keep, at(1000 * DAY_S), 0) else { panic!("it goes") };
    assert_eq!((because.as_str(), until), ("no backup has been proven yet, so none may go", None));
}

#[test]
fn ret_05_while_new_ones_fail_their_proof_the_old_proven_one_and_all_after_it_stay() {
    let mut backups: Vec<Backup> = (0..6).map(|day| backup(day, day as i64 * DAY_S)).collect();
    backups[1] = proven(backups[1].clone());
    let keep = Keep { last: 1, ..nothing() };
    assert_eq!(kept(&backups, &keep, at(1000 * DAY_S)), [1, 2, 3, 4, 5], "only what is older than the proven one goes");
}

#[test]
fn ret_05_the_recovery_point_counts_and_not_when_it_was_stored() {
    let mut backups = daily(4);
    backups[0].taken_at = at(900 * DAY_S); // copied in late, from another vault for example
    backups[3].taken_at = at(0);
    let keep = Keep { within: Some(days(2)), ..nothing() };
    assert_eq!(kept(&backups, &keep, backups[3].recovery_point), [2, 3]);
}

#[test]
fn ret_05_never_below_the_newest_proven_ones() {
    let backups: Vec<Backup> = (0..6).map(|day| proven(backup(day, day as i64 * DAY_S))).collect();
    let late = at(1000 * DAY_S);
    for (floor, expected) in [(0, vec![5]), (1, vec![5]), (3, vec![3, 4, 5]), (9, vec![0, 1, 2, 3, 4, 5])] {
        let keep = Keep { within: Some(days(1)), proven: floor, ..nothing() };
        assert_eq!(kept(&backups, &keep, late), expected, "proven = {floor}");
    }
}

#[test]
fn held_ones_stay_for_ever_and_say_why() {
    let mut backups = daily(5);
    backups[0].held = Some("the incident of May".to_owned());
    let keep = Keep { last: 1, ..nothing() };
    assert_eq!(kept(&backups, &keep, at(1000 * DAY_S)), [0, 4]);
    let because = "held: the incident of May".to_owned();
    assert_eq!(verdict(&backups, &keep, at(1000 * DAY_S), 0), Verdict::Keep { because, until: None });
}

#[test]
fn emergency_and_suspect_ones_fill_no_place_and_go_after_a_while() {
    let mut backups = daily(6);
    backups[3] = emergency(backups[3].clone());
    backups[4].suspect = Some("after the bad deploy".to_owned());
    let now = backups[5].recovery_point;
    let keep = Keep { last: 3, emergency: days(2), ..nothing() };
    // Two emergencies younger than two days would be 4 (one day old); 3 is two days old. The places go to 5, 2 and 1.
    assert_eq!(kept(&backups, &keep, now), [1, 2, 4, 5]);
    let until = Some(backups[4].recovery_point + days(2));
    let because = "suspect backups stay for a while".to_owned();
    assert_eq!(verdict(&backups, &keep, now, 4), Verdict::Keep { because, until });
    let because = "emergency backups have stayed long enough".to_owned();
    assert_eq!(verdict(&backups, &keep, now, 3), Verdict::Forget { because });
}

#[test]
fn backups_that_hold_different_things_do_not_compete_for_places() {
    let mut backups = Vec::new();
    for day in 0..4 {
        backups.push(proven(holding(backup(2 * day, day as i64 * DAY_S), &["db"])));
        backups.push(proven(holding(backup(2 * day + 1, day as i64 * DAY_S), &["uploads"])));
    }
    let keep = Keep { last: 2, ..nothing() };
    assert_eq!(kept(&backups, &keep, at(1000 * DAY_S)), [4, 5, 6, 7]);
}

#[test]
fn an_emergency_backup_of_the_database_alone_goes_once_newer_proven_ones_hold_it() {
    let of_all = |number, day: i64| holding(backup(number, day * DAY_S), &["db", "uploads"]);
    let mut backups = vec![proven(of_all(0, 0)), emergency(backup(1, DAY_S)), of_all(2, 2)];
    let (keep, late) = (Keep { last: 5, ..nothing() }, at(100 * DAY_S));
    assert_eq!(kept(&backups, &keep, late), [0, 1, 2], "it is newer than the newest proven one");
    backups[2] = proven(backups[2].clone());
    assert_eq!(kept(&backups, &keep, late), [0, 2]);
    backups[2] = holding(backups[2].clone(), &["uploads"]);
    assert_eq!(kept(&backups, &keep, late), [0, 1, 2], "a proof of something else is no proof of the database");
}

#[test]
fn one_environment_does_not_let_the_backups_of_another_go() {
    let mut backups = daily(3);
    for one in &mut backups[..2] {
        one.scope.environment = "staging".to_owned();
    }
    assert_eq!(
        kept(&backups, &Keep { last: 1, ..nothing() }, at(1000 * DAY_S)),
        [0, 1, 2],
        "nothing of staging is proven"
    );
}

#[test]
fn periods_keep_the_newest_of_each_and_say_when_it_goes() {
    // Every six hours for 40 days from Thursday, the first of January 2026.
    let mut backups: Vec<Backup> = (0..160).map(|number| backup(number, number as i64 * DAY_S / 4)).collect();
    backups[159] = proven(backups[159].clone());
    let now = backups[159].recovery_point;
    let cases: [(&str, Keep, Vec<usize>); 5] = [
        ("hourly", Keep { hourly: 3, ..nothing() }, vec![157, 158, 159]),
        ("daily", Keep { daily: 3, ..nothing() }, vec![151, 155, 159]),
        // Weeks begin on Monday: the 2nd of February is one, and so is the 9th (day 39).
        ("weekly", Keep { weekly: 3, ..nothing() }, vec![127, 155, 159]),
        ("monthly", Keep { monthly: 5, ..nothing() }, vec![123, 159]),
        ("yearly", Keep { yearly: 2, ..nothing() }, vec![159]),
    ];
    for (name, keep, expected) in cases {
        assert_eq!(kept(&backups, &keep, now), expected, "{name}");
    }
    let keep = Keep { daily: 3, ..nothing() };
    let because = "newest of its day, 3 of 3".to_owned();
    assert_eq!(verdict(&backups, &keep, now, 151), Verdict::Keep { because, until: Some(at(40 * DAY_S)) });
}

#[test]
fn of_several_reasons_the_one_that_lasts_longest_is_told() {
    let backups = daily(3);
    let keep = Keep { within: Some(days(2)), daily: 7, last: 5, ..nothing() };
    let Verdict::Keep { because, until } = verdict(&backups, &keep, backups[2].recovery_point, 0) else {
        panic!("it goes");
    };
    assert_eq!((because.as_str(), until), ("newest of its day, 3 of 7", Some(at(7 * DAY_S))));
}

#[test]
fn a_policy_that_wishes_for_nothing_is_known_as_empty() {
    assert!(nothing().is_empty());
    assert!(!Keep::default().is_empty());
    for keep in
        [Keep { within: Some(days(1)), ..nothing() }, Keep { last: 1, ..nothing() }, Keep { yearly: 1, ..nothing() }]
    {
        assert!(!keep.is_empty(), "{keep:?}");
    }
}

fn any_backups() -> impl Strategy<Value = Vec<Backup>> {
    let one = (0i64..60 * 24, 0usize..3, any::<[bool; 4]>(), 0u8..4);
    prop::collection::vec(one, 0..40).prop_map(|all| {
        let make = |(number, (hour, holds, [is_proven, is_held, is_suspect, staging], reason)): (
            usize,
            (i64, usize, [bool; 4], u8),
        )| {
            let names: [&[&str]; 3] = [&["db"], &["db", "uploads"], &["uploads"]];
            let mut made = holding(backup(number, hour * 3600), names[holds]);
            made.proven_at = is_proven.then_some(made.recovery_point);
            made.held = (is_held && number % 3 == 0).then(|| "a reason".to_owned());
            made.suspect = (is_suspect && number % 2 == 0).then(|| "a reason".to_owned());
            if staging && number % 5 == 0 {
                made.scope.environment = "staging".to_owned();
            }
            if reason == 0 { emergency(made) } else { made }
        };
        all.into_iter().enumerate().map(make).collect()
    })
}

fn any_keep() -> impl Strategy<Value = Keep> {
    let within = prop::option::of((0u64..70).prop_map(days));
    (within, prop::array::uniform6(0u32..9), 0u32..5, 0u64..70).prop_map(
        |(within, [last, hourly, daily, weekly, monthly, yearly], proven, emergency)| Keep {
            within,
            last,
            hourly,
            daily,
            weekly,
            monthly,
            yearly,
            proven,
            emergency: days(emergency),
        },
    )
}

proptest! {
    // What fails is printed in its smallest form; it becomes a case above.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_policy_the_floors_hold(backups in any_backups(), keep in any_keep(), day in 0i64..200) {
        let verdicts = decide_keep(&backups, &keep, at(day * DAY_S));
        prop_assert_eq!(verdicts.len(), backups.len());
        let goes = |backup: &Backup| verdicts[&backup.id].is_forget();
        for gone in backups.iter().filter(|backup| goes(backup)) {
            prop_assert!(gone.held.is_none(), "held: {:?}", gone);
            let holds: BTreeSet<_> = gone.resources.iter().collect();
            // What is proven, good, of the same environment, and holds everything the one that goes holds.
            let stand_ins: Vec<&Backup> = backups.iter().filter(|other| {
                other.scope == gone.scope
                    && other.proven_at.is_some()
                    && other.suspect.is_none()
                    && other.reason != BackupReason::Emergency
                    && holds.iter().all(|name| other.resources.contains(name))
            }).collect();
            let stay: Vec<&&Backup> = stand_ins.iter().filter(|other| !goes(other)).collect();
            prop_assert!(stay.iter().any(|other| other.recovery_point >= gone.recovery_point), "no newer proven one: {:?}", gone);
            if gone.proven_at.is_some() && gone.suspect.is_none() && gone.reason != BackupReason::Emergency {
                prop_assert!(stay.len() >= keep.proven.max(1) as usize, "fewer proven ones than the floor: {:?}", gone);
            }
        }
    }

    #[test]
    fn what_goes_today_would_not_have_gone_earlier_and_come_back(backups in any_backups(), keep in any_keep(), day in 0i64..100) {
        // Letting go what may go changes nothing for the rest: doing it twice in a row lets nothing more go.
        let now = at(day * DAY_S);
        let verdicts = decide_keep(&backups, &keep, now);
        let left: Vec<Backup> = backups.into_iter().filter(|backup| !verdicts[&backup.id].is_forget()).collect();
        let again = decide_keep(&left, &keep, now);
        prop_assert!(again.values().all(|verdict| !verdict.is_forget()), "{:?}", again);
    }
}
