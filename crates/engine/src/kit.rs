//! The recovery kit: what a person needs on the day when neither Lifeboat nor this host is there. A page to print and a
//! few files; no secret is in it, only where the secrets are.

use std::fmt::Write;

use lifeboat_model::{Backup, Failure, Resource, ResourceKind, Timestamp, time::show_bytes};

use crate::Engine;

/// A file of the kit: its name and what is in it.
pub type KitFile = (&'static str, String);

/// What the kit is made from.
#[derive(Clone, Debug)]
pub struct Known {
    /// App and environment.
    pub scope: String,
    /// Where the vault is, as a person writes it.
    pub vault: String,
    /// The vault's own id.
    pub vault_id: String,
    /// Where its password is kept.
    pub password: String,
    /// What is protected.
    pub resources: Vec<Resource>,
    /// The backups there are, oldest first.
    pub backups: Vec<Backup>,
    /// When the kit was made.
    pub now: Timestamp,
    /// The settings file, when there is one.
    pub settings: Option<String>,
}

impl Engine {
    /// Makes the recovery kit. Nothing is written anywhere.
    ///
    /// # Errors
    /// When the vault cannot be read.
    pub fn kit(&self) -> Result<Vec<KitFile>, Failure> {
        let vault = self.vaults.open(&self.setup.vault)?;
        // A kit that silently lacks the settings would be found wanting on the worst day.
        let settings = self.setup.settings_file.as_ref().map(|path| lifeboat_io::files::read_text(path)).transpose();
        let settings = settings.map_err(|error| crate::act::path_failure(&error))?;
        Ok(render(&Known {
            scope: self.setup.scope.to_string(),
            vault: self.setup.vault.clone(),
            vault_id: vault.id().to_owned(),
            password: self.vaults.password_place(&self.setup.vault),
            resources: self.setup.resources.clone(),
            backups: self.backups()?,
            now: self.io.clock.now(),
            settings,
        }))
    }
}

/// Writes the kit's files: `RECOVERY.md`, the same as a page to print, a script, and the settings.
pub fn render(known: &Known) -> Vec<KitFile> {
    let markdown = markdown(known);
    let mut files = vec![
        ("RECOVERY.md", markdown.clone()),
        ("recovery.html", page(&format!("Recovery kit of {}", known.scope), &markdown)),
        ("restore.sh", script(known)),
    ];
    files.extend(known.settings.clone().map(|settings| ("lifeboat.toml", settings)));
    files
}

fn markdown(known: &Known) -> String {
    let mut text = format!(
        "# Recovery kit of {}\n\nMade {}. Print it; keep it where the server is not.\n\n\
         ## What is where\n\n\
         | | |\n|---|---|\n| Vault | `{}` |\n| Vault id | `{}` |\n| Format | restic repository, version 2 |\n| Password | {} |\n",
        known.scope,
        known.now.strftime("%Y-%m-%d %H:%M UTC"),
        known.vault,
        known.vault_id,
        known.password,
    );
    // Writing into a String cannot fail.
    let _ = write!(
        text,
        "\nWithout the password nothing can be read, by nobody. Write here where its copy is: ______________________\n"
    );
    if known.vault.starts_with("s3:") {
        let _ = write!(
            text,
            "\nThe bucket needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. Where they are: ______________________\n"
        );
    }
    let _ = write!(text, "\n## What is protected\n\n| resource | kind | where it lives |\n|---|---|---|\n");
    for resource in &known.resources {
        let _ = writeln!(text, "| {} | {} | `{}` |", resource.name, resource.kind.word(), resource.kind.place());
    }
    backups(&mut text, known);
    let _ = write!(
        text,
        "\n## With Lifeboat\n\n```sh\nlifeboat vault recover --vault {vault}     # history, proofs and settings come back\n\
         lifeboat backups list --vault {vault}\nlifeboat restore RESOURCE --vault {vault} --dry-run\n```\n",
        vault = known.vault,
    );
    let _ = write!(
        text,
        "\n## Without Lifeboat\n\nAny computer with `restic` 0.14 or newer (and `sqlite3` for a look):\n\n```sh\n{}```\n",
        commands(known)
    );
    text.push_str(
        "\nEvery backup also carries `README-RESTORE.md` with its own names and `manifest.json` with row counts.\n",
    );
    text
}

fn backups(text: &mut String, known: &Known) {
    let _ = write!(
        text,
        "\n## Newest backups\n\n| backup | snapshot | complete up to (UTC) | size | proven |\n|---|---|---|---|---|\n"
    );
    for backup in known.backups.iter().rev().take(10) {
        let proven = backup.proven_at.map_or("no".to_owned(), |at| at.strftime("%Y-%m-%d").to_string());
        let _ = writeln!(
            text,
            "| {} | `{}` | {} | {} | {proven} |",
            backup.id,
            backup.snapshot.get(..8).unwrap_or(&backup.snapshot),
            backup.recovery_point.strftime("%Y-%m-%d %H:%M:%S"),
            show_bytes(backup.bytes),
        );
    }
    if known.backups.is_empty() {
        text.push_str("\nThere is none yet.\n");
    }
}

/// The commands that bring everything back with `restic`, `sqlite3` and nothing else.
fn commands(known: &Known) -> String {
    // Emergency backups may hold the broken state, and journals are no data: neither is meant by "latest".
    let good = ["manual", "scheduled", "pre-deploy"]
        .map(|reason| format!("--tag {}", quote(&format!("scope={},reason={reason}", known.scope))));
    let good = good.join(" ");
    let mut text = format!(
        "export RESTIC_REPOSITORY={}\nrestic snapshots {good}        # asks for the password\n\
         restic restore latest {good} --target ./restored\n",
        quote(&restic_location(&known.vault)),
    );
    for resource in &known.resources {
        let from = format!("./restored/{}/{}", resource.kind.word(), resource.name);
        let name = resource.kind.path().and_then(|path| path.file_name()).unwrap_or_default().to_string_lossy();
        let (source, to) = (quote(&format!("{from}/{name}")), quote(&resource.kind.place()));
        let _ = match &resource.kind {
            ResourceKind::Sqlite { .. } => write!(
                text,
                "\n# {}: stop the app first; the old -wal must go, or it is replayed over the restored file\n\
                 sqlite3 {source} 'PRAGMA integrity_check;'\n\
                 for end in '' -wal -shm -journal; do if [ -e {to}$end ]; then mv {to}$end {to}.broken$end; fi; done\n\
                 cp {source} {to}\n",
                resource.name
            ),
            ResourceKind::Files { .. } => write!(text, "\n# {}\ncp -a {source} {to}\n", resource.name),
            ResourceKind::Env { .. } => write!(text, "\n# {}\ninstall -m 600 {source} {to}\n", resource.name),
            ResourceKind::Postgres { .. } => write!(text, "{}", crate::act::readme::postgres(&resource.name, &from)),
        };
    }
    text
}

/// A vault's location as restic writes it.
pub(crate) fn restic_location(vault: &str) -> String {
    match vault.strip_prefix("s3://") {
        // restic wants the endpoint spelled out.
        Some(bucket) => format!("s3:https://s3.amazonaws.com/{bucket}"),
        None => vault.strip_prefix("file:").unwrap_or(vault).to_owned(),
    }
}

fn script(known: &Known) -> String {
    format!(
        "#!/bin/sh\n# Restores {} with restic alone. Read it before you run it.\nset -eu\n{}",
        known.scope,
        commands(known)
    )
}

/// A page to print that needs nothing else, out of our own Markdown.
pub(crate) fn page(title: &str, markdown: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\n<style>\n\
         body {{ font: 12pt/1.4 serif; max-width: 46em; margin: 2em auto; padding: 0 1em; }}\n\
         code, pre {{ font: 10pt/1.4 monospace; }} pre {{ border: 1px solid #888; padding: .6em; white-space: pre-wrap; }}\n\
         table {{ border-collapse: collapse; }} td, th {{ border: 1px solid #888; padding: .2em .5em; text-align: left; }}\n\
         h1 {{ font-size: 18pt; }} h2 {{ font-size: 14pt; page-break-after: avoid; }}\n\
         </style></head><body>\n{body}</body></html>\n",
        title = escape(title),
        body = html(markdown),
    )
}

/// Turns our own Markdown into HTML: headings, tables, code blocks, paragraphs. It only has to understand what is
/// written above.
fn html(markdown: &str) -> String {
    let mut out = String::new();
    let (mut code, mut table) = (false, false);
    for line in markdown.lines() {
        if line.starts_with("```") {
            out.push_str(if code { "</pre>\n" } else { "<pre>" });
            code = !code;
            continue;
        }
        if code {
            out.push_str(&escape(line));
            out.push('\n');
            continue;
        }
        let row = line.starts_with('|');
        if row != table {
            out.push_str(if row { "<table>\n" } else { "</table>\n" });
            table = row;
        }
        match line {
            "" => {}
            _ if row && line.chars().all(|letter| "|-".contains(letter)) => {}
            _ if row => {
                let cells = line.trim_matches('|').split('|');
                let cells: String = cells.map(|cell| format!("<td>{}</td>", inline(cell.trim()))).collect();
                let _ = writeln!(out, "<tr>{cells}</tr>");
            }
            _ => {
                let level = line.bytes().take_while(|byte| *byte == b'#').count();
                let tag = if level == 0 { "p".to_owned() } else { format!("h{level}") };
                let _ = writeln!(out, "<{tag}>{}</{tag}>", inline(line[level..].trim()));
            }
        }
    }
    if table {
        out.push_str("</table>\n");
    }
    out
}

fn inline(text: &str) -> String {
    let parts = escape(text);
    let mut out = String::new();
    for (index, part) in parts.split('`').enumerate() {
        if index % 2 == 1 {
            let _ = write!(out, "<code>{part}</code>");
        } else {
            out.push_str(part);
        }
    }
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A word for a shell, whatever is in it.
pub(crate) fn quote(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=:@".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}
