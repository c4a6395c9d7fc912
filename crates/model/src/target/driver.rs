//! Drivers: how a version of the code is brought and put in use. What is said to programs is built here, as values, and what
//! they answer is read here; running them is somebody else's work.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How a version is brought and put in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "driver", rename_all = "kebab-case")]
pub enum Driver {
    /// By commands; `{version}` in a word stands for the version.
    Command {
        /// Prints the version that is in use.
        running: Vec<String>,
        /// Brings a version.
        stage: Option<Vec<String>>,
        /// Puts it in use.
        switch: Vec<String>,
    },
    /// A folder of releases, each in a folder of its own, and a link to the one in use.
    ReleaseDir {
        /// The folder of releases.
        releases: PathBuf,
        /// The link.
        current: PathBuf,
    },
    /// A worktree per commit beside the repository, and a link to the one in use. The repository's own checkout is never
    /// touched: what somebody has changed there by hand stays.
    Git {
        /// The folder of worktrees.
        releases: PathBuf,
        /// The link.
        current: PathBuf,
    },
    /// A Fly.io app, by the images of its releases.
    Fly {
        /// The app.
        app: String,
    },
}

impl Driver {
    /// Its word in the settings.
    pub fn word(&self) -> &'static str {
        match self {
            Driver::Command { .. } => "command",
            Driver::ReleaseDir { .. } => "release-dir",
            Driver::Git { .. } => "git",
            Driver::Fly { .. } => "fly",
        }
    }

    /// The call that tells which version is in use; nothing where a link does.
    pub fn running(&self) -> Option<Vec<String>> {
        match self {
            Driver::Command { running, .. } => Some(running.clone()),
            Driver::Fly { app } => Some(words(&["fly", "releases", "--app", app, "--image", "--json"])),
            Driver::ReleaseDir { .. } | Driver::Git { .. } => None,
        }
    }

    /// The call that brings a version, where a call does.
    pub fn stage(&self, version: &str) -> Option<Vec<String>> {
        match self {
            Driver::Command { stage, .. } => stage.as_deref().map(|argv| filled(argv, version)),
            // The registry has it; whether it still does is asked of the list of releases.
            Driver::Fly { .. } | Driver::ReleaseDir { .. } | Driver::Git { .. } => None,
        }
    }

    /// The call that puts a version in use; nothing where a link does.
    pub fn switch(&self, version: &str) -> Option<Vec<String>> {
        match self {
            Driver::Command { switch, .. } => Some(filled(switch, version)),
            Driver::Fly { app } => Some(words(&["fly", "deploy", "--app", app, "--image", version, "--yes"])),
            Driver::ReleaseDir { .. } | Driver::Git { .. } => None,
        }
    }

    /// The folder of releases and the link to the one in use, where there are such.
    pub fn places(&self) -> Option<(&PathBuf, &PathBuf)> {
        match self {
            Driver::ReleaseDir { releases, current } | Driver::Git { releases, current } => Some((releases, current)),
            Driver::Command { .. } | Driver::Fly { .. } => None,
        }
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn filled(argv: &[String], version: &str) -> Vec<String> {
    argv.iter().map(|word| word.replace("{version}", version)).collect()
}

/// A release in the list of `fly releases --image --json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlyRelease {
    /// Its number.
    pub number: u64,
    /// Whether it went through.
    pub is_complete: bool,
    /// Its image.
    pub image: String,
}

/// Reads the list, newest first, in whatever order it came.
///
/// # Errors
/// It is not that list; in words.
pub fn fly_releases(json: &str) -> Result<Vec<FlyRelease>, String> {
    let list: serde_json::Value = serde_json::from_str(json).map_err(|error| format!("it is no JSON: {error}"))?;
    let list = list.as_array().ok_or("it is no list")?;
    let mut found = Vec::new();
    for one in list {
        let number = one["Version"].as_u64().ok_or("a release has no Version")?;
        let image = one["ImageRef"].as_str().unwrap_or_default().to_owned();
        let is_complete = one["Status"].as_str().is_some_and(|status| matches!(status, "complete" | "succeeded"));
        found.push(FlyRelease { number, is_complete, image });
    }
    found.sort_by_key(|one| std::cmp::Reverse(one.number));
    Ok(found)
}

/// The image that is in use: that of the newest release that went through. Releases of secrets and scale have the image of
/// the one before.
pub fn fly_current(releases: &[FlyRelease]) -> Option<&str> {
    releases.iter().find(|one| one.is_complete && !one.image.is_empty()).map(|one| one.image.as_str())
}

/// The release before: the newest that went through, with another image than the one in use, and that nobody holds for bad.
/// The second line of the list is not it: releases of secrets and scale repeat an image, and failed ones never ran.
pub fn fly_previous<'a>(releases: &'a [FlyRelease], is_bad: &dyn Fn(&str) -> bool) -> Option<&'a FlyRelease> {
    let current = fly_current(releases)?;
    releases.iter().find(|one| one.is_complete && !one.image.is_empty() && one.image != current && !is_bad(&one.image))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_to_programs() {
        let argv = |words: Option<Vec<String>>| words.unwrap_or_default().join(" ");
        let command = Driver::Command {
            running: words(&["cat", "VERSION"]),
            stage: Some(words(&["fetch", "app-{version}.tar"])),
            switch: words(&["use", "{version}"]),
        };
        let fly = Driver::Fly { app: "shop-production".into() };
        let git = Driver::Git { releases: "/r".into(), current: "/c".into() };
        for (driver, running, stage, switch) in [
            (&command, "cat VERSION", "fetch app-v1.tar", "use v1"),
            (
                &fly,
                "fly releases --app shop-production --image --json",
                "",
                "fly deploy --app shop-production --image v1 --yes",
            ),
            (&git, "", "", ""),
        ] {
            let said = (argv(driver.running()), argv(driver.stage("v1")), argv(driver.switch("v1")));
            assert_eq!(said, (running.to_owned(), stage.to_owned(), switch.to_owned()), "{}", driver.word());
        }
    }

    /// APP-02 (D-19): the newest line is what runs; a change of secrets repeats its image; a failed release never ran.
    #[test]
    fn app_02_the_release_before_has_another_image_and_went_through() {
        let list = r#"[
            {"Version": 10, "Status": "complete", "ImageRef": "registry.fly.io/shop:bad"},
            {"Version": 9, "Status": "complete", "ImageRef": "registry.fly.io/shop:bad"},
            {"Version": 8, "Status": "complete", "ImageRef": "registry.fly.io/shop:good"},
            {"Version": 7, "Status": "complete", "ImageRef": "registry.fly.io/shop:old"},
            {"Version": 11, "Status": "failed", "ImageRef": "registry.fly.io/shop:never"}]"#;
        let releases = fly_releases(list).unwrap();
        assert_eq!(fly_current(&releases), Some("registry.fly.io/shop:bad"));
        assert_eq!(fly_previous(&releases, &|_| false).unwrap().number, 8);
        assert_eq!(fly_previous(&releases, &|image| image.ends_with("good")).unwrap().number, 7, "8 is held for bad");
        assert_eq!(fly_previous(&releases[..2], &|_| false), None);
        for (wrong, why) in [("Error: no access", "no JSON"), ("{}", "no list"), ("[{}]", "no Version")] {
            assert!(fly_releases(wrong).unwrap_err().contains(why), "{wrong}");
        }
    }
}
