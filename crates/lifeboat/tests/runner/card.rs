//! `lifeboat docs card`.

use lifeboat_model::ExitCode;

use crate::home::Home;

/// The commands of a card's table, row by row.
fn commands(card: &str) -> Vec<Vec<String>> {
    let rows = card.lines().filter(|line| line.starts_with("| ") && line.contains('`'));
    let quoted = |row: &str| row.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    rows.map(|row| quoted(row).into_iter().filter(|one| one != "lifeboat undo").collect()).collect()
}

fn words(command: &str) -> Vec<String> {
    let parts = command.strip_prefix("lifeboat ").unwrap().split('\'').enumerate();
    let words = parts.flat_map(|(at, part)| match at % 2 {
        0 => part.split_whitespace().map(str::to_owned).collect::<Vec<_>>(),
        _ => vec![part.to_owned()],
    });
    words.collect()
}

/// DOC-06: every scenario of today has a row with a time and a risk, and what stands there works when it is typed.
#[test]
fn what_stands_on_the_card_works() {
    let home = Home::shop();
    // An old backup, for the row that says when.
    std::fs::copy(home.path("shop.db"), home.path("old.sqlite.backup.20251104")).unwrap();
    home.run(&["backups", "adopt", "old.sqlite.backup.20251104", "--for", "db"]).ends(ExitCode::Ok);
    home.backup();
    home.run(&["prove"]).ends(ExitCode::Ok);
    let card = home.run(&["docs", "card"]).ends(ExitCode::Ok).out;
    for scenario in ["take a backup", "wrong or damaged", "is gone", "migration", "whole host", "backups good"] {
        let row = card.lines().find(|line| line.starts_with('|') && line.contains(scenario)).unwrap_or_default();
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        assert_eq!(cells.len(), 4, "{scenario}: {row}\n{card}");
        assert!(cells.iter().all(|cell| !cell.is_empty()), "{row}");
    }
    assert!(card.contains("run"), "a restore was measured: {card}");
    let rows = commands(&card);
    assert_eq!(rows.len(), 6, "{card}");
    for command in rows.concat() {
        let mut words = words(&command);
        if words[0] == "restore" {
            words.extend(["--yes", "--confirm", "shop/local"].map(str::to_owned));
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        home.run(&words).ends(ExitCode::Ok);
    }
    // The row for a lost file, with the file lost.
    std::fs::remove_file(home.path("shop.db")).unwrap();
    let gone = rows.iter().find(|row| row.len() == 1 && row[0] == "lifeboat restore db").unwrap();
    let gone = words(&gone[0]);
    home.run(&[gone.iter().map(String::as_str).collect::<Vec<_>>(), vec!["--yes"]].concat()).ends(ExitCode::Ok);
    assert_eq!(home.orders(), 40);
}

/// Before anything was measured it says so.
#[test]
fn a_card_of_an_app_without_backups_says_so() {
    let home = Home::shop();
    home.run(&["docs", "card"]).ends(ExitCode::Ok).says(&["no backup yet", "guess"]);
}
