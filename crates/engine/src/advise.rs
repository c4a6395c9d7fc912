//! Measuring what advice in an emergency rests on: the mirror, the cloud's HTTP side, whether the app answers.

use lifeboat_io::{HttpRequest, Stop, ask_over_http};
use lifeboat_model::{Failure, FailureKind, ResourceName, advice::Measured, sync::SyncStatus, target::tcp_place};

use crate::{Engine, Mirror, questions, targets};

impl Engine {
    /// Looks at the mirror and the app, and changes nothing. What cannot be looked at is told as such.
    ///
    /// # Errors
    /// Several mirrors, and none is named; there is nothing here to look at.
    pub fn measure(&self, link: Option<&ResourceName>) -> Result<Measured, Failure> {
        let setup = self.setup();
        let mut measured = Measured { app: self.app_fails(), ..Measured::default() };
        if !setup.links.is_empty() || link.is_some() {
            let link = self.link(link)?;
            let looked: Result<(Mirror, SyncStatus), Failure> =
                self.mirror(Some(&link.name)).and_then(|mirror| mirror.status().map(|status| (mirror, status)));
            measured.mirror = Some(match looked {
                Ok((mirror, status)) => {
                    measured.reach = if status.enabled { mirror.reach() } else { None };
                    Ok(status)
                }
                Err(failure) => Err(failure.to_string()),
            });
        } else if measured.app.is_none() {
            let message = format!("{} has no mirror and no application that could be looked at", setup.scope);
            let failure = Failure::new(FailureKind::Usage, message);
            return Err(failure.hint("say what is wrong: lifeboat advise 'bad deployment'; lifeboat advise --list"));
        }
        Ok(measured)
    }

    /// Probes of targets that do not answer well; nothing when there are none.
    fn app_fails(&self) -> Option<Vec<String>> {
        if !self.setup().targets.iter().any(lifeboat_model::Target::has_probes) {
            return None;
        }
        let mut failing = Vec::new();
        for target in &self.setup().targets {
            let put = |question| questions::ask(&*self.vaults, question, &Stop::default()).err();
            failing.extend(target.questions.iter().filter_map(put));
            let Some(url) = &target.url else { continue };
            let url = url.trim_end_matches('/');
            for path in &target.probes {
                if tcp_place(path).is_some() {
                    failing.extend(targets::probe(url, path).err());
                    continue;
                }
                let at = format!("{url}{path}");
                match ask_over_http(&HttpRequest { method: "GET", url: &at, headers: &[], body: None }) {
                    Ok(answer) if (200..300).contains(&answer.status) => {}
                    Ok(answer) => failing.push(format!("{path} answers with {}", answer.status)),
                    Err(why) => {
                        // The others would be asked of the same nobody.
                        failing.push(format!("{} does not answer: {why}", target.name));
                        break;
                    }
                }
            }
        }
        Some(failing)
    }
}
