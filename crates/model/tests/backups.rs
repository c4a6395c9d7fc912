//! Which backup is taken: by recovery point, never a doubtful one by itself.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by ending")]

use lifeboat_model::{
    Backup, BackupChoice, BackupId, BackupReason, NoBackup, ResourceName, Scope, Timestamp, choose_backup,
};

fn at(hour: i8) -> Timestamp {
    jiff::civil::date(2026, 5, 1).at(hour, 0, 0, 0).to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp()
}

fn scope() -> Scope {
    Scope { app: "shop".into(), environment: "production".into() }
}

fn name(text: &str) -> ResourceName {
    ResourceName::new(text).unwrap()
}

fn backup(number: u64, hour: i8, reason: BackupReason) -> Backup {
    Backup {
        id: BackupId::from_random(number),
        snapshot: String::new(),
        scope: scope(),
        resources: vec![name("db")],
        recovery_point: at(hour),
        taken_at: at(hour),
        reason,
        label: None,
        bytes: 1,
        bytes_added: 1,
        proven_at: None,
        held: None,
        suspect: None,
    }
}

fn suspect(backup: Backup) -> Backup {
    Backup { suspect: Some("after the damage".into()), ..backup }
}

/// The number of the backup that is chosen, or the sentence why there is none.
fn chosen(backups: &[Backup], choice: &BackupChoice) -> Result<u64, String> {
    let found = choose_backup(backups, &scope(), &name("db"), choice).map_err(|error| error.to_string())?;
    Ok((0..100).find(|number| BackupId::from_random(*number) == found.id).unwrap())
}

use BackupReason::{Emergency, Manual, PreDeploy, Scheduled};

#[test]
fn rst_09_the_older_good_one_is_taken_and_not_the_newer_emergency_one() {
    let backups = [backup(1, 9, Scheduled), backup(2, 11, Emergency)];
    assert_eq!(chosen(&backups, &BackupChoice::Latest), Ok(1));
    assert_eq!(chosen(&backups, &BackupChoice::Before(at(12))), Ok(1));
    assert_eq!(chosen(&backups, &BackupChoice::Exactly(backups[1].id.clone())), Ok(2), "unless it is named");
}

#[test]
fn rst_09_a_suspect_one_is_passed_over() {
    let backups = [backup(1, 8, Manual), backup(2, 9, PreDeploy), suspect(backup(3, 10, Scheduled))];
    assert_eq!(chosen(&backups, &BackupChoice::Latest), Ok(2));
    assert_eq!(chosen(&backups, &BackupChoice::Exactly(backups[2].id.clone())), Ok(3), "unless it is named");
}

#[test]
fn rst_09_before_means_strictly_before_by_recovery_point() {
    let mut backups = [backup(1, 8, Scheduled), backup(2, 9, Scheduled), backup(3, 10, Scheduled)];
    // When it was stored plays no part, in either direction.
    backups[0].taken_at = at(23);
    backups[2].taken_at = at(1);
    for (before, expected) in [(at(11), 3), (at(10), 2), (at(9), 1)] {
        assert_eq!(chosen(&backups, &BackupChoice::Before(before)), Ok(expected), "{before}");
    }
    backups.reverse();
    assert_eq!(chosen(&backups, &BackupChoice::Latest), Ok(3), "the order of the list plays no part either");
}

#[test]
fn rst_09_every_reason_why_there_is_none_has_its_sentence() {
    let mut elsewhere = backup(1, 8, Manual);
    elsewhere.scope.environment = "staging".into();
    let mut uploads = backup(2, 8, Manual);
    uploads.resources = vec![name("uploads")];
    let (foreign, files) = (elsewhere.id.clone(), uploads.id.clone());
    let others = [elsewhere, uploads];
    let doubtful = [backup(3, 9, Emergency), suspect(backup(4, 10, Manual))];
    let good = [backup(5, 9, Manual), backup(6, 10, Emergency)];
    let cases: [(&[Backup], BackupChoice, String); 6] = [
        (&[], BackupChoice::Latest, "there is no backup of db in shop/production".into()),
        (&others, BackupChoice::Before(at(12)), "there is no backup of db in shop/production".into()),
        (
            &good,
            BackupChoice::Before(at(9)),
            format!("there is no backup of db from before {}; the oldest is from {}", at(9), at(9)),
        ),
        (
            &doubtful,
            BackupChoice::Latest,
            format!("the only backups of db are emergency or suspect ones, the newest is {}", doubtful[1].id),
        ),
        (&others, BackupChoice::Exactly(files.clone()), format!("backup {files} holds no db")),
        (&others, BackupChoice::Exactly(foreign.clone()), format!("there is no backup {foreign} of shop/production")),
    ];
    for (backups, choice, sentence) in cases {
        assert_eq!(chosen(backups, &choice), Err(sentence), "{choice:?}");
    }
    assert!(matches!(
        choose_backup(&doubtful, &scope(), &name("db"), &BackupChoice::Before(at(11))),
        Err(NoBackup::OnlyDoubtful { .. })
    ));
}
