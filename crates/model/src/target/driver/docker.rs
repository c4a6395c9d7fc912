//! Docker and Docker Compose. Names of images move; their ids do not. Names of containers are taken until somebody frees them.

use std::path::Path;

use super::{Instance, words};

/// What is asked about containers: id, image, whether it runs, whether it is in a loop of restarts, since when, health.
const FIELDS: &str = "{{.Id}} {{.Image}} {{.State.Status}} {{.State.StartedAt}} {{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}} {{.State.Pid}}";

/// Asks about containers by name or id; one line each.
pub fn docker_inspect(containers: &[&str]) -> Vec<String> {
    let mut argv = words(&["docker", "inspect", "--type", "container", "--format", FIELDS]);
    argv.extend(words(containers));
    argv
}

/// Reads what [`docker_inspect`] printed.
///
/// # Errors
/// It is something else; in words.
pub fn docker_fields(said: &str) -> Result<Vec<Instance>, String> {
    said.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            let [id, image, status, since, health, process] = fields.as_slice() else {
                return Err(format!("it printed {line:?}, which are no six fields"));
            };
            let is_up = *status == "running" && matches!(*health, "none" | "healthy");
            let state = if *health == "none" { (*status).to_owned() } else { format!("{status}, {health}") };
            let process = process.parse().ok().filter(|id| *id > 0);
            // The same container is another instance after each start.
            let id = format!("{}@{since}", id.get(..12).unwrap_or(id));
            Ok(Instance { id, is_up, state, version: Some((*image).to_owned()), process })
        })
        .collect()
}

/// Asks which containers have exactly that name: none is an answer, and no failure.
pub fn docker_containers(name: &str) -> Vec<String> {
    let filter = format!("name=^/?{}$", name.replace('.', "\\."));
    words(&["docker", "container", "ls", "--all", "--no-trunc", "--filter", &filter, "--format", "{{.ID}}"])
}

/// Gives a container another name.
pub fn docker_rename(from: &str, to: &str) -> Vec<String> {
    words(&["docker", "rename", from, to])
}

/// Makes a container of an image without starting it. The image is never pulled: it was looked at before.
pub fn docker_create(container: &str, options: &[String], image: &str, command: &[String]) -> Vec<String> {
    let mut argv = words(&["docker", "create", "--name", container, "--pull", "never"]);
    argv.extend_from_slice(options);
    argv.push(image.to_owned());
    argv.extend_from_slice(command);
    argv
}

/// Gives an image one more name.
pub fn docker_tag(image: &str, name: &str) -> Vec<String> {
    words(&["docker", "image", "tag", image, name])
}

/// Brings an image by its digest in a registry.
pub fn docker_pull(digest: &str) -> Vec<String> {
    words(&["docker", "pull", "--quiet", digest])
}

/// The id of an image, and the digests by which registries have it.
pub(super) fn image_id(image: &str) -> Vec<String> {
    words(&["docker", "image", "inspect", "--format", "{{.Id}}{{range .RepoDigests}} {{.}}{{end}}", image])
}

/// A name that keeps an image from being cleared away as one that nobody named.
pub(super) fn pin(target: &str, image: &str) -> String {
    let id = image.trim_start_matches("sha256:");
    format!("lifeboat/{}:{}", target.to_ascii_lowercase(), id.get(..12).unwrap_or(id))
}

/// The images of this host.
pub(super) fn images() -> Vec<String> {
    words(&["docker", "image", "ls", "--no-trunc", "--format", "{{.ID}} {{.Repository}}:{{.Tag}} {{.CreatedAt}}"])
}

pub(super) fn compose(file: &Path, rest: &[&str]) -> Vec<String> {
    let mut argv = words(&["docker", "compose", "--file", &file.display().to_string()]);
    argv.extend(words(rest));
    argv
}
